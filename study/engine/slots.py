"""What each run gets of a cluster, and how many runs fit side by side. Needs no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass


class EngineError(ValueError):
    """The cluster can't be used as asked; the message says what was asked, what there is and what to do."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What each run gets and how many run side by side."""

    cpus: float
    gpus: float
    concurrent: int


def plan_slots(
    cluster: Mapping[str, float],
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    max_concurrent: int | None = None,
) -> Slots:
    """Decide what each run gets: one GPU where the cluster has any, one CPU otherwise, unless told.

    Args:
        cluster: The cluster's total resources, as ``ray.cluster_resources()`` gives them.
        cpus_per_trial, gpus_per_trial: What the user asks for; None leaves the choice here.
        max_concurrent: Upper bound of runs side by side; None for as many as fit.

    Raises:
        EngineError: the cluster can never hold one such run (Ray would wait for ever).

    Example:
        >>> plan_slots({"CPU": 16, "GPU": 4})
        Slots(cpus=1, gpus=1, concurrent=4)
        >>> plan_slots({"CPU": 2})
        Slots(cpus=1, gpus=0, concurrent=2)
    """
    have_cpus, have_gpus = cluster.get("CPU", 0), cluster.get("GPU", 0)
    gpus = gpus_per_trial if gpus_per_trial is not None else min(1, int(have_gpus))
    cpus = cpus_per_trial if cpus_per_trial is not None else 1
    for asked, have, unit, flag in (
        (gpus, have_gpus, "GPUs", "--gpus-per-trial"),
        (cpus, have_cpus, "CPUs", "--cpus-per-trial"),
    ):
        if asked > have:
            raise EngineError(
                f"{flag} {asked:g} was given; the cluster has {have:g} {unit}; "
                f"ask for at most that, or join a larger cluster with --address."
            )
    fits = min(int(have_cpus / cpus), int(have_gpus / gpus) if gpus else int(have_cpus / cpus))
    return Slots(cpus, gpus, min(fits, max_concurrent) if max_concurrent else fits)
