"""The tables that carry the verdict, and what they say where numbers are missing."""

import math
from dataclasses import replace

import pytest

from dashboards.score import score_of
from dashboards.tables import evidence, verdicts
from dashboards.tables.table import Column, Entry, Table, capped


def test_the_overview_has_every_cell_and_method_under_the_primary_budget(study) -> None:
    matrix = verdicts.matrix_of(study.findings, study.cells)
    assert matrix.methods == ("SWA", "SAM", "WASAM")
    assert [label for label, _ in matrix.rows] == [cell.label for cell in study.cells.values()]
    primary = {(study.cells[e.cell].label, e.method): e for e in study.findings.effects if e.budget == "G"}
    for label, entries in matrix.rows:
        for entry in entries:
            assert entry.verdict == primary[label, entry.method].verdict


def test_the_overview_tells_when_another_budget_says_something_else(study) -> None:
    cell, method = study.findings.effects[0].cell, study.findings.effects[0].method
    split = tuple(
        replace(e, verdict="helps" if e.budget == "E" else "inconclusive", clear=False)
        if (e.cell, e.method) == (cell, method)
        else e
        for e in study.findings.effects
    )
    entry = verdicts.matrix_of(replace(study.findings, effects=split), study.cells).rows[0][1][0]
    assert (entry.verdict, entry.elsewhere) == ("inconclusive", "helps at equal epochs")


def test_a_method_that_was_not_measured_in_a_cell_is_not_left_out(study) -> None:
    first = study.findings.effects[0]
    effects = tuple(e for e in study.findings.effects if (e.cell, e.method) != (first.cell, first.method))
    entry = verdicts.matrix_of(replace(study.findings, effects=effects), study.cells).rows[0][1][0]
    assert (entry.words, entry.gain, entry.span) == ("not measured", "–", None)


def test_drawings_of_one_table_share_a_scale_and_stay_inside() -> None:
    scale = verdicts.scale_of([(0.01, (-0.01, 0.03)), (math.nan, (math.nan, math.nan))], delta=0.005)
    span = scale.span(0.01, (-0.01, 0.03), "SAM")
    assert span
    assert 0 < span.low < span.zero < span.mean < span.high < 1
    assert span.band[0] < span.zero < span.band[1]
    cut = scale.span(0.5, (-1.0, 2.0), "SAM")
    assert cut
    assert (cut.low, cut.mean, cut.high) == (0.0, 1.0, 1.0)
    assert scale.span(math.nan, (math.nan, math.nan), "SAM") is None


def test_a_diverged_run_does_not_set_the_scale(study) -> None:
    effects = [replace(e, diverged_method=0, diverged_baseline=0) for e in study.findings.effects]
    wild = replace(effects[0], mean=0.0, ci95=(-9.0, 9.0), diverged_method=1)
    assert verdicts.scale_of_effects([wild, *effects[1:]], 0.005).high < 1


def test_missing_pairs_stand_beside_n(make) -> None:
    made = make(tasks=["digits"], factors={}, trials=4)
    short = tuple(replace(e, planned=8) for e in made.findings.effects)
    table = verdicts.verdict_table(replace(made.findings, effects=short), made.cells)
    column = [c.csv for c in table.columns].index("n")
    assert {row[column].text for row in table.rows} == {"6 of 8"}


def test_only_verdicts_that_change_with_delta_are_listed(study) -> None:
    table = evidence.delta_table(study.findings, study.cells)
    changing, total, low, high = evidence.delta_counts(study.findings)
    assert len(table.rows) == changing < total
    assert (low, high) == (0.00125, 0.02)
    assert [c.title for c in table.columns[3:]] == [
        "δ = 0.125", "δ = 0.25", "δ = 0.50 (the study's)", "δ = 1.00", "δ = 2.00",
    ]  # fmt: skip
    for row in table.rows:
        assert len({entry.text for entry in row[3:]}) > 1


def test_a_value_at_the_edge_is_flagged(study) -> None:
    chosen = [replace(s, at_edge=()) for s in study.findings.selections]
    flagged = replace(chosen[0], at_edge=("learning_rate", "rho"))
    table = evidence.selection_table([flagged, *chosen[1:]], study.cells, score_of(study.findings))
    assert (table.rows[0][-1].text, table.rows[0][-1].icon) == ("learning rate, rho", "flag")
    assert {(row[-1].text, row[-1].icon) for row in table.rows[1:]} == {("no", "")}


@pytest.mark.parametrize(
    ("weights", "words"), [("last", "last"), ("swa@0.75", "average from 75 %"), ("swa@x", "swa@x"), ("ema", "ema")]
)
def test_weights_in_words(weights: str, words: str) -> None:
    assert evidence.weights_in_words(weights) == words


def test_a_long_table_says_what_was_cut() -> None:
    table = Table("t", "Numbers.", (Column("n", "n"),), tuple((Entry(str(i)),) for i in range(5)), groups=(0, 4))
    assert capped(table, 5, "…") is table
    cut = capped(table, 3, "the rest is elsewhere.")
    assert len(cut.rows) == 3
    assert cut.groups == (0,)
    assert cut.note == "The first 3 of 5 rows are shown; the rest is elsewhere."
    assert cut.caption == f"Numbers. {cut.note}"
