"""What is written anew when a part was added: the data card's tables, and the three sentences of the front page."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from study.atlas.columns import GAINS, TRIALS
from study.atlas.frames import PARTS, facts_of_parts
from study.atlas.markdown import Answer, Row, table
from study.atlas.part import Facts
from study.atlas.summary import answers, sentences, validation
from study.files import write_atomically
from study.specs.spec import StudySpec

CARD = Path(__file__).parent / "README.md"
FRONT = Path(__file__).parents[2] / "README.md"  # of the repository; an installed package has none


def write_card() -> None:
    """Write the tables and the answers of the data card anew, and what the front page says of the atlas."""
    fill_in(CARD, tables(PARTS))
    if FRONT.is_file():
        fill_in(FRONT, {"atlas": front(PARTS)})


def fill_in(path: Path, blocks: Mapping[str, str]) -> None:
    """Write blocks of a text anew, between the lines that name them."""
    text = path.read_text(encoding="utf-8")
    for name, content in blocks.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        text = f"{before}{begin}{content}{end}{after}"
    write_atomically(path, text)


def front(folder: Path) -> str:
    """Return what the atlas says in three sentences, in Markdown."""
    return "".join(f"- {sentence}\n" for sentence in sentences(folder).values()) or "There is no part yet.\n"


def all_answers(folder: Path) -> str:
    """Return all that the atlas says, in Markdown."""
    return "\n".join(f"### {one.title}\n{table(one.rows)}" for one in answers(folder)) or "There is no part yet.\n"


def validation_table(folder: Path) -> str:
    """Return how good the advice is for tasks that are left out, in Markdown; a sentence where tasks are too few."""
    found = validation(folder)
    return table(found.rows) if found.rows else f"{found.title}\n"


def tables(folder: Path) -> dict[str, str]:
    """Return the blocks of a data card, in Markdown, by name."""
    facts = facts_of_parts(folder)
    origins = dict.fromkeys(pair for one in facts for pair in one.origins.items())
    return {
        "answers": all_answers(folder),
        "advice": validation_table(folder),
        "parts": table(costs(facts).rows),
        "data": table({"task": task, "origin": origin} for task, origin in origins),
        "columns of gains": table({"column": name, "meaning": meaning} for name, meaning in GAINS.items()),
        "columns of trials": table({"column": name, "meaning": meaning} for name, meaning in TRIALS.items()),
    }


def costs(facts: Iterable[Facts]) -> Answer:
    """Return what each part is made of and what it cost."""
    return Answer("parts", "What is each part made of, and what did it cost?", tuple(map(_part, facts)))


def _part(facts: Facts) -> Row:
    return {
        "part": facts.name,
        "domain": ", ".join(dict.fromkeys(facts.domains.values())),
        "base": facts.base,
        "varied": ", ".join(varied(facts.asked)),
        "cells": len(facts.cells),
        "replicates": facts.asked.replicates,
        "runs": facts.runs,
        "gradient evaluations": facts.gradient_evaluations,
        "spec": facts.spec_hash[:12],
        "measured by": ", ".join(
            [*facts.devices, *(f"{name} {facts.versions.get(name, '?')}" for name in ("torch", "ray"))]
        ),
    }


def varied(spec: StudySpec) -> tuple[str, ...]:
    """Return the factors that cells of a study differ in."""
    return tuple(
        dict.fromkeys(
            name for one in spec.problems for name, levels in one.factors.items() if isinstance(levels, list | tuple)
        )
    )
