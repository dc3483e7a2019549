"""Suites: what is refused before they start, and what becomes of a claim that is made of several hypotheses."""

from pathlib import Path
from typing import Any

import pytest
from matrices import crossed
from synthetic import planned_runs, synthetic_study

from study.data import TaskError
from study.driver.suite import claim_table, outcome_table, overall
from study.findings import find
from study.run import main
from study.specs.spec import SUITES, StudySpec, builtin_specs
from study.store.frame import frame_of
from study.store.results import Study


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], "inconclusive"),
        (["reproduced"], "reproduced"),
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "inconclusive"], "inconclusive"),
        (["inconclusive", "contradicted"], "contradicted"),
        (["reproduced", "contradicted", "reproduced"], "contradicted"),
    ],
)
def test_a_claim_stands_with_all_of_its_hypotheses_and_falls_with_one(outcomes: list[Any], expected: str) -> None:
    assert overall(outcomes) == expected


def claimed(name: str, *expected: str) -> Study:
    """Make a finished study in which SAM gains two points, and claims about the sign of that."""
    hypotheses = [
        {"id": f"h{k}", "claim": "It is so.", "kind": "gain", "method": "SAM", "expected": sign}
        for k, sign in enumerate(expected)
    ]
    spec, records = synthetic_study(
        tasks=("digits",), factors={}, trials=2, gains={"SAM": 0.02}, noise=0.001, hypotheses=hypotheses, name=name
    )
    found = find(spec, records, planned_runs(spec, records))
    return Study(Path(), spec, tuple(records), frame_of(records), found)


def test_tables_have_a_row_a_hypothesis_and_a_row_a_claim() -> None:
    studies = [claimed("claim-01-true", "+", ">="), claimed("claim-02-false", "+", "-"), claimed("none")]
    assert outcome_table(studies)["outcome"].tolist() == ["reproduced", "reproduced", "reproduced", "contradicted"]
    table = claim_table(studies)
    assert table["study"].tolist() == ["01-true", "02-false", "none"]
    assert table["outcome"].tolist() == ["reproduced", "contradicted", "inconclusive"]
    counted = table[["hypotheses", "reproduced", "contradicted", "inconclusive"]].to_numpy().tolist()
    assert counted == [[2, 2, 0, 0], [2, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_prints_its_size_and_starts_nothing(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([suite, "--dry-run"]) == 0
    heads = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert heads == [name for name in builtin_specs() if name.startswith(f"{suite}/")]
    assert not list(tmp_path.iterdir())


@crossed(suite=SUITES, given=(["--resume", "x"], ["--seed", "1"], ["--replicates", "1-2"]))
def test_what_belongs_to_one_study_is_refused_with_a_suite(
    suite: str, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([suite, *given]) == 2
    assert f"with the suite {suite!r}" in capsys.readouterr().err


def test_a_suite_whose_data_are_missing_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(spec: StudySpec) -> None:
        if spec.problems[0].task == "letters":
            raise TaskError("no letters; give `make tables`")

    monkeypatch.setattr("study.driver.suite.find_data", missing)
    assert main(["atlas", "--out", str(tmp_path / "atlas")]) == 2
    assert "no letters" in capsys.readouterr().err
    assert not (tmp_path / "atlas").exists()
