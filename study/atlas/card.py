"""The data card's tables, made of the parts."""

from collections.abc import Sequence
from pathlib import Path

from study.atlas.frames import PARTS, facts_of_parts
from study.atlas.part import GAINS, TRIALS, Facts
from study.atlas.summary import answers, validation_table
from study.atlas.words import table
from study.files import write_atomically
from study.specs.factors import FACTORS

CARD = Path(__file__).parent / "README.md"


def write_card(path: Path = CARD, folder: Path = PARTS) -> None:
    """Write the tables and the answers of a data card anew, between the lines that name them."""
    text = path.read_text(encoding="utf-8")
    found = tables(facts_of_parts(folder)) | {"answers": answers(folder), "advice": validation_table(folder)}
    for name, content in found.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        text = f"{before}{begin}{content}{end}{after}"
    write_atomically(path, text)


def tables(facts: Sequence[Facts]) -> dict[str, str]:
    """Return the tables of a data card, in Markdown, by name."""
    return {
        "parts": table(
            ("part", "task", "domain", "base", "varied", "cells", "replicates", "runs", "gradient evaluations", "spec"),
            map(_part, facts),
        ),
        "data": table(("task", "origin"), dict.fromkeys(pair for one in facts for pair in one.origins.items())),
        "measured by": table(
            ("part", "device", "versions"),
            (
                (one.name, ", ".join(one.devices), ", ".join(f"{name} {of}" for name, of in one.versions.items()))
                for one in facts
            ),
        ),
        "columns of gains": table(("column", "meaning"), GAINS.items()),
        "columns of trials": table(("column", "meaning"), TRIALS.items()),
    }


def varied(facts: Facts) -> tuple[str, ...]:
    """Return the factors in which cells of one task differ, in the order of the table of factors."""
    values: dict[str, set[tuple[str, str]]] = {}
    for cell, factors in facts.cells.items():
        for name, value in factors.items():
            values.setdefault(name, set()).add((facts.tasks[cell], repr(value)))
    known = [*FACTORS, *(name for name in values if name not in FACTORS)]
    return tuple(name for name in known if len(values.get(name, ())) > len({task for task, _ in values.get(name, ())}))


def _part(facts: Facts) -> tuple[object, ...]:
    return (
        facts.name, ", ".join(facts.domains), ", ".join(dict.fromkeys(facts.domains.values())), facts.base,
        ", ".join(varied(facts)), len(facts.cells), facts.replicates, f"{facts.runs:,}",
        f"{facts.gradient_evaluations:,}", facts.spec_hash[:12],
    )  # fmt: skip
