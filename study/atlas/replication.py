"""Parts of the atlas that were run again under another seed: do they say the same?

As `study.replicate` does for results folders, with the gains that the parts hold.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from study.atlas.cell_means import METHODS
from study.atlas.frames import OF_A_COMPARISON, PARTS, load_gains, over_strongest
from study.atlas.markdown import P, Row, estimated
from study.atlas.verdicts import verdicts
from study.stats.estimates import estimate, estimate_apart
from study.stats.replication import Relabelling, agreement, flipped, relabelling_test

PERMUTATIONS = 9_999


def replicated(folder: Path = PARTS) -> Iterator[Row]:
    """Yield a row for each method of every part that a folder holds under another seed, too; errors as of `load_gains`.

    It has the mean gain over the cells under both seeds at equal ceilings, with intervals over replicates, and how many
    verdicts of cells agree, and turn from helps to hurts; and the p of `relabelled`, which is the part's.
    """
    first = load_gains(folder)
    for other in sorted(folder.glob("seed-*")):
        again = load_gains(other)
        for part, second in again[again["part"].isin(first["part"])].groupby("part", sort=False):
            both = pd.concat([first[first["part"] == part], second], ignore_index=True)
            p = relabelled(both).p
            for method in METHODS:
                yield {"part": str(part), "method": method, **_side_by_side(both, method), "p of the part": P(p)}


def _side_by_side(both: pd.DataFrame, method: str) -> Row:
    rows = both[(both["method"] == method) & (both["budget"] == "G")]
    seeds = {str(seed): side for seed, side in rows.groupby("seed", sort=False)}
    first, second = (side.groupby("replicate")["gain"].mean().to_list() for side in seeds.values())
    ours, theirs = (verdicts(side, "G") for side in seeds.values())
    pairs = [(verdict, theirs[key]) for key, verdict in ours.items()]
    return {
        "seeds": " and ".join(seeds),
        "first": estimated(estimate(first)),
        "second": estimated(estimate(second)),
        "difference": estimated(estimate_apart(second, first)),
        "verdicts": len(pairs),
        "agree": agreement(pairs)[0],
        "flip": sum(map(flipped, pairs)),
    }


def relabelled(both: pd.DataFrame) -> Relabelling:
    """Test whether two seeds of a part differ by more than their replicates do, all of its comparisons together.

    Gains are over the baseline that is the strongest of both together: each one's own would be chosen with the labels
    in hand, which relabelling has to be free of.
    """
    rows = over_strongest(both)
    table = rows.pivot(index=[*OF_A_COMPARISON], columns=["seed", "replicate"], values="gain")
    labels = table.columns.get_level_values("seed").to_list()
    return relabelling_test(table.to_numpy().tolist(), labels, PERMUTATIONS, np.random.default_rng(0))
