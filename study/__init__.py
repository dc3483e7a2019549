"""Studies of flat-minima optimizers: what is run, what was measured, and what it means.

In a notebook::

    from study import load

    s = load("results/quick")
    s                   # its verdicts
    s.frame             # one row a run, set of weights and epoch, as a pandas frame
    s.findings          # every estimate, interval and verdict
    s.figures           # names of its figures
    s.figure("forest")  # one of them, a plotly figure

    load("atlas")       # gains of many studies, replicate by replicate: see study/atlas/README.md
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    import pandas as pd

    from study.store.results import Study

__all__ = ["load"]


@overload
def load(folder: Literal["atlas"]) -> "pd.DataFrame": ...  # type: ignore[overload-overlap]  # one name is no folder


@overload
def load(folder: "Path | str") -> "Study": ...


def load(folder: "Path | str") -> "Study | pd.DataFrame":
    """Read a results folder from its records alone; see `study.store.results.load`.

    Args:
        folder: A results folder; or ``atlas`` for the gains of the shipped atlas, a pandas frame: see
            `study.atlas.frames.load_gains`. (A results folder of that name is ``./atlas``.)

    Raises:
        ResultsError: no such folder, no spec in it, or a spec that was changed after the start.
        RecordError: a record that can't be read.
    """
    if folder == "atlas":
        from study.atlas.frames import load_gains  # noqa: PLC0415  # as below

        return load_gains()
    from study.store.results import load  # noqa: PLC0415  # `import study` is instant, pandas is not

    return load(folder)
