"""Findings: the right runs are compared, nothing is lost in silence, and the file is what was found."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import jsonschema
import numpy as np
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
from study.records import Measurement, RunRecord, configuration_of
from study.specs.budgets import BUDGETS, Budget, named
from study.specs.methods import METHODS
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


def confirm_runs(
    study: Study, name: str, length: float = 1.0, records: list[RunRecord] | None = None
) -> list[RunRecord]:
    """Return the confirm runs of what a contender picked, of those that may use a length, by replicate and seed."""
    spec, measured = study
    records = measured if records is None else records
    picked = {
        configuration_of(s) for s in find(spec, records, 1).selections
        if s.contender == name and s.lengths[-1] == length
    }  # fmt: skip
    runs = [r for r in records if r.job.stage == "confirm" and configuration_of(r.job) in picked]
    return sorted(runs, key=lambda r: (r.job.cell, r.job.replicate, r.job.seed))


def arm_runs(study: Study, name: str, length: float = 1.0) -> list[str]:
    """Return the ids of the same."""
    return [record.run_id for record in confirm_runs(study, name, length)]


def standing(record: RunRecord, *kinds: str) -> Measurement:
    """Return the weights that validation prefers at a run's end among some kinds: score, epoch, loss, simplicity."""
    final = [m for m in record.measurements if m.epoch == record.last_epoch and m.weights.partition("@")[0] in kinds]
    return min(final, key=lambda m: (
        -(m.val_score or 0), -(m.weights_epoch or m.epoch), m.val_loss, m.weights != "last", m.weights
    ))  # fmt: skip


READS = {"SGD last": ("last",), "SGD best": ("best",), "SAM": ("last", "best"), "SWA": ("last", "best", "swa"),
         "WASAM": ("last", "best", "swa")}  # fmt: skip


def scores(study: Study, name: str, metric: str = "test_score", length: float = 1.0, cell: str = "") -> list[float]:
    """Return what a contender of a study with one confirm seed scores in a cell, by replicate."""
    longer = name if length == 1.0 or name in METHODS else f"{name}, {length:g}× epochs"
    runs = [r for r in confirm_runs(study, longer, length) if not cell or r.job.cell == cell]
    return [getattr(standing(run, *READS[name]), metric) for run in runs]


def changed(study: Study, run_ids: list[str], change: Callable[[RunRecord], RunRecord]) -> list[RunRecord]:
    return [change(record) if record.run_id in run_ids else record for record in study[1]]


def measured_anew(record: RunRecord, change: Callable[[Measurement], dict[str, Any]]) -> RunRecord:
    measurements = tuple(replace(m, **change(m)) for m in record.measurements)
    return record.model_copy(update={"measurements": measurements})


def test_effects_hold_the_right_runs_against_each_other(small: Study) -> None:
    findings = found_in(small)
    assert [(e.method, e.budget) for e in findings.effects] == [
        (method, budget) for budget in ("E", "G") for method in ("SWA", "SAM", "WASAM")
    ]
    assert [effect.metric for effect in findings.descriptive] == ["test_loss"] * 6 + ["test_calibration_error"] * 6
    for effect in (*findings.effects, *findings.descriptive):
        metric, sign = effect.metric, 1 if effect.metric == "test_score" else -1
        longest = 2.0 if (effect.method, effect.budget) == ("SWA", "G") else 1.0
        method = scores(small, effect.method, metric, longest)
        against = {
            f"{base}{', 2× epochs' if length > 1 else ''}": scores(small, base, metric, length)
            for length in ((1.0,) if effect.budget == "E" else (1.0, 2.0))
            for base in ("SGD last", "SGD best")
        }
        assert (effect.units, effect.unit) == (tuple(range(1, 7)), "replicate")
        assert effect.n == effect.planned == 6
        assert effect.method_values == pytest.approx(method, abs=1e-12)
        means = {name: sign * (fmean(method) - fmean(values)) for name, values in against.items()}
        assert {found.baseline: found.mean for found in effect.against} == pytest.approx(means)
        # The strongest is that with the smallest gain over it: interval and gain are those against it.
        assert means[effect.baseline] == pytest.approx(min(means.values()))
        assert effect.baseline_values == pytest.approx(against[effect.baseline], abs=1e-12)
        expected = [sign * (a - b) for a, b in zip(method, against[effect.baseline], strict=True)]
        assert effect.differences == pytest.approx(expected, abs=1e-12)


