"""The atlas's page: made of the parts alone, the same twice, whole, and plain where it knows too little."""

from pathlib import Path

import pytest
from markup import Page, assert_closed
from simulated_atlas import TASKS, write_simulated

from dashboards.atlas import build_atlas, entry_of, main, table_of
from dashboards.theme import OUTCOME_ICONS
from study.atlas.markdown import Answer, Gain, P, Share, Size
from study.atlas.summary import answers, sentences


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tasks, two of which were run again under another seed."""
    folder = write_simulated(tmp_path_factory.mktemp("parts"), effects={"label_noise": 0.02}, mean=0.02)
    write_simulated(folder, study_seed=1, seed=1, tasks=TASKS[:2], mean=0.02)
    return folder


@pytest.fixture(scope="module")
def page(parts: Path) -> str:
    return build_atlas(parts)


def test_the_page_is_whole_and_the_same_twice(
    page: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_closed(page, scripts=3)
    assert len(page) < 4_000_000
    assert page.count("by JavaScript; the parts that this page is made of hold what") == 4
    assert "beside this page" not in page.partition("</script>")[2]  # no folder of a study
    assert main(["--parts", str(parts), "-o", str(tmp_path / "new" / "atlas.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'atlas.html'}\n"
    assert (tmp_path / "new" / "atlas.html").read_text(encoding="utf-8") == page


def test_it_answers_in_three_facts_in_points(page: str, parts: Path) -> None:
    facts = sentences(parts)
    assert [*facts] == ["What", "How surely", "Over what"]
    assert "SAM +0.0" in facts["What"]
    words = Page(page).words
    even, _, surely = facts["How surely"].partition("; ")
    assert surely in words
    assert even not in words  # which are fractions, as in the first
    assert "At equal epochs the means are SWA +" in words
    assert facts["Over what"] in words
    assert "SWA, EMA, SAM and WASAM gain on average (p after Holm): SWA +" in words
    assert facts["What"] not in words
    assert "points of accuracy" in words


def test_every_answer_stands_there_with_its_download(page: str, parts: Path) -> None:
    found = Page(page)
    ids = {attributes.get("id") for _, attributes in found.tags}
    asked = [one.id for one in answers(parts)]
    assert len(asked) == 9
    assert {*asked, *(f"{name}-table" for name in asked if name != "decay")} <= ids
    downloads = {attributes.get("data-download") for _, attributes in found.tags}
    assert {f"{name}-table" for name in asked if name != "decay"} <= downloads
    assert {*found.packed["charts"]} == {"cells", "effects"}


def test_what_was_expected_and_what_was_found_stand_beside_each_other(page: str) -> None:
    words = Page(page).words
    assert "as expected" in words
    assert "no rule found" in words
    assert "seed 1" not in words
    assert "0 and 1" in words  # the seeds of the replicated parts


def test_few_tasks_are_said_to_be_too_few(tmp_path: Path) -> None:
    words = Page(build_atlas(write_simulated(tmp_path, tasks=TASKS[:4]))).words
    for told in (
        "so few tasks are no sample",
        "too few tasks",
        "The atlas has 4 tasks; to validate advice takes at least 6.",
        "No part has been run again under another seed yet.",
    ):
        assert told in words
    assert "nan" not in words


def test_entries_are_in_points_and_the_download_in_fractions() -> None:
    table = table_of(Answer("x", "?", ({"method": "SAM", "gain": Gain(0.01, (0.005, 0.015)), "p": P(0.0004)},)))
    assert [column.csv for column in table.columns] == ["method", "gain", "gain_low", "gain_high", "p", "unit"]
    assert [column.hidden for column in table.columns] == [False, False, True, True, False, True]
    (row,) = table.rows
    assert [column.title for column in table.columns][:2] == ["Method", "Gain"]
    assert [entry.text for entry in row] == ["SAM", "+1.00 [+0.50, +1.50]", "", "", "< .001", ""]
    assert [entry.value for entry in row][1:] == [0.01, 0.005, 0.015, 0.0004, "fraction"]
    assert entry_of(Size(0.0123)).text == "1.23"
    assert entry_of(Share(0.25)).text.startswith("25")
    assert entry_of((("digits", Gain(0.01)),)).text == "digits +1.00"
    assert not table_of(Answer("x", "?", ())).rows


def test_no_outcome_is_told_by_its_colour_alone() -> None:
    for outcome in ("agrees", "disagrees", "undecided", "not tested", "as expected", "the opposite", "not seen"):
        entry = entry_of(outcome)
        assert entry.text == outcome
        assert entry.icon
    assert entry_of("as expected").icon == OUTCOME_ICONS["reproduced"]


def test_no_part_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--parts", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "holds no part" in said
    assert said.count("\n") == 1
