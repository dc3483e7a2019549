"""Findings: the right runs are compared, nothing is lost in silence, and the file is what was found."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pandas as pd
import pytest
from synthetic import HOSTILE, diverged_run, failed_run, planned_runs, renamed, synthetic_study

from study.findings import (
    FINDINGS_VERSION,
    Caveat,
    Findings,
    FindingsError,
    MethodSummary,
    find,
    read_findings,
    write_findings,
)
from study.findings.schema import findings_schema, schema_text
from study.records import Measurement, RunRecord
from study.specs.budgets import BUDGETS, Budget
from study.specs.methods import METHODS, epochs_factor_of_baseline
from study.specs.spec import StudySpec
from study.stats import Effect
from study.store.frame import frame_of

Study = tuple[StudySpec, list[RunRecord]]
CLAIM = {
    "id": "noise",
    "claim": "More label noise, more gain.",
    "kind": "slope",
    "method": "SAM",
    "factor": "label_noise",
    "expected": "+",
}
SCHEDULES = {"schedule": ["cosine", "constant"]}
PRUNING: dict[str, Any] = {"trials": 12, "pruner": "asha", "average_start": {"low": 0.4, "high": 0.6}}


def found_in(study: Study, records: list[RunRecord] | None = None) -> Findings:
    spec, measured = study
    return find(spec, measured if records is None else records, planned_runs(spec, measured))


def one_cell(**settings: Any) -> Study:
    defaults: dict[str, Any] = {"tasks": ("digits",), "factors": {"label_noise": 0.3}, "trials": 4}
    return synthetic_study(**(defaults | settings))


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study()


@pytest.fixture(scope="module")
def findings(study: Study) -> Findings:
    return found_in(study)


@pytest.fixture(scope="module")
def small() -> Study:
    return one_cell()


def effect_of(findings: Findings, method: str, budget: str = "E") -> Effect:
    (effect,) = (e for e in findings.effects if (e.method, e.budget) == (method, budget))
    return effect


def caveats_of(findings: Findings, kind: str) -> list[Caveat]:
    return [caveat for caveat in findings.caveats if caveat.kind == kind]


def confirm_rows(frame: pd.DataFrame, findings: Findings, cell: str, method: str, factor: int = 1) -> pd.DataFrame:
    """Look the final rows of a method's confirm runs up in the tidy frame, one condition after the other."""
    (chosen,) = (s for s in findings.selections if (s.cell, s.method, s.epochs_factor) == (cell, method, factor))
    rows = frame[(frame["stage"] == "confirm") & frame["final"] & (frame["cell"] == cell)]
    rows = rows[(rows["family"] == METHODS[method].family) & (rows["epochs_factor"] == factor)]
    rows = rows[(rows["learning_rate"] == chosen.learning_rate) & (rows["rho"] == chosen.rho)]
    return rows[rows["average_start"] == chosen.average_start]


def arm_runs(study: Study, method: str, factor: int = 1) -> list[str]:
    """Return the ids of the confirm runs of a method's configuration, by seed, in a study of one cell."""
    rows = confirm_rows(frame_of(study[1]), found_in(study), study[1][0].job.cell, method, factor)
    return rows.drop_duplicates("run_id").sort_values("seed")["run_id"].tolist()


def changed(study: Study, run_ids: list[str], change: Callable[[RunRecord], RunRecord]) -> list[RunRecord]:
    return [change(record) if record.run_id in run_ids else record for record in study[1]]


def measured_anew(record: RunRecord, change: Callable[[Measurement], dict[str, float | None]]) -> RunRecord:
    measurements = tuple(replace(m, **change(m)) for m in record.measurements)
    return record.model_copy(update={"measurements": measurements})