def test_a_replicate_is_the_mean_of_its_confirm_seeds() -> None:
    study = one_cell(confirms=3, replicates=5)
    effect = effect_of(found_in(study), "SAM")
    runs, base = confirm_runs(study, "SAM"), confirm_runs(study, effect.baseline)
    assert (effect.n, effect.planned, len(runs)) == (5, 5, 15)
    for number, gain in zip(effect.units, effect.differences, strict=True):
        gains = [
            (standing(a, "last", "best").test_score or 0) - (standing(b, *READS[effect.baseline]).test_score or 0)
            for a, b in zip(runs, base, strict=True)
            if a.job.replicate == number
        ]
        assert gain == pytest.approx(fmean(gains))


def test_the_number_of_candidates_is_told(small: Study) -> None:
    """Six points of the synthetic curve, the last included; and every average of a method that averages."""
    counted = {e.method: e.candidates for e in found_in(small).effects if e.budget == "E"}
    assert counted == {"SAM": 6, "SWA": 6 + 5, "WASAM": 6 + 5}


def test_calibration_is_compared_where_it_is_measured(small: Study) -> None:
    """A task that is no classification has none, and neither has a run that diverged."""
    without = [
        measured_anew(record, lambda m: {"val_calibration_error": None, "test_calibration_error": None})
        for record in small[1]
    ]
    found, none = found_in(small), found_in(small, without)
    assert {effect.metric for effect in none.descriptive} == {"test_loss"}
    assert repr(none.effects) == repr(found.effects)
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


def test_each_method_is_a_holm_family_in_each_budget(findings: Findings) -> None:
    """One family a method: a method that helps in no cell is said to help somewhere in at most 5 % of studies."""
    for method in ("SWA", "SAM", "WASAM"):
        for budget in ("E", "G"):
            family = [e for e in findings.effects if (e.budget, e.method) == (budget, method)]
            assert len(family) == 8
            smallest = min(family, key=lambda effect: effect.p)
            assert smallest.p_holm == pytest.approx(min(1, len(family) * smallest.p))
    assert all(effect.p_holm is None for effect in findings.descriptive)
    assert {effect.verdict for effect in findings.descriptive} == {"inconclusive"}
    mechanism = min(findings.averaging, key=lambda effect: effect.p)
    assert mechanism.p_holm == pytest.approx(min(1, len(findings.averaging) * mechanism.p))
    for pair in {(e.method, e.baseline) for e in findings.direct}:
        family = [e for e in findings.direct if (e.method, e.baseline) == pair]
        smallest = min(family, key=lambda effect: effect.p)
        assert smallest.p_holm == pytest.approx(min(1, len(family) * smallest.p))
    assert {(e.method, e.baseline) for e in findings.direct} == {("SAM", "SWA"), ("WASAM", "SAM"), ("WASAM", "SWA")}


def test_costs_are_gradient_evaluations(findings: Findings) -> None:
    for effect in findings.effects:
        longer = "2×" in effect.baseline
        if effect.method != "SWA" and effect.budget == "E":
            assert not longer
            assert 1 <= effect.cost_ratio <= 2  # 2 but for picks with rho = 0
        if effect.method == "SAM":
            same = next(e for e in findings.effects if (e.cell, e.method, e.budget) == (effect.cell, "SAM", "E"))
            assert effect.cost_ratio == pytest.approx(same.cost_ratio / (2 if longer else 1))
    assert [round(summary.cost_ratio) for summary in findings.summaries] == [1, 2, 2]


def test_the_order_of_the_records_does_not_matter(study: Study, findings: Findings) -> None:
    assert repr(found_in(study, study[1][::-1])) == repr(findings)


def test_the_tune_stage_never_gives_a_test_number(small: Study) -> None:
    tuned = [record.run_id for record in small[1] if record.job.stage == "tune"]
    lie = {"test_score": 1.0, "test_loss": 0.0}
    poisoned = changed(small, tuned, lambda record: measured_anew(record, lambda m: lie))
    assert repr(found_in(small, poisoned)) == repr(found_in(small))


