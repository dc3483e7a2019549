"""The atlas as frames: its parts put together."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from study.atlas.part import Facts, Part, part_files, read_facts, read_part
from study.specs.spec import parse_spec
from study.specs.tasks import factor_column

PARTS = Path(__file__).parent / "parts"  # those that are shipped
OVER = ("over_last", "over_best", "over_last_longer", "over_best_longer")  # gains, by baseline
_OF_PARTS = ("part", "task", "domain", "base", "metric", "searched_decay")


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

    Beside the columns of `study.atlas.part.GAINS`: ``part``, ``task``, ``domain``, ``base`` (the base optimizer),
    ``metric``, ``searched_decay`` (whether the weight decay was searched); every factor of the cell; ``baseline``,
    which of the columns ``over_…`` is the gain over the strongest baseline of its cell, method and budget (that with
    the smallest mean), and ``gain``, its value. Rows that lack the gain over a baseline of their budget are left out.

    Raises:
        PartError: a file is no part.
    """
    return _together(_with_strongest(_labelled(part, part.gains)) for part in parts(folder))


def load_trials(folder: Path = PARTS) -> pd.DataFrame:
    """Return the trials of all parts, labelled as the gains; errors as of `load_gains`."""
    return _together(_labelled(part, part.trials) for part in parts(folder))


def _together(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    found = list(frames)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*_OF_PARTS])


def _labelled(part: Part, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of a part with what it, its tasks and its cells are.

    A factor is fixed by the cell, unless it was searched: then the row has a value of its own.
    """
    facts = part.facts
    tasks = frame["cell"].map(facts.tasks)
    labels = pd.DataFrame(
        {
            "part": facts.name,
            "task": tasks,
            "domain": tasks.map(facts.domains),
            "base": facts.base,
            "metric": tasks.map(facts.metrics),
            "searched_decay": parse_spec(facts.spec, facts.name, frozen=True).search.weight_decay is not None,
        },
        index=frame.index,
    )
    names = dict.fromkeys(name for factors in facts.cells.values() for name in factors)
    factors = pd.DataFrame(
        {
            factor_column(name): frame["cell"].map({cell: held.get(name) for cell, held in facts.cells.items()})
            for name in names
            if factor_column(name) not in frame
        },
        index=frame.index,
    )
    return pd.concat([labels, factors, frame], axis=1)


def _with_strongest(gains: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are complete, with the gain over the strongest baseline of their cell, method and budget."""
    longer = gains["budget"] == "G"
    complete = gains[[*OVER[:2]]].notna().all(axis=1) & (gains[[*OVER[2:]]].notna().all(axis=1) | ~longer)
    kept = gains[complete].copy()
    means = kept.groupby(["cell", "method", "budget"], sort=False)[[*OVER]].transform("mean")
    kept["baseline"] = means.idxmin(axis=1)
    kept["gain"] = [row[name] for name, row in zip(kept["baseline"], kept[[*OVER]].to_dict("records"), strict=True)]
    return kept
