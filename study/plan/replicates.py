"""Replicates: honest repetitions of the whole procedure, each with seeds of its own for everything.

They derive from the study's ``seed``, the replicate's number and the purpose alone, so replicates can be run anywhere,
in any order and any number. A replicate's test part is drawn from a stream of its own and never from a run's seed: what
a confirm run is tested on was neither trained on nor validated with in that replicate's tuning.

Source: Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks": vary every source at once.
"""

from dataclasses import dataclass

from study.specs.spec import StudySpec
from study.streams import derived_seed

_TUNE, _CONFIRM = 0, 1  # last bits of the seeds: the two stages share none


@dataclass(frozen=True, slots=True)
class Replicate:
    """One repetition: its number, from 1, and the roots of its random streams.

    Attributes:
        number: From 1.
        proposals: Of the design, or of the sampler.
        test: Of the draw of the test part.
        tune: Of every run of the tune stage, so that proposals are compared in pairs.
        confirm: Of the runs of the confirm stage, one each.
    """

    number: int
    proposals: int
    test: int
    tune: int
    confirm: tuple[int, ...]


def replicate_of(spec: StudySpec, number: int) -> Replicate:
    """Return one replicate of a study; any number from 1, whether planned or not."""
    name = f"replicate {number}"
    return Replicate(
        number=number,
        proposals=derived_seed(spec.seed, f"{name} proposals"),
        test=derived_seed(spec.seed, f"{name} test part"),
        tune=derived_seed(spec.seed, f"{name} tune", _TUNE),
        confirm=tuple(derived_seed(spec.seed, f"{name} confirm {index}", _CONFIRM) for index in range(spec.confirms)),
    )


def replicates_of(spec: StudySpec) -> tuple[Replicate, ...]:
    """Return the replicates that a study plans, in order."""
    return tuple(replicate_of(spec, number) for number in range(1, spec.replicates + 1))