def test_the_confirm_stage_never_selects_a_configuration(small: Study) -> None:
    confirmed = [record.run_id for record in small[1] if record.job.stage == "confirm"]
    lie = {"val_score": 1.0, "val_loss": 0.0}
    poisoned = changed(small, confirmed, lambda record: measured_anew(record, lambda m: lie))
    assert found_in(small, poisoned).selections == found_in(small).selections


def test_weights_are_chosen_anew_in_every_confirm_run(small: Study) -> None:
    """What tuning liked of a run, its epoch or its average, is no part of what is carried over."""

    def tamper(record: RunRecord) -> RunRecord:
        final = [m for m in record.measurements if m.epoch == record.job.epochs]
        liked = max(final, key=lambda m: (m.val_score or 0, m.weights != "last"))

        def other(m: Measurement) -> dict[str, Any]:
            return {"weights_epoch": 1 + (m.weights_epoch or 0) % record.job.epochs} if m.weights == "best" else {}

        # Two averages change places: equal scores at equal settings, under the names of each other.
        names = {"swa@0.5": "swa@0.9", "swa@0.9": "swa@0.5"}
        assert liked.val_score is not None
        return measured_anew(record, lambda m: other(m) | {"weights": names.get(m.weights, m.weights)})

    tuned = [record.run_id for record in small[1] if record.job.stage == "tune"]
    before, after = found_in(small), found_in(small, changed(small, tuned, tamper))
    told = [(s.weights, s.weights_epoch) for s in before.selections]
    assert [(s.weights, s.weights_epoch) for s in after.selections] != told
    picked = [
        [(s.contender, s.replicate, s.trial, s.epochs_factor) for s in found.selections] for found in (before, after)
    ]
    assert picked[0] == picked[1]
    assert repr((after.effects, after.averaging, after.direct)) == repr(
        (before.effects, before.averaging, before.direct)
    )


def test_a_run_stands_by_what_its_own_validation_prefers(small: Study) -> None:
    """Moving a confirm run's validation moves its weights, and no other run's."""
    victim = confirm_runs(small, "WASAM")[2]
    liked = next(m.weights for m in victim.measurements if m.test_score and m.weights.startswith("swa"))
    up = changed(
        small, [victim.run_id], lambda r: measured_anew(r, lambda m: {"val_score": 1.0} if m.weights == liked else {})
    )
    number = victim.job.replicate
    (of_liked,) = (m.test_score for m in victim.measurements if (m.weights, m.epoch) == (liked, victim.job.epochs))
    before, after = (effect_of(found_in(small, records), "WASAM").method_values for records in (small[1], up))
    assert after[number - 1] == of_liked
    assert [v for k, v in enumerate(after) if k != number - 1] == [v for k, v in enumerate(before) if k != number - 1]


def test_only_the_last_epoch_counts(small: Study) -> None:
    """Earlier epochs enter as the best of them, which stands at the last one."""

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
        runs = confirm_runs(small, effect.method)
        assert effect.method_values == tuple(standing(run, "swa").test_score for run in runs)
        assert effect.baseline_values == tuple(standing(run, "last").test_score for run in runs)
        assert effect.cost_ratio == 1


def test_where_validation_prefers_the_last_weights_it_still_names_the_average(small: Study) -> None:
    """Validation likes no average, one of them a little better; on the test set another one shines."""
    scored = {"swa@0.75": 0.02}

    def prefer_last(record: RunRecord) -> RunRecord:
        """Validate every average badly; what has been tested goes by the name that is then the best of its kind."""
        tested = next((m for m in record.measurements if m.weights.startswith("swa") and m.test_score), None)
        names = {tested.weights: "swa@0.75", "swa@0.75": tested.weights} if tested else {}
        renamed = measured_anew(record, lambda m: {"weights": names.get(m.weights, m.weights)})
        return measured_anew(
            renamed,
            lambda m: {"val_score": scored.get(m.weights, 0.01)} if m.weights.startswith("swa") else {},
        )

    records = [prefer_last(record) if record.job.stage == "confirm" else record for record in small[1]]
    found = find(small[0], records, len(records))
    runs = confirm_runs(small, "SWA", records=records)
    assert effect_of(found, "SWA").method_values == tuple(standing(run, "last", "best").test_score for run in runs)
    for effect in found.averaging:
        runs = confirm_runs(small, effect.method, records=records)
        assert effect.n == 6
        assert effect.method_values == tuple(standing(run, "swa").test_score for run in runs)
        assert {standing(run, "swa").weights for run in runs} == {"swa@0.75"}
        assert effect.baseline_values == tuple(standing(run, "last").test_score for run in runs)


