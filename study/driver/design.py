"""What a design can and can't show, said before the first run."""

import math
from collections.abc import Iterable
from pathlib import Path

from study.plan.cells import cells
from study.specs.spec import StudySpec
from study.specs.tasks import entry_of

TYPICAL_SD = 0.006  # of a replicate's gain in accuracy, as measured on digits and MNIST-1D
_TYPICAL_SCORE = 0.9  # at which the sampling error of an accuracy is told
_LARGE_DELTA = 0.05  # of an accuracy
_ACCURACIES = ("accuracy", "token accuracy", "node accuracy")


def detectable(spec: StudySpec, folder: Path, sd: float | None) -> str:
    """Say which gain the planned replicates detect with a power of .8, at the level that Holm's first step asks for.

    Args:
        spec: The study.
        folder: Its results folder, whose findings say how much gains vary, if it has any.
        sd: Standard deviation of a replicate's gain; None: as measured there, or else, of accuracies, a typical one.
    """
    from study.stats.estimates import minimum_detectable_effect  # noqa: PLC0415  # SciPy takes a second to import

    source = "as stated"
    if sd is None:
        sd, source = _measured_sd(folder), f"as measured in {folder}"
    units = spec.confirms if spec.one_tuning else spec.replicates
    called = "seeds of one tuning" if spec.one_tuning else "replicates"
    if sd is None:
        if any(entry_of(problem.task).metric not in _ACCURACIES for problem in spec.problems):
            return (
                f"which gain {units} {called} detect is not known before anything is measured: state the deviation of "
                "a replicate's gain with --sd, in the unit of the score"
            )
        sd, source = TYPICAL_SD, "typical of small accuracies; state yours with --sd"
    gain = minimum_detectable_effect(sd, units, spec.alpha / len(cells(spec)))
    found = "no gain" if math.isnan(gain) else f"a gain of {gain:.4g}"
    where = f"in {len(cells(spec))} cells, at a deviation of {sd:.4g} ({source})"
    return f"{units} {called} detect {found} with power .8, {where}"


def _measured_sd(folder: Path) -> float | None:
    """Return the median deviation of the gains under the primary budget in a folder's findings; None without any.

    Of several scores it is that of those which are put together.
    """
    from study.findings.content import FindingsError, read_findings  # noqa: PLC0415  # likewise

    try:
        findings = read_findings(folder / "findings.json")
    except FindingsError:
        return None
    pooled = findings.pooled or {effect.task for effect in findings.effects}
    effects = (e for e in findings.effects if e.budget == findings.primary_budget and e.task in pooled)
    known = sorted(effect.sd for effect in effects if effect.sd > 0)
    return known[len(known) // 2] if known else None


def _too_small(spec: StudySpec, task: str, delta: float) -> Iterable[str]:
    """Yield a sentence if a task's test part is too small for δ.

    A part of n examples tells no less than 1/n apart, and an accuracy p on it has a sampling error of √(p(1 − p)/n),
    which parts that are drawn anew share out among the replicates.
    """
    entry = entry_of(task)
    parts = spec.replicates if entry.test in ("drawn", "split") else 1
    step = 1 / entry.test_size if entry.test_size else 0.0
    error = math.sqrt(_TYPICAL_SCORE * (1 - _TYPICAL_SCORE) * step / parts)
    if max(step, error) > delta:
        whose = f"over the {parts} of them that the replicates draw" if parts > 1 else "of which no interval knows"
        yield (
            f"the test part of {task} has {entry.test_size:,} examples, too few for δ = {delta:g}: it tells no less "
            f"than {step:.2g} apart, and its sampling error is about {error:.2g} at a score of {_TYPICAL_SCORE:g}, "
            f"{whose}."
        )


def warnings_of(spec: StudySpec) -> Iterable[str]:
    """Yield a sentence for whatever in a spec is allowed and seldom meant."""
    for task in dict.fromkeys(problem.task for problem in spec.problems):
        delta = spec.delta_of(task)
        metric = entry_of(task).metric
        if metric in _ACCURACIES and delta > _LARGE_DELTA:
            yield f"δ = {delta:g} was given for {task}, whose {metric} is a fraction: that is {100 * delta:g} points."
        if metric in _ACCURACIES:
            yield from _too_small(spec, task, delta)
    if spec.search.sampler == "tpe" and spec.search.startup_trials < 10:
        yield f"TPE draws its first {spec.search.startup_trials} trials at random, a third of {spec.search.trials}."
