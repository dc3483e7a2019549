"""A study in a notebook: its figures, and its verdicts as a table, when they are asked for.

Beside the last line of `study.run` this is the one place where `study` asks `dashboards` for something, and it does so
at the call: reading results loads no plotly.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from study.store.results import Study


def figures_of(study: "Study") -> "dict[str, Figure]":
    """Return the report's figures by name."""
    from dashboards.notebook import figures_of  # noqa: PLC0415  # plotly takes a second to import

    return figures_of(study)


def verdicts_html(study: "Study") -> str:
    """Return the study's question, answer and verdicts as HTML."""
    from dashboards.notebook import verdicts_html  # noqa: PLC0415

    return verdicts_html(study)
