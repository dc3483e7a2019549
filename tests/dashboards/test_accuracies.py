"""What each reaches: the scores of every contender as the metric has them, and on scales that no outlier sets."""

import math
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest
from synthetic import synthetic_study

from dashboards.cells import cells_of
from dashboards.contenders import in_epochs, lengths_under
from dashboards.figures.kit.chart import Sources
from dashboards.tables import accuracies
from study.findings import find
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def sources(make) -> Sources:
    made = make(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3, confirms=2)
    return Sources(made.findings, made.frame, made.cells)


def reached(sources: Sources) -> tuple[accuracies.Reached, ...]:
    return accuracies.reached_of(sources.findings, sources.cells, sources.confirmed, sources.best_at)


def test_every_baseline_and_method_of_the_primary_budget_is_a_row(sources) -> None:
    rows = reached(sources)
    for name in sources.cells:
        own = {row.contender: row for row in rows if row.cell == name}
        assert list(own) == [
            *("SGD last", "SGD best", "SGD last, 2× epochs", "SGD best, 2× epochs"), "SWA", "SAM", "WASAM",
        ]  # fmt: skip
        for effect in sources.findings.effects:
            if (effect.cell, effect.budget) == (name, "G"):
                assert own[effect.method].values == pytest.approx(effect.method_values)
                assert own[effect.baseline].values == pytest.approx(effect.baseline_values)
                for one in effect.against:
                    assert own[one.baseline].typical.middle == pytest.approx(one.baseline_mean)
        strongest = [row for row in own.values() if row.strongest]
        assert {row.contender for row in strongest} == {
            e.baseline for e in sources.findings.effects if (e.cell, e.budget) == (name, "G")
        }
        assert own["SGD last"].relative == pytest.approx(1)
        assert own["SGD last, 2× epochs"].relative == pytest.approx(2)


def test_a_row_names_its_length_and_the_epoch_that_validation_prefers(sources) -> None:
    rows = {row.contender: row.name for row in reached(sources)}
    assert rows["SGD last, 2× epochs"] == "SGD, 40 epochs, last weights"
    assert rows["SGD best"].startswith("SGD, 20 epochs, best at ")
    assert rows["SWA"] == "SWA"
    assert in_epochs("SGD best", 0) == "SGD best"
    assert in_epochs("my.pkg:Sgd last, 1.5× epochs", 10) == "my.pkg:Sgd, 15 epochs, last weights"


def test_findings_alone_give_the_methods_and_their_strongest_baseline(sources) -> None:
    """Without runs of ours, as for results that others have made."""
    rows = accuracies.reached_of(sources.findings, sources.cells, (), {})
    assert {row.contender for row in rows} >= {"SWA", "SAM", "WASAM"}
    assert sum(row.strongest for row in rows) == len(sources.cells)
    assert all(math.isnan(row.gradient_evaluations) for row in rows)
    assert accuracies.panels_of(sources.findings, sources.cells, rows)


def test_an_outlier_is_an_arrow_and_sets_no_scale(sources) -> None:
    rows = [row for row in reached(sources) if row.cell == next(iter(sources.cells))]
    wild = replace(rows[0], values=(*rows[0].values[1:], -5.0))
    (panel,) = accuracies.panels_of(sources.findings, sources.cells, [wild, *rows[1:]])
    (calm,) = accuracies.panels_of(sources.findings, sources.cells, rows)
    assert panel.rows[0].beyond == (1, 0)
    assert len(panel.rows[0].dots) == len(rows[0].values) - 1
    assert [words for _, words in panel.ticks] == pytest.approx([words for _, words in calm.ticks])
    for row in (*panel.rows, *calm.rows):
        assert all(0 <= at <= 100 for at in (*row.dots, row.middle))


def test_the_metric_keeps_its_unit_and_its_direction() -> None:
    spec, records = synthetic_study(tasks=["mnist1d"], factors={}, replicates=5, trials=2, delta=0.5)

    def error(score: float | None) -> float | None:
        return None if score is None else -(40 - 30 * score)

    told = []
    for record in records:
        found = [
            replace(m, val_score=error(m.val_score), test_score=error(m.test_score), train_score=None)
            for m in record.measurements
        ]
        more = {"metric": "MAE", "unit": "k$", "higher_is_better": False, "measurements": tuple(found)}
        told.append(record.model_copy(update=more))
    findings, frame = find(spec, told), frame_of(told)
    sources = Sources(findings, frame, cells_of(findings, frame))
    rows = reached(sources)
    (panel,) = accuracies.panels_of(findings, sources.cells, rows)
    assert panel.metric == "test MAE, k$, lower is better"
    effect = next(e for e in findings.effects if (e.method, e.budget) == ("SAM", "G"))
    own = next(row for row in rows if row.contender == "SAM")
    assert own.typical.middle > 0
    assert own.typical.middle == pytest.approx(-statistics.median(effect.method_values))
    table = accuracies.accuracy_table(findings, sources.cells, rows)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    assert {row[at["unit"]].value for row in table.rows} == {"k$"}
    assert table.rows[0][at["test_score"]].value == pytest.approx(rows[0].typical.middle)


@pytest.mark.parametrize(("low", "high"), [(0.97, 0.99), (0.1, 0.9), (-3.0, 250.0), (1e-5, 2e-5), (0.9312, 0.9313)])
def test_ticks_are_a_few_round_numbers(low: float, high: float) -> None:
    ticks = accuracies._ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_lengths_are_those_of_the_baselines(sources) -> None:
    by_budget = {effect.budget: lengths_under(effect) for effect in sources.findings.effects}
    assert by_budget == {"G": (1.0, 2.0), "E": (1.0,)}
