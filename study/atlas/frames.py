"""The atlas as frames: its parts put together."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from study.atlas.columns import GAINS, TRIALS
from study.atlas.part import Facts, Part, part_files, read_facts, read_part
from study.specs.factors import FACTORS
from study.specs.tasks import factor_column

PARTS = Path(__file__).parent / "parts"  # those that are shipped
OVER = ("over_last", "over_best", "over_last_longer", "over_best_longer")  # gains, by baseline
LABELS = ("part", "seed", "task", "domain", "base", "metric", "searched_decay")
OF_A_COMPARISON = ("part", "cell", "method", "budget")


def parts(folder: Path = PARTS) -> Iterator[Part]:
    """Yield the parts in a folder, by name.

    Raises:
        PartError: a file is no part.
    """
    yield from map(read_part, part_files(folder))


def facts_of_parts(folder: Path = PARTS) -> list[Facts]:
    """Return the facts of the parts in a folder, by name; errors as of `parts`."""
    return [read_facts(path) for path in part_files(folder)]


def load_gains(folder: Path = PARTS) -> pd.DataFrame:
    """Return the gains of all parts: a row for each part, cell, replicate, method and budget.

    Beside the columns of `study.atlas.columns.GAINS`: ``part``, ``seed``, ``task``, ``domain``, ``base`` (the base
    optimizer), ``metric``, ``searched_decay`` (whether the weight decay was searched), every factor of the cell, and
    what `over_strongest` adds. Parts under further seeds are not among them: see `study.atlas.replication`.

    Raises:
        PartError: a file is no part.
    """
    labelled = (_labelled(part, part.gains) for part in parts(folder))
    return over_strongest(_together(labelled, (*LABELS, *FACTORS, *GAINS)))


def load_trials(folder: Path = PARTS) -> pd.DataFrame:
    """Return the trials of all parts, labelled as the gains; errors as of `load_gains`."""
    return _together((_labelled(part, part.trials) for part in parts(folder)), (*LABELS, *TRIALS))


def over_strongest(gains: pd.DataFrame) -> pd.DataFrame:
    """Return gains with those over the strongest baseline of their part, cell, method and budget.

    Three columns: ``baseline``, which of the columns ``over_…`` has the smallest mean; ``gain``, its value: what
    verdicts are about. Chance makes one of several baselines strong, so it is too low rather than too high. And
    ``crossed``, the gain over the baseline that all other replicates call the strongest, which chance does not lower;
    it is too high, if anything, where that is not the strongest one.
    """
    over = gains[[*OVER]]
    if over.empty:
        return gains.assign(baseline="", gain=math.nan, crossed=math.nan)
    strongest = over.groupby([gains[name] for name in OF_A_COMPARISON], sort=False).transform("mean").idxmin(axis=1)
    return gains.assign(baseline=strongest, gain=values_at(over, strongest), crossed=least_elsewhere(over, gains))


def least_elsewhere(values: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str] = OF_A_COMPARISON) -> np.ndarray:
    """Return of each row the value in the column whose mean over the other rows of its group is the smallest."""
    groups = values.groupby([rows[name] for name in by], sort=False)
    others = (groups.transform("sum") - values) / (groups.transform("count") - 1)
    return values_at(values, others.idxmin(axis=1))


def values_at(values: pd.DataFrame, columns: pd.Series) -> np.ndarray:
    """Return of each row the value in the column that is named for it."""
    found: np.ndarray = values.to_numpy()[np.arange(len(values)), values.columns.get_indexer(pd.Index(columns))]
    return found


def _together(frames: Iterable[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    found = [*frames]
    return (
        pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*dict.fromkeys(columns)], dtype=float)
    )


def _labelled(part: Part, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of a part with what it, its tasks and its cells are.

    A factor is fixed by the cell, unless it was searched: then the row has a value of its own.
    """
    facts = part.facts
    tasks = frame["cell"].map(facts.tasks)
    names = dict.fromkeys(name for factors in facts.cells.values() for name in factors)
    labels = {
        "part": facts.name,
        "seed": facts.asked.seed,
        "task": tasks,
        "domain": tasks.map(facts.domains),
        "base": facts.base,
        "metric": tasks.map(facts.metrics),
        "searched_decay": facts.asked.search.weight_decay is not None,
        **{
            factor_column(name): frame["cell"].map({cell: held.get(name) for cell, held in facts.cells.items()})
            for name in names
            if factor_column(name) not in frame
        },
    }
    return pd.concat([pd.DataFrame(labels, index=frame.index), frame], axis=1)