def test_effects_hold_the_right_runs_against_each_other(study: Study, findings: Findings) -> None:
    assert len(findings.effects) == 8 * 3 * 2
    assert Counter(effect.metric for effect in findings.descriptive) == {
        "test_loss": 8 * 3 * 2, "test_calibration_error": 8 * 3 * 2,
    }  # fmt: skip
    frame, arms = frame_of(study[1]), {}
    for chosen in findings.selections:
        rows = confirm_rows(frame, findings, chosen.cell, chosen.method, chosen.epochs_factor)
        rows = rows[rows["weights"] == chosen.weights]
        arms[chosen.cell, chosen.method, chosen.epochs_factor] = rows.set_index("seed").sort_index()
    for effect in (*findings.effects, *findings.descriptive):
        method = arms[effect.cell, effect.method, 1][effect.metric]
        baseline = arms[effect.cell, "SGD", epochs_factor_of_baseline(effect.method, effect.budget, {})][effect.metric]
        sign = 1 if effect.metric == "test_score" else -1
        assert effect.seeds == tuple(method.index)
        assert effect.n == effect.planned == 6
        assert effect.method_values == tuple(method)
        assert effect.baseline_values == tuple(baseline)
        assert effect.differences == pytest.approx(sign * (method - baseline).to_numpy(), abs=1e-12)


def test_calibration_is_compared_where_it_is_measured(small: Study) -> None:
    """A task that is no classification has none, and neither has a run that diverged."""
    without = [
        measured_anew(record, lambda m: {"val_calibration_error": None, "test_calibration_error": None})
        for record in small[1]
    ]
    found, none = found_in(small), found_in(small, without)
    assert {effect.metric for effect in none.descriptive} == {"test_loss"}
    assert repr(none.effects) == repr(found.effects)
    halved = next(e for e in found.descriptive if (e.method, e.metric) == ("SWA", "test_calibration_error"))
    assert halved.mean > 0  # the synthetic averages have half the error: lower is better, so it is a gain
    assert found.score_names == {"digits": "accuracy"}
    spoiled = found_in(small, changed(small, arm_runs(small, "SWA")[:1], diverged_run))
    assert next(e for e in spoiled.descriptive if e.metric == "test_loss").n == 6
    assert next(e for e in spoiled.descriptive if e.metric == "test_calibration_error").n == 5


def test_scores_of_several_kinds_are_a_caveat(findings: Findings) -> None:
    assert caveats_of(findings, "scores of several kinds") == []
    mixed = found_in(one_cell(tasks=("digits", "diabetes"), factors={}))
    (caveat,) = caveats_of(mixed, "scores of several kinds")
    assert "(accuracy in digits, R² in diabetes)" in caveat.detail
    assert mixed.score_names == {"digits": "accuracy", "diabetes": "R²"}


def test_cells_stand_in_the_order_of_the_spec(findings: Findings) -> None:
    cells = list(dict.fromkeys(effect.cell for effect in findings.effects))
    assert cells == [
        f"{task} label_noise={noise} schedule={schedule}"
        for task in ("digits", "mnist1d")
        for noise in (0.0, 0.3)
        for schedule in ("cosine", "constant")
    ]
    assert findings.effects[3].factors == (("label_noise", 0.0), ("schedule", "constant"))


def test_each_budget_is_a_holm_family(findings: Findings) -> None:
    for budget in ("E", "G"):
        family = [effect for effect in findings.effects if effect.budget == budget]
        smallest = min(family, key=lambda effect: effect.p)
        assert smallest.p_holm == pytest.approx(min(1, len(family) * smallest.p))
    assert all(effect.p_holm is None for effect in findings.descriptive)
    assert {effect.verdict for effect in findings.descriptive} == {"inconclusive"}
    mechanism = min(findings.averaging, key=lambda effect: effect.p)
    assert mechanism.p_holm == pytest.approx(len(findings.averaging) * mechanism.p)


def test_costs_are_gradient_evaluations(findings: Findings) -> None:
    costs = {(e.method, e.budget): e.cost_ratio for e in findings.effects if "noise=0.3" in e.cell}
    assert costs == {
        ("SWA", "E"): 1, ("SWA", "G"): 1, ("SAM", "E"): 2, ("SAM", "G"): 1, ("WASAM", "E"): 2, ("WASAM", "G"): 1,
    }  # fmt: skip
    assert [summary.cost_ratio for summary in findings.summaries] == [1, 2, 2]


def test_the_order_of_the_records_does_not_matter(study: Study, findings: Findings) -> None:
    assert repr(found_in(study, study[1][::-1])) == repr(findings)