@pytest.mark.parametrize("method", ["SAM", "SWA"])
def test_a_diverged_run_counts_at_chance_level(method: str) -> None:
    study = one_cell(replicates=6)
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
    victims = arm_runs(study, "SGD last")[1:2] + arm_runs(study, "SGD best")[1:2]
    found = found_in(study, changed(study, victims, diverged_run))
    assert effect_of(found, "SAM", "E").diverged_baseline == 1
    assert effect_of(found, "SAM", "E").n == 6
    (longer,) = (one for one in effect_of(found, "SAM", "G").against if one.baseline == "SGD best, 2× epochs")
    before = {one.baseline: one for one in effect_of(found_in(study), "SAM", "G").against}
    assert longer == before[longer.baseline]  # at the other length nothing diverged
    assert {effect_of(found, "SAM", budget).diverged_method for budget in "EG"} == {0}


def test_a_baseline_that_fails_to_train_is_not_the_strongest() -> None:
    study = one_cell()
    found = found_in(study, changed(study, arm_runs(study, "SGD last, 2× epochs", 2.0), diverged_run))
    effect = effect_of(found, "SAM", "G")
    gains = {one.baseline: one.mean for one in effect.against}
    assert gains["SGD last, 2× epochs"] == max(gains.values()) > 0.4
    assert effect.baseline != "SGD last, 2× epochs"


def test_a_method_that_always_diverges_hurts() -> None:
    study = one_cell()
    found = found_in(study, changed(study, arm_runs(study, "SAM"), diverged_run))
    assert effect_of(found, "SAM").verdict == "hurts"
    assert math.isnan(effect_of(found, "SAM").cost_ratio)


@pytest.mark.parametrize(
    ("seeds", "failures", "enough"), [(6, 1, True), (6, 2, False), (5, 1, False), (10, 2, True), (10, 3, False)]
)
def test_a_failed_run_leaves_its_pair_incomplete(seeds: int, failures: int, enough: bool) -> None:
    study = one_cell(replicates=seeds)
    found = found_in(study, changed(study, arm_runs(study, "SAM")[:failures], failed_run))
    effect = effect_of(found, "SAM")
    assert (effect.n, effect.planned) == (seeds - failures, seeds)
    assert (effect.verdict == "insufficient data") != enough
    (caveat, *_) = [c for c in caveats_of(found, "failed runs") if c.method == "SAM"]
    assert f"{failures} of {seeds} confirm runs" in caveat.detail
    assert found.counts.failed == failures


def test_failed_trials_are_reported_for_all_methods_that_share_them(small: Study) -> None:
    best = {(s.replicate, s.trial) for s in found_in(small).selections if s.method in ("SAM", "WASAM")}
    loser = next(r.run_id for r in small[1] if r.job.search == "sam" and (r.job.replicate, r.job.trial) not in best)
    found = found_in(small, changed(small, [loser], failed_run))
    caveats = caveats_of(found, "failed runs")
    assert [caveat.method for caveat in caveats] == ["SAM", "WASAM"]
    assert caveats[0].detail == "SAM: 1 of 24 tuning runs (4.2%) failed and measured nothing."


def test_a_study_that_only_failed(tmp_path: Path) -> None:
    study = synthetic_study(tasks=("digits",), failed=1.0, trials=2)
    found = found_in(study)
    assert {effect.verdict for effect in found.effects} == {"insufficient data"}
    assert found.selections == ()
    assert found.counts.failed == len(study[1])
    assert {caveat.kind for caveat in found.caveats} == {"failed runs", "few replicates"}
    assert {summary.undecided for summary in found.summaries} == {tuple(dict.fromkeys(e.cell for e in found.effects))}
    assert_round_trip(found, tmp_path)


