"""The index of many studies: every one is there, readable or not, and what can be compared is embedded once."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from markup import Page, assert_closed
from synthetic import HOSTILE, synthetic_study, write_results

from dashboards import prose
from dashboards.__main__ import main
from dashboards.cells import cells_of
from dashboards.index import build_index
from dashboards.score import shown
from dashboards.studies import Line, comparable, line_of, study_folders
from study.store.results import load

INJECTION = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    noise = {"label_noise": [0.0, 0.3]}
    for name, settings in {
        "first": {"factors": noise},
        "second": {"factors": noise, "seed": 1},
        "longer": {"factors": noise | {"schedule": ["cosine", "constant"]}, "replicates": 7},
        "claims/inner": {"factors": {}, "tasks": ["mnist1d"]},
        "begun": {"factors": noise, "runs": 5},
        "hostile": {"factors": {}, "hostile": True},
    }.items():
        spec, records = synthetic_study(**{"tasks": ["digits"], "trials": 2, "replicates": 5} | settings)
        write_results(root / name, spec, records)
    spec, records = synthetic_study(tasks=["mnist1d"], factors={}, trials=2, replicates=5)
    told = {"metric": "MAE", "unit": "k$", "higher_is_better": False}
    write_results(root / "error", spec, [record.model_copy(update=told) for record in records])
    shutil.copytree(root / "first", root / "damaged")
    next((root / "damaged" / "records").glob("*.json")).write_text("{")
    (root / "no-spec" / "records").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "first" / "report.html").write_text("<p>")
    return root


@pytest.fixture(scope="module")
def lines(results: Path) -> list[Line]:
    return [line_of(folder, results) for folder in study_folders(results)]


@pytest.fixture(scope="module")
def index(lines: list[Line]) -> str:
    return build_index("results", lines)


def test_every_study_is_listed_by_name(lines: list[Line]) -> None:
    names = ["begun", "claims/inner", "damaged", "error", "first", "hostile", "longer", "no-spec", "second"]
    assert [line.name for line in lines] == names


def test_a_study_that_cannot_be_read_says_why_in_one_sentence(lines: list[Line], results: Path) -> None:
    errors = {line.name: line.error for line in lines if line.error}
    assert set(errors) == {"damaged", "no-spec"}
    assert errors["damaged"].startswith("damaged/records/")
    assert "no spec.toml" in errors["no-spec"]
    assert not any(str(results) in error or "\n" in error for error in errors.values())


def test_the_page_is_closed_and_links_only_to_reports_that_are_there(index: str, results: Path) -> None:
    parsed = assert_closed(index, scripts=2)
    outward = [href for href in parsed.attributes("href") if not href.startswith("#")]
    assert outward == ["first/report.html"]
    assert (results / outward[0]).is_file()
    assert index.count("damaged/records/") == 1


def test_equal_studies_give_equal_bytes(index: str, results: Path) -> None:
    assert build_index("results", [line_of(folder, results) for folder in study_folders(results)]) == index


def test_an_unfinished_study_counts_no_verdict_before_its_time(lines: list[Line]) -> None:
    begun = next(line for line in lines if line.name == "begun")
    assert not begun.finished
    assert begun.comparisons == ()
    assert not begun.verdicts
    assert begun.facts["What"].startswith("No verdict yet")


def test_a_study_is_answered_as_its_own_page_answers(lines: list[Line], results: Path, index: str) -> None:
    """In three facts, in its own unit, and with the words of its verdicts."""
    for name in ("first", "error"):
        line, study = next(line for line in lines if line.name == name), load(results / name)
        with shown(study.findings):
            facts = prose.answer_of(study.findings, cells_of(study.findings, study.frame))
        assert line.facts == facts
        assert {"What", "How surely", "At what cost"} <= facts.keys()
        told = Page(index).words
        assert all(" ".join(f"{fact} {sentence}".split()) in told for fact, sentence in facts.items())
        counted = Counter(e.verdict for e in study.findings.effects if e.budget == study.findings.primary_budget)
        assert line.verdicts == counted
        assert all(f"{number} {verdict}" in told for verdict, number in counted.items())
    assert "MAE, lower is better" in facts["What"]
    assert " k$ over SGD, 30 epochs, best epoch" in facts["What"]


def test_only_what_two_studies_share_is_embedded(lines: list[Line]) -> None:
    shared = comparable(lines)
    assert set(shared["studies"]) == {"first", "second", "longer", "hostile"}
    first, second = shared["studies"]["first"], shared["studies"]["second"]
    assert set(first) == set(second)
    assert len(first) == 2 * 3 * 2  # cells × methods × budgets
    assert set(first) == set(shared["studies"]["longer"])  # its other cells nobody else has
    assert first[0][0] == second[0][0] == tuple(f"0/1/{number}" for number in range(1, 6))  # seed, confirms, replicate
    assert len(shared["studies"]["longer"][0][0]) == 7
    known = next(line for line in lines if line.name == "first")
    for one in known.comparisons:
        assert max(map(abs, one.gains)) < 1, (one.method, one.budget)


def test_problems_are_the_same_when_task_and_all_factors_are(lines: list[Line]) -> None:
    keys = comparable(lines)["keys"]
    assert {key[0] for key in keys} == {"digits, clean labels", "digits, 30 % noisy labels"}


@pytest.mark.parametrize("text", [HOSTILE, INJECTION, "=cmd()", "javascript:alert(1)", "{{ 7*7 }}"])
def test_hostile_text_stays_text(lines: list[Line], text: str) -> None:
    changed = [
        Line(
            **{name: getattr(line, name) for name in Line.__slots__}
            | {"name": f"{text} {line.name}", "question": text, "facts": {text: text}, "claims": text}
            | ({"error": text} if line.error else {})
        )
        for line in lines
    ]
    page = build_index(text, changed)
    parsed = assert_closed(page, scripts=2)
    assert " ".join(text.split()) in " ".join(" ".join(parsed.text).split())
    embedded = json.loads(parsed.scripts[1])
    assert all(name.startswith(text) for name in embedded["studies"])


def test_a_folder_named_like_an_address_is_a_relative_link(tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=2, replicates=5, runs=3)
    folder = write_results(tmp_path / "javascript:alert(1)#?", spec, records)
    (folder / "report.html").write_text("<p>")
    assert line_of(folder, tmp_path).href == "javascript%3Aalert%281%29%23%3F/report.html"


def test_the_command_tells_a_study_from_a_folder_of_studies(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(results), "-o", str(tmp_path / "index.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    heading = Page((tmp_path / "index.html").read_text(encoding="utf-8")).words
    assert "9 studies, 6 finished, 1 unfinished and 2 unreadable" in heading
    assert main([str(results / "empty")]) == 2
    assert "has no spec.toml" in capsys.readouterr().err


def test_without_common_comparisons_the_page_says_so(lines: list[Line]) -> None:
    page = build_index("results", [line for line in lines if line.name in ("first", "damaged")])
    assert "No two finished studies here have" in page
    assert_closed(page, scripts=2)