def test_the_tune_stage_never_gives_a_test_number(small: Study) -> None:
    tuned = [record.run_id for record in small[1] if record.job.stage == "tune"]
    lie = {"test_score": 1.0, "test_loss": 0.0}
    poisoned = changed(small, tuned, lambda record: measured_anew(record, lambda m: lie))
    assert repr(found_in(small, poisoned)) == repr(found_in(small))


def test_the_confirm_stage_never_selects(small: Study) -> None:
    confirmed = [record.run_id for record in small[1] if record.job.stage == "confirm"]
    lie = {"val_score": 1.0, "val_loss": 0.0}
    poisoned = changed(small, confirmed, lambda record: measured_anew(record, lambda m: lie))
    blind, seen = (replace(found, optimism=()) for found in (found_in(small, poisoned), found_in(small)))
    assert repr(blind) == repr(seen)


def test_only_the_last_epoch_counts(small: Study) -> None:
    def tamper(record: RunRecord) -> RunRecord:
        lie = {"val_score": 1.0, "test_score": 1.0}
        tampered = measured_anew(record, lambda m: lie if m.epoch < record.job.epochs else {})
        return tampered.model_copy(update={"measurements": tampered.measurements[::-1]})

    assert repr(found_in(small, [tamper(record) for record in small[1]])) == repr(found_in(small))


@pytest.mark.parametrize("field", ["learning_rate", "rho", "average_start", "weight_decay"])
def test_runs_of_another_configuration_are_not_mixed_in(small: Study, field: str) -> None:
    def stray(record: RunRecord) -> RunRecord:
        job = record.job.model_copy(update={field: 0.123})
        lying = measured_anew(record, lambda m: {"test_score": 1.0, "test_loss": 0.0})
        return lying.model_copy(update={"job": job, "run_id": job.run_id})

    strays = [stray(record) for record in small[1] if record.job.stage == "confirm"]
    found = found_in(small, [*small[1], *strays])
    assert repr(found.effects) == repr(found_in(small).effects)
    assert repr(found.averaging) == repr(found_in(small).averaging)


def test_averaging_is_compared_within_the_same_runs(small: Study) -> None:
    found = found_in(small)
    assert [(e.method, e.baseline, e.kind) for e in found.averaging] == [
        ("SWA", "SGD", "within-run"),
        ("WASAM", "SAM", "within-run"),
    ]
    for effect in found.averaging:
        (chosen,) = (s for s in found.selections if s.method == effect.method)
        rows = confirm_rows(frame_of(small[1]), found, effect.cell, effect.method)
        wide = rows.pivot(index="seed", columns="weights", values="test_score")
        assert chosen.weights != "last"
        assert effect.method_values == tuple(wide[chosen.weights])
        assert effect.baseline_values == tuple(wide["last"])
        assert effect.cost_ratio == 1


def test_where_validation_prefers_the_last_weights_it_still_names_the_average(small: Study) -> None:
    """Validation likes no average, one of them a little better; on the test set another one shines."""

    def prefer_last(record: RunRecord) -> RunRecord:
        if record.job.stage == "confirm":
            return measured_anew(record, lambda m: {"test_score": 1.0} if m.weights == "swa@0.9" else {})
        scores = {"swa@0.75": 0.02}
        return measured_anew(
            record, lambda m: {} if m.weights == "last" else {"val_score": scores.get(m.weights, 0.01)}
        )

    records = [prefer_last(record) for record in small[1]]
    found = find(small[0], records, len(records))
    assert {chosen.weights for chosen in found.selections} == {"last"}
    for effect in found.averaging:
        rows = confirm_rows(frame_of(records), found, effect.cell, effect.method)
        wide = rows.pivot(index="seed", columns="weights", values="test_score")
        assert effect.n == 6
        assert effect.method_values == tuple(wide["swa@0.75"])
        assert effect.baseline_values == tuple(wide["last"])


