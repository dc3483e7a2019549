"""A chart as the page shows it: a figure with everything around it that makes it readable."""

from dataclasses import dataclass
from typing import Literal

from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.tables.table import Table


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the legend, which the page draws outside the figure so that it wraps on a phone.

    ``look``: a filled or an ``open`` marker, a ``line`` with the method's dash, a ``dashed`` one, a dotted
    upright ``guide``, ``both`` marker and line, a ``tick`` (one seed), the ``band`` of practical equivalence, or a
    ``field`` in ``color``.
    """

    text: str
    method: str
    look: Literal["filled", "open", "line", "dashed", "guide", "both", "tick", "band", "field"] = "filled"
    color: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        id: Stable and unique in the page; deep links use it.
        heading: The finding, as a sentence.
        reading: One line on how to read it.
        caption: n and the interval type.
        keys: The legend.
        figure: In the light colours and the wide arrangement.
        narrow: Layout changes for narrow screens.
        table: The same data as a table, and as the CSV download.
    """

    id: str
    heading: str
    reading: str
    caption: str
    keys: tuple[Key, ...]
    figure: Figure
    narrow: Arrangement
    table: Table

    @property
    def heights(self) -> tuple[int, int]:
        """Pixels to reserve on a wide and on a narrow screen, so that nothing moves when the chart is drawn."""
        return int(self.figure.layout["height"]), int(str(self.narrow["height"]))