@pytest.mark.parametrize("runs", [0, 1, 7, 20, None])
@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_planned_runs_are_counted_off_the_records_as_the_agenda_plans_them(runs: int | None, sampler: str) -> None:
    study = one_cell(runs=runs, sampler=sampler, trials=8, replicates=2)
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
    assert found.rho_responses[0].selected_rho == ()
    assert math.isnan(found.rho_responses[0].base_best)
    assert {effect.n for effect in (*found.effects, *found.averaging)} == {0}


def test_an_empty_study(tmp_path: Path) -> None:
    found = find(one_cell()[0], [], 40)
    assert (found.effects, found.averaging, found.rho_responses) == ((), (), ())
    assert [caveat.kind for caveat in found.caveats] == ["few replicates", "unfinished study"]
    assert all(math.isnan(summary.cost_ratio) for summary in found.summaries)
    assert_round_trip(found, tmp_path)


def test_one_seed_is_not_enough(tmp_path: Path) -> None:
    found = found_in(one_cell(replicates=1))
    assert {effect.verdict for effect in found.effects} == {"insufficient data"}
    assert {effect.n for effect in found.effects} == {1}
    assert math.isnan(found.effects[0].ci95[0])
    assert found.effects[0].p_holm is None
    assert_round_trip(found, tmp_path)


@pytest.mark.parametrize(
    ("replicates", "kinds", "verdicts"),
    [
        (1, ["one tuning"], True), (2, ["few replicates"], False), (4, ["few replicates"], False),
        (5, ["few replicates"], True), (7, ["few replicates"], True), (8, [], True),
    ],
)  # fmt: skip
def test_few_replicates_are_told_and_fewer_than_five_give_no_verdict(
    replicates: int, kinds: list[str], verdicts: bool
) -> None:
    found = found_in(one_cell(replicates=replicates, confirms=5))
    assert [c.kind for c in found.caveats if c.kind in ("one tuning", "few replicates", "protocol 1")] == kinds
    assert ({effect.verdict for effect in found.effects} == {"insufficient data"}) != verdicts
    assert {effect.unit for effect in found.effects} == {"seed" if replicates == 1 else "replicate"}
    assert {effect.n for effect in found.effects} == {5 if replicates == 1 else replicates}
    assert all(0 < e.p_holm <= 1 for e in found.effects if e.p_holm is not None)


def test_tpe_gives_every_contender_its_own_search() -> None:
    study = one_cell(sampler="tpe", trials=8, replicates=5)
    found = found_in(study)
    tuned = Counter((r.job.search, r.job.epochs_factor) for r in study[1] if r.job.stage == "tune")
    plain = ("SGD last", "SGD best", "SWA")
    assert tuned == {(name, 1): 40 for name in (*plain, "SAM", "WASAM")} | {(name, 2): 20 for name in plain}
    assert {s.contender for s in found.selections} == {
        *plain, "SAM", "WASAM", "SGD last, 2× epochs", "SGD best, 2× epochs"
    }  # fmt: skip
    assert all(effect.n == 5 for effect in found.effects)
    assert len(found.rho_responses[0].rho) == 2 * 40


def summary_of(gains: dict[str, float], budgets: tuple[str, ...] = ("E", "G")) -> MethodSummary:
    """Summarise SAM in a study in which it gains a given amount over the base at its own epochs, and at twice them."""
    study = one_cell(gains={}, noise=0.0005, budgets=budgets, primary_budget=budgets[-1])

    def move(record: RunRecord) -> RunRecord:
        if record.job.stage == "tune" or record.job.family == "sam":
            return record
        gain = gains["2x" if record.job.epochs_factor == 2 else "1x"]
        return measured_anew(record, lambda m: {"test_score": m.test_score - gain} if m.test_score else {})

    found = found_in(study, [move(record) for record in study[1]])
    return next(summary for summary in found.summaries if summary.method == "SAM")


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({"1x": 0.02, "2x": 0.02}, "helps"),
        ({"1x": 0.02, "2x": 0.0}, "helps_if_free"),
        ({"1x": 0.02, "2x": -0.02}, "hurts"),
        ({"1x": 0.0, "2x": -0.02}, "hurts"),
        ({"1x": 0.0, "2x": 0.0}, "null"),
        # A budget is a ceiling: more compute that hurt the baseline is compute that it would not have spent.
        ({"1x": -0.02, "2x": 0.0}, "hurts"),
        ({"1x": 0.0, "2x": 0.02}, "null"),
        ({"1x": 0.02, "2x": 0.1}, "helps"),
    ],
)
def test_a_summary_puts_each_cell_in_one_list(gains: dict[str, float], expected: str) -> None:
    summary = summary_of(gains)
    lists = {name: getattr(summary, name) for name in ("helps", "helps_if_free", "hurts", "null", "undecided")}
    assert {name for name, cells in lists.items() if cells} == {expected}


