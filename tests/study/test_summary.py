"""The end of a study on the terminal: who was beaten, over what, by how much, and nothing before its time."""

from dataclasses import replace

import pytest
from synthetic import synthetic_study

from study.driver.summary import closing, verdict_words
from study.findings import Findings, find


@pytest.fixture(scope="module")
def findings() -> Findings:
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    return find(spec, records, len(records))


def test_every_comparison_is_a_line_of_at_most_80_columns(findings: Findings) -> None:
    told = closing(findings)
    verdicts = told.split("\n\n")[1].splitlines()
    assert len([line for line in verdicts if line.startswith("  ")]) == 1 + len(findings.effects)
    assert max(map(len, told.splitlines())) <= 80
    for effect in findings.effects:
        words = f"{effect.method:<6} {effect.budget}  {verdict_words(effect, findings.alpha)}"
        (line,) = [line for line in verdicts if line.strip().startswith(words) and f"{effect.mean:+.4f}" in line][:1]
        assert effect.baseline.removesuffix(" epochs").replace(",", "") in line


def test_what_it_speaks_of_and_what_limits_it_stand_above(findings: Findings) -> None:
    told = " ".join(closing(findings).split())
    assert told.startswith("FEW REPLICATES: There are 6 replicates")
    assert "Verdicts over 6 replicates: tuned against the strongest tuned baseline" in told
    assert "G: up to 2× the gradient evaluations" in told
    assert f"digits: a verdict speaks of {findings.scopes['digits']}." in told


def test_a_running_study_shows_its_progress_and_no_verdict(findings: Findings) -> None:
    running = replace(findings, counts=replace(findings.counts, planned=findings.counts.planned + 1))
    told = closing(running)
    assert told.startswith(f"{running.counts.ended:,} of {running.counts.planned:,} planned runs are done.")
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
def test_short_verdicts(findings: Findings, changes: dict, words: str) -> None:
    assert verdict_words(replace(findings.effects[0], **changes), findings.alpha) == words


def test_an_empty_study_says_so() -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=2, runs=0)
    assert "0 of " in closing(find(spec, records))
    assert "(nothing measured yet)" in closing(find(spec, records, 0))
