"""What a run takes of other code beside its task, packages, optimizers and schedules by name, and in which versions."""

import math
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from study.data.pool import TaskError
from study.records import Job
from study.specs.factors import factor_of
from study.specs.methods import family_of, schedule_name
from study.specs.own_names import is_own_name
from study.specs.schedules import Schedule, schedule_of
from study.tasks.own import imported
from study.tasks.source import folder_of, source_of

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_OURS = ("study", "wasam_core")
_PACKAGES = ("torch", "numpy", "ray", "optuna", "wasam-study")  # that all numbers depend on
_LOOKED_AT = tuple(step / 100 for step in range(101))


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers of every run depend on, by name."""
    return {name: version(name) for name in _PACKAGES}


def brought_by(job: Job) -> tuple[str, ...]:
    """Return the names of the optimizers and the schedule of a job that are not built in."""
    what = family_of(job)
    return tuple(filter(is_own_name, dict.fromkeys((what.base, what.around, schedule_name(job)))))


def own_schedule(name: str) -> Schedule:
    """Import a schedule of the user's: from the share of steps done, in [0, 1), to the factor on the learning rate.

    Raises:
        TaskError: it is not there, or returns something else than a finite number that is not below 0.
    """
    given = f"schedule = {name!r}"
    schedule: Schedule = imported(name, given)
    values = [_value_at(schedule, share, given) for share in _LOOKED_AT]
    if not any(values):
        raise TaskError(f"{given} was given, and is 0 from the first step to the last; nothing would be trained")
    return schedule


def schedule_for(job: Job) -> Schedule:
    """Return the learning-rate schedule that a job follows, behind its warm-up."""
    name = schedule_name(job)
    return schedule_of(own_schedule(name) if is_own_name(name) else name, float(factor_of(job.factors, "warmup")))


def _value_at(schedule: Schedule, share: float, given: str) -> float:
    try:
        value = schedule(share)
    except Exception as error:  # whatever the user's code raises
        raise TaskError(f"{given} was given, and failed at a share of {share:g}: {error}") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise TaskError(
            f"{given} was given, and returned {value!r} at a share of {share:g} of the steps; it must return the "
            "factor on the learning rate there, a finite number that is not below 0"
        )
    return float(value)


@cache
def source_or_version(name: str) -> tuple[str, dict[str, str]]:
    """Return the hashed files of something that is imported by name, or the package that it is of with its version."""
    module = name.partition(":")[0]
    top = module.partition(".")[0]
    if top in _OURS:
        return "", {}  # of the version that stands in every record
    if (folder_of(top) or "").startswith(_INSTALLED):
        for package in packages_distributions().get(top, ()):
            try:
                return "", {package: version(package)}
            except PackageNotFoundError:
                continue
    return source_of(name), {}


def sources_of(names: Iterable[str]) -> dict[str, str]:
    """Return the hashed files by name, of what is not an installed package."""
    return {name: source for name in names if (source := source_or_version(name)[0])}


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed packages that something is imported from, by package."""
    return {package: found for name in names for package, found in source_or_version(name)[1].items()}
