"""Studies of flat-minima optimizers: what is run, what was measured, and what it means.

In a notebook::

    from study import load

    s = load("results/quick")
    s                   # its verdicts
    s.frame             # one row a run, set of weights and epoch, as a pandas frame
    s.findings          # every estimate, interval and verdict
    s.figures           # names of its figures
    s.figure("forest")  # one of them, a plotly figure
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.store.results import Study

__all__ = ["load"]


def load(folder: "Path | str") -> "Study":
    """Read a results folder from its records alone; see `study.store.results.load`.

    Raises:
        ResultsError: no such folder, no spec in it, or a spec that was changed after the start.
        RecordError: a record that can't be read.
    """
    from study.store.results import load  # noqa: PLC0415  # `import study` is instant, pandas is not

    return load(folder)
