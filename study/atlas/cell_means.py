"""The atlas cell by cell: mean gains, at which level each factor stands, and what the baseline's runs are like.

What was measured on the baseline is taken from every second replicate, and the gain that it is held against from the
others: a baseline that happened to be poor in a replicate shows a large gain there.
"""

import pandas as pd

from study.atlas.features import features_of
from study.atlas.frames import OVER, over_strongest
from study.specs.factors import FACTORS

METHODS = ("SWA", "EMA", "SAM", "WASAM")
OF_A_CELL = ("part", "task", "domain", "base", "cell")
VARIED = (*(name for name in FACTORS if name != "weight_decay"), "base")  # decay is the base optimizer's own
_FIRST = ("cosine", "batch", "SGD")  # levels that are words: what comes first, as in the specs


def rows_of(gains: pd.DataFrame, method: str, budget: str) -> pd.DataFrame:
    """Return the rows of a method under a budget, but for those of parts whose weight decay was searched."""
    return gains[(gains["method"] == method) & (gains["budget"] == budget) & ~gains["searched_decay"].astype(bool)]


def cell_means(gains: pd.DataFrame, method: str, budget: str = "G") -> pd.DataFrame:
    """Return what a method gained in each cell, in the order of the frame; cells of searched decay are left out.

    Columns beside part, task, domain, base and cell:
        gain, crossed, over_…: Means over the replicates, of the columns of `study.atlas.frames.load_gains`.
        crossed_even: As ``crossed``, with the even replicates alone.
        level FACTOR: 0 or 1, the lower or the upper of its two values within the part, the base optimizer's within the
            task; NaN where it has not two.
        Those of `FEATURES`: Over the odd replicates; NaN where unknown.
    """
    rows = rows_of(gains, method, budget)
    even = rows["replicate"].astype(int) % 2 == 0
    settings = rows.drop_duplicates(["part", "cell"]).set_index([*OF_A_CELL], drop=False).rename_axis(OF_A_CELL)
    levels = _levels(settings.reindex(columns=[*VARIED]), settings)
    means = rows.groupby([*OF_A_CELL], sort=False)[["gain", "crossed", *OVER]].mean()
    halves = over_strongest(rows[even]).groupby([*OF_A_CELL], sort=False)["crossed"].mean()
    found = means.assign(crossed_even=halves).join(levels).join(features_of(rows[~even], OF_A_CELL))
    return found.reset_index()


def _levels(values: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """Return the place of each value among two; NaN where there are not two.

    A factor is read where it was planned: within a part, whose design keeps it apart from the other factors. The base
    optimizer alone is one for a part, and parts were planned for it.
    """
    numbers = values.map(lambda value: float(value not in _FIRST) if isinstance(value, str) else value).astype(float)
    levels = [
        (own.rank("dense") - 1).where(own.transform("nunique") == 2)
        for name, column in numbers.items()
        for own in [column.groupby(settings["task" if name == "base" else "part"].to_numpy(), sort=False)]
    ]
    return pd.concat(levels, axis=1).add_prefix("level ")