def test_equal_epochs_alone_do_not_show_that_a_dearer_method_helps() -> None:
    assert summary_of({"1x": 0.02}, budgets=("E",)).helps_if_free
    assert 1 < summary_of({"1x": 0.02}, budgets=("E",)).cost_ratio <= 2
    assert summary_of({"1x": 0.02, "2x": 0.02}, budgets=("G",)).helps


@pytest.mark.parametrize("primary", ["E", "G"])
def test_budgets_coincide_where_the_ceiling_buys_nothing_more(primary: str) -> None:
    """The numbers are then the same under both budgets, so they are judged once."""
    study = one_cell(methods=("SGD", "SWA"), gradient_ceiling=1.0, primary_budget=primary, gains={"SWA": 0.02})
    found = found_in(study)
    one, other = (effect_of(found, "SWA", budget) for budget in "EG")
    assert repr(replace(one, budget="G")) == repr(other)
    assert [len(effect.against) for effect in (one, other)] == [2, 2]
    (summary,) = found.summaries
    assert summary.helps == ("digits",)  # also at equal epochs: it costs no more
    assert caveats_of(found, "verdict depends on budget") == []


def test_interactions_are_of_the_four_corners_at_equal_epochs(small: Study) -> None:
    """With the base at its best epoch, whichever baseline is the strongest elsewhere."""
    (found,) = found_in(small).interactions
    base, swa, sam, wasam = (scores(small, name) for name in ("SGD best", "SWA", "SAM", "WASAM"))
    differences = [d - c - b + a for a, b, c, d in zip(base, swa, sam, wasam, strict=True)]
    assert found.n == 6
    assert found.mean == pytest.approx(fmean(differences))
    assert dict(found.means) == pytest.approx(
        {"SGD": fmean(base), "SWA": fmean(swa), "SAM": fmean(sam), "WASAM": fmean(wasam)}
    )


def test_two_factors_of_two_levels_get_their_interaction_replicate_by_replicate(findings: Findings) -> None:
    found = {(entry.task, entry.method): entry for entry in findings.factor_interactions}
    assert set(found) == {(task, method) for task in ("digits", "mnist1d") for method in ("SWA", "SAM", "WASAM")}
    for (task, method), entry in found.items():
        assert entry.factors == ("label_noise", "schedule")
        assert entry.levels == ((0.0, 0.3), ("cosine", "constant"))
        gains = {
            tuple(dict(e.factors).values()): np.array(e.differences)
            for e in findings.effects
            if (e.task, e.method, e.budget) == (task, method, "G")
        }
        by_replicate = gains[0.3, "constant"] - gains[0.0, "constant"] - gains[0.3, "cosine"] + gains[0.0, "cosine"]
        assert (entry.n, entry.mean) == (6, pytest.approx(by_replicate.mean()))


def test_what_was_not_studied_is_left_out(small: Study) -> None:
    found = found_in(one_cell(methods=("SGD", "SWA")))
    assert (found.interactions, found.rho_responses) == ((), ())
    assert [effect.method for effect in found.averaging] == ["SWA"]
    assert found_in(one_cell(methods=("SGD", "SAM"))).averaging == ()


