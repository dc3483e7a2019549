"""A page of very many problems: every part of it grows less than they do, and says what it leaves out."""

from dataclasses import replace

import pytest

from dashboards.figures.tuning import best_of, rho
from dashboards.figures.why import lines
from dashboards.score import Score
from dashboards.tables.table import AMPLE, Column, Entry, Table, fitted, most
from study.stats import RhoResponse

ACCURACY = Score("accuracy", share=True)


@pytest.mark.parametrize("full", [100, 400, 1000])
def test_a_part_is_whole_up_to_some_problems_and_then_keeps_its_room(full: int) -> None:
    assert {most(full, problems) for problems in (0, 1, AMPLE)} == {full}
    shown = [most(full, problems) for problems in range(1, 1000)]
    assert shown == sorted(shown, reverse=True)
    assert min(shown) == full // 8
    assert all(problems * most(full, problems) <= full * AMPLE for problems in range(AMPLE, 8 * AMPLE))


def test_a_table_says_what_a_page_of_many_problems_leaves_out() -> None:
    table = Table("t", "Numbers.", (Column("n", "n"),), tuple((Entry(str(i)),) for i in range(400)))
    assert fitted(table, AMPLE, "runs.parquet") is table
    cut = fitted(table, 100, "runs.parquet")
    assert len(cut.rows) == 128
    assert cut.caption == "Numbers. The first 128 of 400 rows are shown; all of them are in runs.parquet."


def test_a_thinned_line_keeps_both_ends_and_every_early_step() -> None:
    assert best_of.thinned(100, 100) == list(range(100))
    short = best_of.thinned(100, 16)
    assert len(short) <= 16
    assert (*short[:3], short[-1]) == (0, 1, 2, 99)


def test_panels_of_barriers_are_the_highest_ones() -> None:
    ways = tuple(
        lines.Way(f"problem {i}", "SGD", "SAM", (0.0, 1.0), ((0.1, 0.1),), ((0.1, 0.1),), (float(i),))
        for i in range(50)
    )
    assert lines.drawn_of(ways[:40]) == ways[:40]
    assert lines.drawn_of(ways) == ways[10:]


def test_markers_of_a_panel_become_fewer_with_more_panels(study) -> None:
    one = RhoResponse("c", (0.1,) * 240, (0.1,) * 240, (0.9,) * 240, (0.9,) * 240, 0.9, (0.1,))
    for panels, every in ((32, 1), (100, 3)):
        found = rho.responses_of(replace(study.findings, rho_responses=(one,) * panels), study.cells)
        assert {response.drawn_every for response in found} == {every}
        figure = rho.figure_of(found[:1], ACCURACY)
        assert {len(trace["x"]) for trace in figure.data if trace["mode"] == "markers"} == {240 // every}
