"""The index: every study of a folder on one page, searched, sorted, and held against one another."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from dashboards import page, prose, theme
from dashboards.studies import Line, comparable, line_of, study_folders
from study.files import write_atomically
from study.store.folder import ResultsError


def write_index(root: Path, path: Path | None = None) -> Path:
    """Read every study below ``root``, write the index atomically and return its path; by default ``index.html`` there.

    Raises:
        ResultsError: no study below ``root``.
    """
    folders = study_folders(root)
    if not folders:
        raise ResultsError(
            f"{root} was given; neither it nor a folder in it holds a study; "
            "give a folder that `python -m study.run` has written, or one with such folders in it."
        )
    chosen, text = path or root / "index.html", build_index(root.resolve().name, [line_of(f, root) for f in folders])
    write_atomically(chosen, text, make_folder=path is not None)
    return chosen


def build_index(name: str, lines: Sequence[Line]) -> str:
    """Return the index's HTML. Equal arguments give equal bytes."""
    shared = comparable(lines)
    return page.render(
        "index.html",
        ("page.js", "index.js"),
        ("report.css", "index.css"),
        name=name,
        heading=_heading(lines),
        lines=lines,
        large=theme.large,
        shared=list(shared["studies"]),
        data=Markup(page.json_text(shared)),  # escaped for a script element
    )


def _heading(lines: Sequence[Line]) -> str:
    states = Counter("unreadable" if one.error else "finished" if one.finished else "unfinished" for one in lines)
    told = [f"{states[state]} {state}" for state in ("finished", "unfinished", "unreadable") if states[state]]
    return f"{len(lines)} {'study' if len(lines) == 1 else 'studies'}, {prose.listed(told)}"