def test_rho_responses_are_the_tune_runs_of_the_sam_family(study: Study, findings: Findings) -> None:
    frame = frame_of(study[1])
    tune = frame[(frame["stage"] == "tune") & frame["final"] & (frame["epochs_factor"] == 1)]
    for response in findings.rho_responses:
        rows = tune[(tune["cell"] == response.cell) & (tune["family"] == "sam")]
        last = rows[rows["weights"] == "last"].sort_values(["rho", "learning_rate"])
        averaged = rows[rows["weights"].str.startswith("swa")].groupby("run_id")["val_score"].max()
        assert response.rho == tuple(last["rho"])
        assert response.learning_rate == tuple(last["learning_rate"])
        assert response.last == tuple(last["val_score"])
        assert response.averaged == tuple(averaged[last["run_id"]])
        picked = [s for s in findings.selections if (s.cell, s.contender) == (response.cell, "SAM")]
        assert response.selected_rho == tuple(s.rho for s in picked)
        assert [s.replicate for s in picked] == list(range(1, 7))
        base = tune[(tune["cell"] == response.cell) & (tune["family"] == "base") & (tune["weights"] == "best")]
        assert response.base_best == pytest.approx(base.groupby("replicate")["val_score"].max().mean())


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
    found = found_in(study, changed(study, arm_runs(study, "SGD last, 2× epochs", 2.0)[:2], failed_run))
    assert (effect_of(found, "SAM", "E").verdict, effect_of(found, "SAM", "G").verdict) == (
        "helps",
        "insufficient data",
    )
    assert caveats_of(found, "verdict depends on budget") == []
    assert caveats_of(found, "failed runs")[0].detail.startswith("SGD: 2 of ")


def test_a_verdict_that_hangs_on_the_budget_is_a_caveat(findings: Findings) -> None:
    verdicts = {(e.cell, e.method, e.budget): e.verdict for e in findings.effects}
    flips = {(c, m) for c, m, _ in verdicts if verdicts[c, m, "E"] != verdicts[c, m, "G"]}
    caveats = caveats_of(findings, "verdict depends on budget")
    assert {(caveat.cell, caveat.method) for caveat in caveats} == flips
    assert flips
    for caveat in caveats:
        assert f"{verdicts[caveat.cell, caveat.method, 'G']} at up to 2× the gradient evaluations" in caveat.detail


def test_a_value_at_the_edge_in_half_of_the_replicates_is_a_caveat() -> None:
    search = {"sampler": "qmc", "trials": 32, "learning_rate": {"low": 0.08, "high": 0.5, "log": True}}
    spec, records = one_cell(search=search, noise=0.0005)
    found = find(spec, records, len(records))
    edges = Counter((s.contender, s.lengths) for s in found.selections if "learning_rate" in s.at_edge)
    wanted = {
        f"Validation picked learning_rate for {name} in digits in {times} of 6 replicates at the edge of the searched "
        "range from 0.08 to 0.5; a better value may lie outside."
        for (name, _), times in edges.items()
        if times >= 3
    }
    told = [c.detail for c in caveats_of(found, "edge of the search space") if "learning_rate" in c.detail]
    assert len(told) == len(wanted) > 0
    assert set(told) == wanted


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
    with pytest.raises(FindingsError, match=r"version: Input should be 5 \(1 was given\); delete it and"):
        read_findings(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[1, 2]", "holds no findings of this version"),
        (b'{"version": 5}', "study: Field required"),
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
        {"replicates": 1},
        {"trials": 20, "hypotheses": [CLAIM]},
        {"search": PRUNING, "average_starts": [0.5]},
        {"factors": {"label_noise": [0.0, 0.1, 0.2, 0.3]}, "hypotheses": [CLAIM]},
        {"sampler": "tpe", "trials": 8, "methods": ["SGD", "EMA", "SAM", "SAM+LAWA"]},
    ],
)
@pytest.mark.slow
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
    study = synthetic_study(trials=15, replicates=10, factors={"label_noise": [0, 0.1, 0.2, 0.3], **SCHEDULES})
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
        replicates=5,
    )
    worse = {1.0: 0.0, 2.0: -0.1, 3.0: 0.1}
    moved = [
        measured_anew(record, lambda m, r=record: {"test_score": (m.test_score or 0.0) + worse[r.job.epochs_factor]})
        if record.job.stage == "confirm" and record.job.family == "base"
        else record
        for record in records
    ]
    (caveat,) = [c for c in caveats_of(find(spec, moved), "verdict depends on budget") if c.method == "SAM"]
    assert all(named(budget, spec.gradient_ceiling).name in caveat.detail for budget in BUDGETS)


def test_budgets_are_named_in_one_table() -> None:
    assert set(BUDGETS) == set(get_args(Budget))
