"""The tables that carry the verdict, and what they say where numbers are missing."""

import math
from dataclasses import replace

import pytest

from dashboards import theme
from dashboards.figures.when import forest
from dashboards.score import score_of
from dashboards.tables import beside_verdicts, verdicts
from dashboards.tables.matrix import matrices_of
from dashboards.tables.table import Column, Entry, Table, capped


def test_the_matrix_has_every_cell_and_method_under_every_budget(study) -> None:
    matrices = matrices_of(study.findings, study.cells)
    assert [matrix.budget for matrix in matrices] == ["G", "E"]
    for matrix in matrices:
        assert matrix.methods == ("SWA", "SAM", "WASAM")
        assert [row.label for row in matrix.rows] == [cell.label for cell in study.cells.values()]
        found = {(e.cell, e.method): e for e in study.findings.effects if e.budget == matrix.budget}
        for row in matrix.rows:
            for entry in row.entries:
                effect = found[entry.cell, entry.method]
                assert entry.verdict == effect.verdict
                assert (entry.gain, entry.interval) == (theme.gain(effect.mean), theme.interval(effect.ci95))
                assert f"Holm p {theme.p_value(effect.p_holm)}" in entry.fine
                assert (f"off in {effect.off} of {effect.n}" in entry.fine) == (effect.off > 0)
            over = {entry.baseline for entry in row.entries}
            assert row.baseline == (over.pop() if len(over) == 1 else "")


def test_a_method_that_was_not_measured_in_a_cell_is_not_left_out(study) -> None:
    first = study.findings.effects[0]
    effects = tuple(e for e in study.findings.effects if (e.cell, e.method) != (first.cell, first.method))
    matrix, *_ = matrices_of(replace(study.findings, effects=effects), study.cells)
    entry = matrix.rows[0].entries[0]
    assert (entry.words, entry.gain, entry.baseline) == ("not measured", "–", "")


def test_missing_pairs_stand_beside_n(make) -> None:
    made = make(tasks=["digits"], factors={}, trials=4)
    short = tuple(replace(e, planned=8) for e in made.findings.effects)
    table = verdicts.verdict_table(replace(made.findings, effects=short), made.cells)
    column = [c.csv for c in table.columns].index("n")
    assert {row[column].text for row in table.rows} == {"6 of 8"}


def test_only_verdicts_that_change_with_delta_are_listed(study) -> None:
    table = beside_verdicts.delta_table(study.findings, study.cells)
    heading = beside_verdicts.deltas_heading(study.findings)
    assert heading.startswith(f"{len(table.rows)} of ")
    assert heading.endswith(" verdicts change somewhere between 0.25 × δ and 4 × δ")
    assert [c.title for c in table.columns[3:]] == ["0.25 × δ", "0.5 × δ", "1 × δ", "2 × δ", "4 × δ"]
    for row in table.rows:
        assert len({entry.text for entry in row[3:]}) > 1


def test_a_value_at_the_edge_is_flagged(study) -> None:
    chosen = [replace(s, at_edge=()) for s in study.findings.selections]
    flagged = replace(chosen[0], at_edge=("learning_rate", "rho"))
    table = beside_verdicts.selection_table(replace(study.findings, selections=(flagged, *chosen[1:])), study.cells)
    at = [column.csv for column in table.columns].index("at_edge")
    flags = [(row[at].text, row[at].icon) for row in table.rows]
    assert sorted(set(flags)) == [("learning rate, rho", "flag"), ("no", "")]
    assert flags.count(("learning rate, rho", "flag")) == 1


@pytest.mark.parametrize(
    ("weights", "words"), [("last", "last"), ("swa@0.75", "average from 75 %"), ("swa@x", "swa@x"), ("ema", "ema")]
)
def test_weights_in_words(weights: str, words: str) -> None:
    assert beside_verdicts.weights_in_words(weights) == words


def test_a_long_table_says_what_was_cut() -> None:
    table = Table("t", "Numbers.", (Column("n", "n"),), tuple((Entry(str(i)),) for i in range(5)), groups=(0, 4))
    assert capped(table, 5, "…") is table
    cut = capped(table, 3, "the rest is elsewhere.")
    assert len(cut.rows) == 3
    assert cut.groups == (0,)
    assert cut.note == "The first 3 of 5 rows are shown; the rest is elsewhere."
    assert cut.caption == f"Numbers. {cut.note}"


