"""Replication: studies of one question that differ in their seeds alone, side by side.

Replicates are exchangeable between such studies: which of them belongs to which study is a label without a meaning. So
relabelling them shows how far apart studies come by chance. Replicate r of a study is paired over its comparisons and
cells, so all of them are relabelled together.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from study.stats.effects import Verdict

LEVEL: Final = 0.01  # of the permutation test
EXACT = 1e-9  # two statistics that differ by less, relative to their size, are equal


@dataclass(frozen=True, slots=True)
class Relabelling:
    """What the permutation test came to.

    Attributes:
        statistic: Mean over the rows of the between-study over the within-study variance of gains; about 1 where
            studies differ by chance alone. NaN without a row.
        p: Share of the relabellings, the observed one counted in, that reach it; NaN without a row.
        rows: Rows that took part; equal: rows left out because all of their gains are equal.
    """

    statistic: float
    p: float
    rows: int
    equal: int

    @property
    def differs(self) -> bool:
        """Tell whether studies differ by more than replicates do."""
        return self.p < LEVEL


def relabelling_test(
    gains: Sequence[Sequence[float]], studies: Sequence[int], permutations: int, rng: np.random.Generator
) -> Relabelling:
    """Test whether studies differ by more than their replicates do.

    Args:
        gains: One row a comparison, one column a replicate of a study; NaN where a replicate is incomplete.
        studies: The study of every column.
        permutations: Random relabellings of the columns, all rows together.
        rng: Where they come from.

    Source: the sampled p: Phipson & Smyth 2010, "Permutation p-values should never be zero"; jointly over rows:
        Pesarin & Salmaso 2010.
    """
    table = np.asarray(gains, dtype=np.float64).reshape(len(gains), len(studies))
    varied = [bool(np.ptp(row[~np.isnan(row)]) > 0) if not np.isnan(row).all() else False for row in table]
    table = table[varied]
    rows, equal = len(table), len(varied) - len(table)
    if not rows:
        return Relabelling(math.nan, math.nan, 0, equal)
    labels = np.asarray(studies)
    shuffled = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    found = _statistics(table, np.vstack([labels, shuffled]))
    reached = found[1:] >= found[0] * (1 - EXACT)
    return Relabelling(float(found[0]), float((1 + reached.sum()) / (1 + permutations)), rows, equal)


def _statistics(table: NDArray[np.float64], labels: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the statistic of every labelling, one a line of ``labels``.

    Rows are centred and scaled first, which changes no ratio and keeps sums of squares from cancelling.
    """
    known = ~np.isnan(table)
    sizes = np.max(np.abs(table), axis=1, keepdims=True, where=known, initial=0.0)
    table = np.ldexp(table, -np.frexp(np.where(sizes > 0, sizes, 1.0))[1])
    counts = known.sum(axis=1)
    centred = np.where(known, table, 0.0)
    centred = np.where(known, centred - (centred.sum(axis=1) / counts)[:, None], 0.0)
    centred /= np.sqrt((centred**2).sum(axis=1))[:, None]
    between = np.zeros((len(labels), len(table)))
    groups = np.zeros_like(between)
    for study in np.unique(labels):
        own = (labels == study).astype(np.float64)
        members = own @ known.T.astype(np.float64)
        sums = own @ centred.T
        between += np.divide(sums**2, members, out=np.zeros_like(sums), where=members > 0)
        groups += members > 0
    freedom = counts[None, :] - groups
    ratio = np.divide(
        between * freedom, np.maximum(1 - between, EXACT) * (groups - 1), out=np.ones_like(between),
        where=(groups > 1) & (freedom > 0),
    )  # fmt: skip
    return np.asarray(ratio.mean(axis=1), dtype=np.float64)


def agreement(rows: Sequence[Sequence[Verdict]]) -> tuple[int, int]:
    """Count the pairs of studies that say the same, and all pairs, over the rows; a row has one verdict a study."""
    pairs = [pair for row in rows for pair in itertools.combinations(row, 2)]
    return sum(one == other for one, other in pairs), len(pairs)


def flipped(row: Sequence[Verdict]) -> bool:
    """Tell whether one study says that the method helps and another that it hurts."""
    return {"helps", "hurts"} <= {*row}
