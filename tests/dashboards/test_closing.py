"""The end of a study on the terminal: verdicts in 80 columns, the answer as the page has it, none before its time."""

from dataclasses import replace

import pytest
from synthetic import synthetic_study

from dashboards import prose, theme
from dashboards.cells import cells_of
from dashboards.closing import _short, closing
from study.findings import find
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def made(make):
    return make(tasks=["digits"], trials=3)


def test_every_comparison_is_a_line_of_at_most_80_columns(made) -> None:
    told = closing(made.findings, made.frame)
    assert max(map(len, told.splitlines())) <= 80
    blocks = told.split("\n\n")
    assert [block.splitlines()[0] for block in blocks[:2]] == [
        "At up to 2× the gradient evaluations:", "At equal epochs:",
    ]  # fmt: skip
    for effect in made.findings.effects:
        block = blocks[0 if effect.budget == "G" else 1]
        words = [
            effect.method,
            _short(effect, made.findings.alpha),
            theme.gain(effect.mean),
            theme.interval(effect.ci95),
        ]
        assert any(all(word in line for word in words) for line in block.splitlines()), words
        assert made.cells[effect.cell].label in block


def test_it_ends_with_the_answer_of_the_page(made) -> None:
    """In the units of the page: points, and never a fraction of one."""
    told = " ".join(closing(made.findings, made.frame).split())
    cells = cells_of(made.findings, made.frame)
    places = [
        told.index(" ".join(f"{name} {said}".split())) for name, said in prose.answer_of(made.findings, cells).items()
    ]
    assert places == sorted(places)
    assert told.endswith([*prose.answer_of(made.findings, cells).values()][-1])
    assert "gains in points over SGD, 20 epochs, " in told
    assert "FEW REPLICATES: There are 6 replicates" in told


def test_long_names_keep_within_80_columns(made) -> None:
    long = "a very long name of a task of one's own, in a package with a long name"
    effects = tuple(replace(effect, task=long) for effect in made.findings.effects)
    told = closing(replace(made.findings, effects=effects), made.frame)
    assert max(map(len, told.splitlines())) <= 80


def test_a_running_study_shows_its_progress_and_no_verdict(made) -> None:
    findings = made.findings
    running = replace(findings, counts=replace(findings.counts, planned=findings.counts.planned + 1))
    told = " ".join(closing(running, made.frame, "python -m study.run --resume x").split())
    ended, planned = running.counts.ended, running.counts.planned
    assert f"No verdict yet: {ended:,} of {planned:,} planned runs are done." in told
    assert "Go on with python -m study.run --resume x" in " ".join(told.split())
    assert not any(word in told for word in ("helps", "hurts", "inconclusive", "material"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "helps", "clear": True}, "helps, clear"),
        ({"verdict": "hurts", "clear": False}, "hurts, size unsure"),
        ({"verdict": "inconclusive", "ci95": (0.001, 0.02), "p": 0.01, "p_holm": 0.08, "mean": 0.01}, "inconclusive*"),
        ({"verdict": "inconclusive", "ci95": (0.001, 0.02), "p": 0.3, "p_holm": 0.9, "mean": 0.01}, "inconclusive°"),
        ({"verdict": "inconclusive", "ci95": (-0.001, 0.02), "p_holm": 0.9}, "inconclusive"),
        ({"verdict": "no material effect", "differences": (0.0,) * 6, "off": 6}, "no effect, all off"),
    ],
)
def test_short_verdicts(made, changes: dict, words: str) -> None:
    assert _short(replace(made.findings.effects[0], **changes), made.findings.alpha) == words


def test_an_empty_study_says_so() -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=2, runs=0)
    frame = frame_of(records)
    assert "no run has finished" in closing(find(spec, records), frame)
    assert "(nothing measured yet)" in closing(find(spec, records, 0), frame)
