"""The index: every study of a folder on one page, searched, sorted, and held against one another."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from dashboards import page, prose, theme
from dashboards.studies import Line, comparable, line_of, study_folders
from dashboards.tables.table import Column, Entry, Table, numeric, prose_column
from study.files import write_atomically
from study.store.folder import ResultsError

_VERDICTS = ("helps", "hurts", "no material effect", "inconclusive", "insufficient data")

_SHORT = {"no material effect": "None", "inconclusive": "Open", "insufficient data": "Too few"}


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
        studies=study_table(lines),
        shared=list(shared["studies"]),  # type: ignore[call-overload]
        data=Markup(page.json_text(shared)),  # escaped for a script element
    )


def _heading(lines: Sequence[Line]) -> str:
    broken, finished = sum(bool(line.error) for line in lines), sum(line.finished for line in lines)
    parts = [(finished, "finished"), (len(lines) - broken - finished, "unfinished"), (broken, "unreadable")]
    told = [f"{number} {words}" for number, words in parts if number]
    if len(lines) == 1:
        return f"1 study, {told[0].removeprefix('1 ')}"
    return f"{len(lines)} studies, {'all ' + told[0].split()[1] if len(told) == 1 else prose.listed(told)}"


def study_table(lines: Sequence[Line]) -> Table:
    """Return one row a study."""
    seen = [verdict for verdict in _VERDICTS if any(verdict in dict(line.verdicts) for line in lines)]
    return Table(
        "studies",
        "Every study of this folder.",
        (
            Column("Study", "study"),
            prose_column("Answer", "answer"),
            Column("State", "state"),
            prose_column("Methods", "methods"),
            *(numeric(_SHORT.get(verdict, verdict.capitalize()), verdict.replace(" ", "_")) for verdict in seen),
            numeric("Runs", "runs"),
            numeric("Failed", "failed"),
            numeric("Gradients", "gradient_evaluations"),
        ),
        tuple(_row(line, seen) for line in lines),
    )


def _row(line: Line, verdicts: Sequence[str]) -> tuple[Entry, ...]:
    study = Entry(line.name, line.name, href=line.href, note=line.question)
    if line.error:
        nothing = [Entry("–", "")] * (len(verdicts) + 4)
        return study, Entry(line.error), Entry("unreadable", icon="cross"), *nothing
    counted = dict(line.verdicts)
    return (
        study,
        Entry(f"{line.claims}. {line.answer}" if line.claims else line.answer),
        Entry("finished", icon="check", note=line.mark) if line.finished else Entry("unfinished", icon="clock"),
        Entry(", ".join(line.methods)),
        *(_counted(counted.get(verdict, 0), line) for verdict in verdicts),
        Entry(f"{line.ended:,}" if line.finished else f"{line.ended:,} of {line.planned:,}", line.ended),
        Entry(f"{line.failed:,}", line.failed),
        Entry(theme.large(line.gradient_evaluations), line.gradient_evaluations),
    )


def _counted(number: int, line: Line) -> Entry:
    return Entry(str(number), number) if line.finished else Entry("–", "")
