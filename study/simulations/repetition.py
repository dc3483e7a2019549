"""Repeated studies: how often the gate of `study.replicate` closes on sound ones, and on those that protocol 1 made."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from study.simulations.procedure import Known, known
from study.simulations.rates import Rate
from study.simulations.verdicts import METHODS, SETTLED, SPREADS, level
from study.stats.replication import LEVEL, relabelling_test

SIZE, CELLS = 10, 5  # replicates and cells of a study
VALID = 3  # studies of a valid set
PERMUTATIONS = 499
BASELINE = "SGD best"
Gains = NDArray[np.float64]


def relabelled(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Relabel sets of studies: valid ones, and such whose intervals lack the variance of tuning."""
    cell = known(level(SETTLED, METHODS, kinship=0.5), rng)
    for sets, off, name in ((2 * studies, 0.0, ""), (studies, 0.5, ", off in half of the replicates")):
        differ = sum(_differs(gains, rng) for gains in _valid(cell, sets, off, rng))
        yield Rate("replication", f"{VALID} valid studies{name}: p < {LEVEL}", differ, sets, "≤", LEVEL)
    for name, spread in SPREADS.items():
        cell, sets = known(level(spread, METHODS, kinship=0.5), rng), max(1, studies // 10)
        for count in (VALID, 5):
            differ = sum(_differs(gains, rng) for gains in _of_one_tuning(cell, sets, count, rng))
            yield Rate("replication", f"{count} studies of one tuning each, {name}: p < {LEVEL}", differ, sets, "")


def _differs(gains: Gains, rng: np.random.Generator) -> bool:
    labels = np.arange(gains.shape[1]) // SIZE
    return relabelling_test(gains.tolist(), labels.tolist(), PERMUTATIONS, rng).differs


def _valid(cell: Known, sets: int, off: float, rng: np.random.Generator) -> Iterable[Gains]:
    """Yield the gains of each set, comparison × replicate; every cell of a replicate has a tuning of its own."""
    scores = cell.draw(sets * CELLS * VALID * SIZE, 0.0, rng).scores
    live = rng.random(len(scores[BASELINE])) >= off
    gains = np.array([(scores[method] - scores[BASELINE]).mean(axis=1) * live for method in METHODS])
    return _by_set(gains, sets)


def _of_one_tuning(cell: Known, sets: int, count: int, rng: np.random.Generator) -> Iterable[Gains]:
    """Yield the same of studies that tune once, where a unit is a seed."""
    scores = cell.draw(sets * CELLS * count, 0.0, rng, confirms=SIZE).scores
    return _by_set(np.array([(scores[method] - scores[BASELINE]).ravel() for method in METHODS]), sets)


def _by_set(gains: Gains, sets: int) -> Iterable[Gains]:
    by_cell = gains.reshape(len(METHODS), sets, CELLS, -1)
    return by_cell.transpose(1, 2, 0, 3).reshape(sets, CELLS * len(METHODS), -1)