@pytest.mark.parametrize("method", ["SAM", "SWA"])
def test_a_diverged_run_counts_at_chance_level(method: str) -> None:
    study = one_cell(confirm_seeds=6)
    victim = arm_runs(study, method)[2]
    found = found_in(study, changed(study, [victim], diverged_run))
    effect = effect_of(found, method)
    assert (effect.n, effect.diverged_method, effect.method_values[2]) == (6, 1, 0.1)
    (caveat, *_) = [c for c in caveats_of(found, "diverged runs") if c.method == method]
    assert "1 of 6 confirm runs (16.7%) diverged and count at chance level" in caveat.detail
    assert effect.cost_ratio == effect_of(found_in(study), method).cost_ratio  # it stopped early: not a saving
    assert (found.counts.diverged, found.counts.finished) == (1, True)


def test_diverged_baselines_are_told_apart() -> None:
    study = one_cell()
    found = found_in(study, changed(study, arm_runs(study, "SGD", 2)[:2], diverged_run))
    assert (effect_of(found, "SAM", "G").diverged_baseline, effect_of(found, "SAM", "E").diverged_baseline) == (2, 0)
    assert effect_of(found, "SAM", "G").diverged_method == 0


def test_a_method_that_always_diverges_hurts() -> None:
    study = one_cell()
    found = found_in(study, changed(study, arm_runs(study, "SAM"), diverged_run))
    assert effect_of(found, "SAM").verdict == "hurts"
    assert math.isnan(effect_of(found, "SAM").cost_ratio)


@pytest.mark.parametrize(
    ("seeds", "failures", "enough"), [(6, 1, True), (6, 2, False), (5, 1, False), (10, 2, True), (10, 3, False)]
)
def test_a_failed_run_leaves_its_pair_incomplete(seeds: int, failures: int, enough: bool) -> None:
    study = one_cell(confirm_seeds=seeds)
    found = found_in(study, changed(study, arm_runs(study, "SAM")[:failures], failed_run))
    effect = effect_of(found, "SAM")
    assert (effect.n, effect.planned) == (seeds - failures, seeds)
    assert (effect.verdict == "insufficient data") != enough
    (caveat, *_) = [c for c in caveats_of(found, "failed runs") if c.method == "SAM"]
    assert f"{failures} of {seeds} confirm runs" in caveat.detail
    assert found.counts.failed == failures


def test_failed_trials_are_reported_for_all_methods_that_share_them(small: Study) -> None:
    best = {chosen.trial for chosen in found_in(small).selections if chosen.method in ("SAM", "WASAM")}
    loser = next(r.run_id for r in small[1] if r.job.search == "sam" and r.job.trial not in best)
    found = found_in(small, changed(small, [loser], failed_run))
    caveats = caveats_of(found, "failed runs")
    assert [caveat.method for caveat in caveats] == ["SAM", "WASAM"]
    assert caveats[0].detail == "SAM: 1 of 4 tuning runs (25.0%) failed and measured nothing."


def test_a_study_that_only_failed(tmp_path: Path) -> None:
    study = synthetic_study(tasks=("digits",), failed=1.0, trials=2)
    found = found_in(study)
    assert {effect.verdict for effect in found.effects} == {"insufficient data"}
    assert found.selections == ()
    assert found.counts.failed == len(study[1])
    assert {caveat.kind for caveat in found.caveats} == {"failed runs"}
    assert {summary.undecided for summary in found.summaries} == {tuple(dict.fromkeys(e.cell for e in found.effects))}
    assert_round_trip(found, tmp_path)


@pytest.mark.parametrize("runs", [0, 1, 7, 20, None])
@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_planned_runs_are_counted_off_the_records_as_the_agenda_plans_them(runs: int | None, sampler: str) -> None:
    study = one_cell(runs=runs, sampler=sampler)
    assert find(*study).counts == found_in(study).counts


@pytest.mark.parametrize("runs", [0, 1, 7, 20])
def test_an_unfinished_study_says_so(runs: int, tmp_path: Path) -> None:
    study = one_cell(runs=runs)
    found = found_in(study)
    (caveat,) = caveats_of(found, "unfinished study")
    assert caveat.detail.startswith(f"{runs} of {planned_runs(*study)} planned runs have ended")
    assert not found.counts.finished
    assert "insufficient data" in {effect.verdict for effect in found.effects} or not found.effects
    assert_round_trip(found, tmp_path)


