"""The verdicts of the atlas's cells, as each part's own study gives them, made anew from its gains."""

from collections.abc import Mapping

import pandas as pd

from study.atlas.frames import OVER
from study.specs.budgets import Budget
from study.stats import Arm, Contrast, Effect, Verdict, compare, judge

DELTA = 0.005
ALPHA = 0.05


def verdicts(rows: pd.DataFrame, budget: Budget) -> dict[tuple[str, str], Verdict]:
    """Return the verdict of each part and cell, for rows of one method under that budget; a part is a family."""
    found: dict[tuple[str, str], Verdict] = {}
    for part, of_part in rows.groupby("part", sort=False):
        family = [_effect(str(cell), some, budget) for cell, some in of_part.groupby("cell", sort=False)]
        found |= {(str(part), effect.cell): effect.verdict for effect in judge(family, DELTA, ALPHA)}
    return found


def _effect(cell: str, rows: pd.DataFrame, budget: Budget) -> Effect:
    method, task = str(rows["method"].iloc[0]), str(rows["task"].iloc[0])
    baselines = [_arm(name, rows["score"] - rows[name], rows) for name in OVER if rows[name].notna().any()]
    contrast = Contrast(cell, task, (), "tuned", method, budget, "test_score")
    ours = _arm(method, rows["score"], rows)
    return compare(contrast, ours, baselines, planned=len(rows), alpha=ALPHA, off=int(rows["off"].sum()))


def _arm(name: str, scores: pd.Series, rows: pd.DataFrame) -> Arm:
    by_replicate: Mapping[int, Mapping[int, float]] = {
        int(number): {0: float(score)} for number, score in zip(rows["replicate"], scores, strict=True)
    }
    return Arm(name, by_replicate)
