"""Simulated studies with a known truth: is the pipeline right as often as it says?

Nothing is trained. Scores are drawn with a truth that is known, pass through the functions that judge real studies, and
how often the verdict is wrong is counted. `procedure` draws what replicates measure, `verdicts` counts what families of
comparisons come to, `records` walks whole studies from the plan to the findings, `across` looks across problems,
`repetition` puts repeated studies side by side, `apart` judges runs that share no seed.
"""

from collections.abc import Callable, Iterable

import numpy as np

from study.simulations import across, apart, records, repetition, verdicts
from study.simulations.rates import Rate

__all__ = ["Rate", "calibrate"]


def calibrate(studies: int, seed: int) -> list[Rate]:
    """Simulate and count.

    Args:
        studies: Simulated studies a row; the slower rows take a tenth.
        seed: Root of all random numbers; equal seeds give equal tables.
    """
    sections: list[Callable[[int, np.random.Generator], Iterable[Rate]]] = [
        verdicts.false_verdicts,
        records.null_studies,
        verdicts.found_and_covered,
        across.predictions,
        verdicts.protocols,
        repetition.relabelled,
        across.null_factors,
        across.outcomes,
        apart.unpaired,
    ]
    streams = np.random.default_rng(seed).spawn(len(sections))
    return [rate for section, rng in zip(sections, streams, strict=True) for rate in section(studies, rng)]