def test_a_search_under_way_has_selected_nothing() -> None:
    study = one_cell(runs=3)
    found = found_in(study)
    assert found.selections == ()
    assert found.rho_responses[0].selected_rho is None
    assert math.isnan(found.rho_responses[0].base_best)
    assert {effect.n for effect in (*found.effects, *found.averaging)} == {0}


def test_an_empty_study(tmp_path: Path) -> None:
    found = find(one_cell()[0], [], 40)
    assert (found.effects, found.averaging, found.rho_responses) == ((), (), ())
    assert [caveat.kind for caveat in found.caveats] == ["unfinished study"]
    assert all(math.isnan(summary.mean_gain) for summary in found.summaries)
    assert_round_trip(found, tmp_path)


def test_one_seed_is_not_enough(tmp_path: Path) -> None:
    found = found_in(one_cell(confirm_seeds=1))
    assert {effect.verdict for effect in found.effects} == {"insufficient data"}
    assert {effect.n for effect in found.effects} == {1}
    assert math.isnan(found.effects[0].ci95[0])
    assert found.effects[0].p_holm is None
    assert_round_trip(found, tmp_path)


def test_tpe_gives_every_method_its_own_search() -> None:
    study = one_cell(sampler="tpe", trials=3)
    found = found_in(study)
    searches = {(r.job.search, r.job.epochs_factor) for r in study[1] if r.job.stage == "tune"}
    assert searches == {("SGD", 1), ("SWA", 1), ("SAM", 1), ("WASAM", 1), ("SGD", 2)}
    assert {(s.method, s.epochs_factor) for s in found.selections} == searches
    assert all(effect.n == 6 for effect in found.effects)
    assert len(found.rho_responses[0].rho) == 2 * 3


def summary_of(gains: dict[str, float], budgets: tuple[str, ...] = ("E", "G")) -> MethodSummary:
    """Summarise SAM in a study in which it gains a given amount by budget: the baseline's epochs differ."""
    study = one_cell(gains={}, noise=0.0005, budgets=budgets, primary_budget=budgets[-1])

    def move(record: RunRecord) -> RunRecord:
        if record.job.stage == "tune" or record.job.family == "sam":
            return record
        gain = gains["G" if record.job.epochs_factor == 2 else "E"]
        return measured_anew(record, lambda m: {"test_score": m.test_score - gain} if m.test_score else {})

    found = found_in(study, [move(record) for record in study[1]])
    return next(summary for summary in found.summaries if summary.method == "SAM")


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({"E": 0.02, "G": 0.02}, "helps"),
        ({"E": 0.02, "G": 0.0}, "helps_if_free"),
        ({"E": 0.02, "G": -0.02}, "hurts"),
        ({"E": 0.0, "G": -0.02}, "hurts"),
        ({"E": 0.0, "G": 0.0}, "null"),
        ({"E": -0.02, "G": 0.0}, "null"),
        ({"E": 0.0, "G": 0.02}, "undecided"),  # more compute hurt the baseline: it would not have taken it
    ],
)
def test_a_summary_puts_each_cell_in_one_list(gains: dict[str, float], expected: str) -> None:
    summary = summary_of(gains)
    lists = {name: getattr(summary, name) for name in ("helps", "helps_if_free", "hurts", "null", "undecided")}
    assert {name for name, cells in lists.items() if cells} == {expected}
    assert summary.mean_gain == pytest.approx(gains["G"], abs=0.001)


def test_equal_epochs_alone_do_not_show_that_a_dearer_method_helps() -> None:
    assert summary_of({"E": 0.02}, budgets=("E",)).helps_if_free
    assert summary_of({"E": 0.02}, budgets=("E",)).cost_ratio == 2
    assert summary_of({"G": 0.02, "E": 0.0}, budgets=("G",)).helps


