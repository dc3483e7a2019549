"""What hypotheses are evaluated on, and what evaluating one gives before the rules decide."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.findings.evidence import Evidence
from study.records import LineRecord
from study.specs.spec import Hypothesis
from study.stats import Effect, Estimate

BySeed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Material:
    """What hypotheses are evaluated on; effects by (cell, method, budget), within-run ones by (cell, method)."""

    evidence: Evidence
    tuned: Mapping[tuple[str, str, str], Effect]
    averaging: Mapping[tuple[str, str], Effect]
    lines: Sequence[LineRecord]


@dataclass(frozen=True, slots=True)
class Combination:
    """Which cells enter with which weights; ``span`` is what a unit of the estimate is multiplied by to get a gain."""

    weights: Mapping[str, float]
    span: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kind measured: the estimate, over which unit and cells, and sentences on it.

    ``missing`` says what keeps it from deciding anything, "" if nothing does.
    """

    found: Estimate
    unit: Literal["seeds", "cells"]
    cells: tuple[str, ...]
    span: float
    missing: str
    note: str = ""


Quantity = Callable[[Hypothesis, Material, str], BySeed]
"""What a kind measures: one number per seed, in the cell that is named."""
Combine = Callable[[Hypothesis, Material], Combination]
"""How a kind puts its cells together."""