def test_every_row_names_the_strongest_baseline_and_what_its_interval_is_over(study) -> None:
    table = verdicts.verdict_table(study.findings, study.cells)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    labels = {name: cell.label for name, cell in study.cells.items()}
    by_row = {(labels[e.cell], e.method, e.budget): e for e in study.findings.effects}
    for row in table.rows:
        effect = by_row[row[0].text, row[1].text, row[at["budget"]].value.split("+")[0]]
        assert row[at["baseline"]].value == effect.baseline
        assert (row[at["ci95_low"]].value, row[at["unit"]].value) == (effect.ci95[0], "fraction")
        assert effect.mean == min(one.mean for one in effect.against)
        assert row[at["p_holm"]].value == effect.p_holm
        assert row[at["p_max_t"]].value == effect.p_max_t is not None
        digits = effect.task == "digits"  # split anew by every replicate; mnist1d is drawn anew
        low, high = effect.ci95_new_data
        assert digits == (row[at["ci95_new_data_low"]].value != "") == math.isfinite(low)
        assert not digits or (low < effect.ci95[0] and high > effect.ci95[1])
        assert row[at["candidates"]].value == effect.candidates > 0
        assert row[at["val_examples"]].value == study.findings.val_examples[effect.cell] == 400
        assert row[at["off"]].text == (f"off in {effect.off} of {effect.n}" if effect.off else "–")
        assert row[at["minimum_detectable"]].value == effect.minimum_detectable
    assert {row[at["budget"]].text for row in table.rows} == {"≤ 2× gradients", "equal epochs"}


def test_the_sd_is_split_where_there_are_several_seeds_a_replicate(make) -> None:
    made = make(tasks=["digits"], factors={}, trials=3, confirms=2)
    table = verdicts.verdict_table(made.findings, made.cells)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    for row in table.rows:
        sd, tuning, seeds = (row[at[name]].value for name in ("sd", "sd_tuning", "sd_seed"))
        assert tuning**2 + seeds**2 == pytest.approx(max(sd**2, seeds**2))


def test_all_baselines_of_a_row_are_listed_with_their_gains(study) -> None:
    table = verdicts.baseline_table(study.findings, study.cells)
    assert len(table.rows) == sum(len(e.against) for e in study.findings.effects)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    names = {row[at["baseline"]].value for row in table.rows}
    assert names == {"SGD last", "SGD best", "SGD last, 2× epochs", "SGD best, 2× epochs"}
    gains = sorted(one.mean for e in study.findings.effects for one in e.against)
    assert sorted(row[at["gain"]].value for row in table.rows) == gains
    strongest = [row for row in table.rows if row[at["strongest"]].text == "strongest"]
    assert len(strongest) == len(study.findings.effects)
    primary = [e for e in study.findings.effects if e.budget == "G"]
    heading = verdicts.baseline_heading(study.findings)
    assert heading.startswith("The strongest baseline at up to 2× the gradient evaluations is ")
    assert heading.endswith(f" of {len(primary)} comparisons")


def test_methods_against_each_other_are_a_table_of_their_own(study) -> None:
    table = verdicts.direct_table(study.findings, study.cells)
    assert len(table.rows) == 3 * 8
    assert {row[0].text for row in table.rows} == {"SAM − SWA", "WASAM − SAM", "WASAM − SWA"}
    assert {row[2].value for row in table.rows} == {e.mean for e in study.findings.direct}
    assert "verdict" not in {column.csv for column in table.columns}
    assert "WASAM − SWA" in verdicts.direct_heading(study.findings)


def test_selections_are_told_by_contender_and_replicate(study) -> None:
    table = beside_verdicts.selection_table(study.findings, study.cells)
    assert len(table.rows) == len(study.findings.selections)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    rows = {(row[0].text, row[at["contender"]].text, row[at["replicate"]].value) for row in table.rows}
    assert len(rows) == len(table.rows)
    assert {name for _, name, _ in rows} >= {"SGD best, 2× epochs", "SWA, up to 2× epochs", "SWA", "SAM"}
    assert len(capped(table, beside_verdicts.MOST_SELECTIONS, "…").rows) == beside_verdicts.MOST_SELECTIONS


def test_every_task_has_a_zone_of_its_own_delta(make) -> None:
    spec_of = [{"task": "digits", "delta": 0.004}, {"task": "mnist1d", "delta": 0.02}]
    made = make(trials=3, problems=spec_of)
    assert made.findings.deltas == {"digits": 0.004, "mnist1d": 0.02}
    data = forest.forest_of(made.findings, made.cells)
    assert data.deltas == [0.004, 0.02]
    figure = forest.figure_of(data, score_of(made.findings))
    rects = [shape for shape in figure.layout["shapes"] if shape["type"] == "rect"]
    assert {round(shape["x1"], 6) for shape in rects} == {0.4, 2.0}
    assert len(rects) == 2 * len(data.methods)


def test_strips_of_several_deltas_are_told_in_multiples(study) -> None:
    strips = tuple(
        replace(strip, verdicts=tuple((delta * 4, found) for delta, found in strip.verdicts))
        if "mnist1d" in strip.cell
        else strip
        for strip in study.findings.delta_strips
    )
    table = beside_verdicts.delta_table(replace(study.findings, delta_strips=strips), study.cells)
    assert [c.title for c in table.columns[3:]] == ["0.25 × δ", "0.5 × δ", "1 × δ", "2 × δ", "4 × δ"]