@pytest.mark.parametrize(
    ("primary", "verdict", "expected"), [("E", "helps", "helps"), ("G", "inconclusive", "undecided")]
)
def test_budgets_coincide_for_a_method_that_costs_no_more(primary: str, verdict: str, expected: str) -> None:
    """The numbers of SWA are the same under both budgets, so it is judged once, in the company of the primary one."""
    study = one_cell(gains={}, noise=0.0005, primary_budget=primary)
    gains = dict(zip(range(1000, 1006), (0.002, 0.02, 0.006, 0.016, 0.002, 0.014), strict=True))  # p = .02

    def move(record: RunRecord) -> RunRecord:
        job = record.job
        if job.stage == "tune" or job.family == "sam" or job.epochs_factor == 2:
            return record
        (last,) = (m.test_score for m in record.measurements if m.weights == "last" and m.test_score)
        low = last - 0.02
        moved = {"test_score": low + gains[job.seed]}
        return measured_anew(record, lambda m: {"test_score": low} if m.weights == "last" else moved)

    found = found_in(study, [move(record) for record in study[1]])
    assert effect_of(found, "SWA", "E").differences == effect_of(found, "SWA", "G").differences
    assert [effect_of(found, "SWA", budget).budget for budget in "EG"] == ["E", "G"]
    assert {effect_of(found, "SWA", budget).verdict for budget in "EG"} == {verdict}
    summary = next(summary for summary in found.summaries if summary.method == "SWA")
    assert getattr(summary, expected) == ("digits",)
    assert {caveat.method for caveat in caveats_of(found, "verdict depends on budget")} == {"SAM", "WASAM"}


def test_interactions_and_decay_are_read_off_the_same_values(findings: Findings) -> None:
    assert len(findings.interactions) == 8
    tuned = {(e.cell, e.method): e for e in findings.effects if e.budget == "E"}
    for found in findings.interactions:
        gains = {method: tuned[found.cell, method].mean for method in ("SWA", "SAM", "WASAM")}
        assert found.mean == pytest.approx(gains["WASAM"] - gains["SAM"] - gains["SWA"])
    assert len(findings.decay_by_averaging) == 16
    within = {(e.cell, METHODS[e.method].family): e for e in findings.averaging}
    for entry in findings.decay_by_averaging:
        effect = within[f"{entry.group} schedule={entry.schedule}", entry.family]
        assert (entry.gain, entry.gain_ci95, entry.n) == (effect.mean, effect.ci95, effect.n)
        assert entry.averaged - entry.last == pytest.approx(entry.gain)


def test_what_was_not_studied_is_left_out(small: Study) -> None:
    assert found_in(small).decay_by_averaging == ()
    found = found_in(one_cell(methods=("SGD", "SWA")))
    assert (found.interactions, found.rho_responses) == ((), ())
    assert [effect.method for effect in found.averaging] == ["SWA"]
    assert found_in(one_cell(methods=("SGD", "SAM"))).averaging == ()


def test_decay_needs_both_schedules_of_a_group() -> None:
    problems = [{"task": "digits", "factors": {"schedule": ["cosine", "constant"]}}, {"task": "mnist1d"}]
    found = found_in(one_cell(problems=problems, trials=2))
    assert len(found.averaging) == 6
    assert {entry.group for entry in found.decay_by_averaging} == {"digits"}
    assert [entry.schedule for entry in found.decay_by_averaging] == ["cosine", "constant"] * 2


def test_rho_responses_are_the_tune_runs_of_the_sam_family(study: Study, findings: Findings) -> None:
    frame = frame_of(study[1])
    tune = frame[(frame["stage"] == "tune") & frame["final"] & (frame["epochs_factor"] == 1)]
    for response in findings.rho_responses:
        rows = tune[(tune["cell"] == response.cell) & (tune["family"] == "sam")]
        last = rows[rows["weights"] == "last"].sort_values("rho")
        averaged = rows[rows["weights"] != "last"].groupby("run_id")["val_score"].max()
        assert response.rho == tuple(last["rho"])
        assert response.learning_rate == tuple(last["learning_rate"])
        assert response.last == tuple(last["val_score"])
        assert response.averaged == tuple(averaged[last["run_id"]])
        assert response.selected_rho == response.rho[response.last.index(max(response.last))]
        base = tune[(tune["cell"] == response.cell) & (tune["family"] == "base") & (tune["weights"] == "last")]
        assert response.base_best == base["val_score"].max()


def test_delta_strips_hold_the_verdict_at_five_deltas(findings: Findings) -> None:
    for strip, effect in zip(findings.delta_strips, findings.effects, strict=True):
        assert (strip.cell, strip.method, strip.budget) == (effect.cell, effect.method, effect.budget)
        assert [delta for delta, _ in strip.verdicts] == [0.00125, 0.0025, 0.005, 0.01, 0.02]
        assert dict(strip.verdicts)[0.005] == effect.verdict


def test_a_verdict_that_hangs_on_delta_is_a_caveat() -> None:
    found = found_in(one_cell(gains={"SAM": 0.006}, noise=0.0005))
    flips = {caveat.method: caveat.detail for caveat in caveats_of(found, "verdict depends on delta")}
    assert flips["SAM"] == (
        "The verdict on SAM in digits is: helps at the chosen delta, helps at half of it, and "
        "no material effect at twice it."
    )
    assert "SWA" not in flips


def test_delta_is_doubled_and_halved_under_the_primary_budget(findings: Findings) -> None:
    near = {
        (strip.cell, strip.method): [found for _, found in strip.verdicts][1:4]
        for strip in findings.delta_strips
        if strip.budget == "G"
    }
    flips = [key for key, verdicts in near.items() if len(set(verdicts)) > 1]
    caveats = caveats_of(findings, "verdict depends on delta")
    assert [(caveat.cell, caveat.method) for caveat in caveats] == flips
    assert any(half != chosen == double for half, chosen, double in near.values())
    assert any(half == chosen != double for half, chosen, double in near.values())


def test_a_verdict_that_lacks_data_under_one_budget_does_not_hang_on_it() -> None:
    study = one_cell()
    found = found_in(study, changed(study, arm_runs(study, "SGD", 2)[:2], failed_run))
    assert (effect_of(found, "SAM", "E").verdict, effect_of(found, "SAM", "G").verdict) == (
        "helps",
        "insufficient data",
    )
    assert caveats_of(found, "verdict depends on budget") == []
    assert caveats_of(found, "failed runs")[0].detail.startswith("SGD: 2 of 12 confirm runs (16.7%) failed")


def test_a_verdict_that_hangs_on_the_budget_is_a_caveat(findings: Findings) -> None:
    verdicts = {(e.cell, e.method, e.budget): e.verdict for e in findings.effects}
    flips = {(c, m) for c, m, _ in verdicts if m != "SWA" and verdicts[c, m, "E"] != verdicts[c, m, "G"]}
    caveats = caveats_of(findings, "verdict depends on budget")
    assert {(caveat.cell, caveat.method) for caveat in caveats} == flips
    assert flips
    for caveat in caveats:
        assert f"{verdicts[caveat.cell, caveat.method, 'G']} at equal gradient evaluations" in caveat.detail


def test_a_value_at_the_edge_is_a_caveat() -> None:
    search = {"sampler": "qmc", "trials": 8, "learning_rate": {"low": 0.08, "high": 0.5, "log": True}}
    spec, records = one_cell(search=search)
    found = find(spec, records, len(records))
    edges = [(s.method, name) for s in found.selections for name in s.at_edge]
    caveats = caveats_of(found, "edge of the search space")
    assert edges
    assert [caveat.method for caveat in caveats] == [method for method, _ in edges]
    assert "at the edge of the searched range from" in caveats[0].detail


def test_text_passes_through_untouched(tmp_path: Path) -> None:
    spec, records = one_cell(hostile=True)
    found = find(spec, renamed(records), len(records))
    assert found.question == HOSTILE
    assert found.devices == (HOSTILE,)
    assert {effect.cell for effect in found.effects} == {f"digits {HOSTILE}"}
    assert_round_trip(found, tmp_path)


def test_records_of_another_study_are_refused(small: Study) -> None:
    other, _ = one_cell(factors={"label_noise": 0.1})
    with pytest.raises(FindingsError, match="records of the cell 'digits' were given, which the spec 'synthetic'"):
        find(other, small[1], 1)


def test_versions_that_differ_are_all_named(small: Study) -> None:
    other = [small[1][0].model_copy(update={"versions": {"torch": "2.8.0"}}), *small[1][1:]]
    assert found_in(small, other).versions == {"numpy": "2.4.6", "torch": "2.8.0, 2.9.0"}


def assert_round_trip(findings: Findings, folder: Path) -> None:
    write_findings(folder / "findings.json", findings)
    assert repr(read_findings(folder / "findings.json")) == repr(findings)  # repr: NaN is not equal to itself


def refuse(token: str) -> float:
    raise AssertionError(f"{token} is not JSON")


def test_findings_survive_their_file(findings: Findings, study: Study, tmp_path: Path) -> None:
    assert_round_trip(findings, tmp_path)
    text = (tmp_path / "findings.json").read_bytes()
    write_findings(tmp_path / "again.json", found_in(study, study[1][::-1]))
    assert (tmp_path / "again.json").read_bytes() == text
    data = json.loads(text, parse_constant=refuse)
    assert data["effects"][0]["verdict"] == findings.effects[0].verdict
    assert data["spec"]["delta"] == findings.delta


def test_findings_of_another_version_are_refused(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    write_findings(path, replace(findings, version=1))
    with pytest.raises(FindingsError, match=r"findings of version 1; this program reads version 2; delete it and"):
        read_findings(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "findings of version None"),
        (b'{"version": 2}', "is damaged: study: Field required"),
    ],
)
def test_a_damaged_file_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    path.write_bytes(text)
    with pytest.raises(FindingsError, match=message):
        read_findings(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="can't be read: No such file or directory; delete it and have it rebuilt"):
        read_findings(tmp_path / "findings.json")


def test_the_schema_file_is_that_of_the_dataclasses() -> None:
    text = (resources.files("study.findings") / "schema.json").read_text(encoding="utf-8")
    assert text == schema_text(), "run `python -m study.findings.schema`"
    jsonschema.Draft202012Validator.check_schema(findings_schema())
    assert findings_schema()["properties"]["version"]["const"] == FINDINGS_VERSION


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"runs": 0},
        {"runs": 11},
        {"failed": 1.0},
        {"failed": 0.1, "diverged": 0.1, "hostile": True},
        {"confirm_seeds": 1},
        {"trials": 20, "hypotheses": [CLAIM]},
        {"search": PRUNING, "average_starts": [0.5]},
        {"factors": {"label_noise": [0.0, 0.1, 0.2, 0.3]}, "hypotheses": [CLAIM]},
        {"sampler": "tpe", "methods": ["SGD", "EMA", "SAM", "SAM+LAWA"]},
    ],
)
def test_every_findings_file_satisfies_the_schema(settings: dict[str, Any], tmp_path: Path) -> None:
    found = found_in(one_cell(**settings))
    assert_round_trip(found, tmp_path)
    written = json.loads((tmp_path / "findings.json").read_bytes(), parse_constant=refuse)
    jsonschema.validate(written, findings_schema())
    written["version"] = FINDINGS_VERSION + 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, findings_schema())


@pytest.mark.slow
def test_a_large_study_is_read_at_once() -> None:
    """Some 1,500 runs take half a second on an idle core; the limit leaves room for a busy one."""
    study = synthetic_study(trials=15, confirm_seeds=10, factors={"label_noise": [0, 0.1, 0.2, 0.3], **SCHEDULES})
    assert len(study[1]) > 1200
    found_in(study)  # the first time imports scikit-learn
    started = time.process_time()
    found_in(study)
    assert time.process_time() - started < 3


def test_all_three_budgets_have_words_in_every_caveat() -> None:
    """A table that lacked one of them ended a study after its last run."""
    spec, records = one_cell(
        gains={"SAM": 0.0, "WASAM": 0.0},
        budgets=("E", "G", "T"),
        reference_times={"base": 1.0, "sam": 3.0},
        confirm_seeds=5,
    )
    worse = {1.0: 0.0, 2.0: -0.1, 3.0: 0.1}
    moved = [
        measured_anew(record, lambda m, r=record: {"test_score": (m.test_score or 0.0) + worse[r.job.epochs_factor]})
        if record.job.stage == "confirm" and record.job.family == "base"
        else record
        for record in records
    ]
    (caveat,) = [c for c in caveats_of(find(spec, moved), "verdict depends on budget") if c.method == "SAM"]
    assert all(words.name in caveat.detail for words in BUDGETS.values())


def test_budgets_are_named_in_one_table() -> None:
    assert set(BUDGETS) == set(get_args(Budget))
