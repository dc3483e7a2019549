"""Hypotheses: the rules edge by edge, and every kind against numbers looked up or worked out by hand."""

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic import failed_run, planned_runs, synthetic_lines, synthetic_study

from study.findings import Findings, HypothesisResult, find
from study.findings.evidence import Cell, Evidence
from study.findings.hypotheses import KINDS, decide
from study.findings.quantities import Material, barrier, minimizer_distance, parts
from study.records import LineRecord, RunRecord
from study.specs.spec import Hypothesis, StudySpec
from study.stats import Contrast, Effect, Estimate, compare, estimate, robust_slopes

MARGIN = 0.005
NOISES = [0.0, 0.1, 0.2, 0.3]
EFFECT = compare(Contrast("c", "digits", (), "tuned", "SAM", "SGD", "E", "test_score"), {}, {}, planned=6, alpha=0.05)
EVIDENCE = Evidence(synthetic_study(runs=0)[0], (Cell("c", "digits", ()),), {}, {}, {})


def claim(kind: str, expected: str = "+", **keys: Any) -> dict[str, Any]:
    return {"id": kind, "claim": "It is so.", "kind": kind, "method": "SAM", "expected": expected} | keys


def study_of(*claims: dict[str, Any], **settings: Any) -> tuple[StudySpec, list[RunRecord]]:
    defaults: dict[str, Any] = {"tasks": ("digits",), "factors": {"label_noise": NOISES}, "trials": 2}
    return synthetic_study(**(defaults | settings), hypotheses=claims)


def found_in(study: tuple[StudySpec, list[RunRecord]], **lines: Any) -> Findings:
    return find(*study, planned_runs(*study), **lines)


def result_of(*claims: dict[str, Any], **settings: Any) -> tuple[HypothesisResult, Findings]:
    found = found_in(study_of(*claims, **settings))
    return found.hypotheses[0], found


def effects_of(found: Findings, method: str, budget: str = "E") -> list[Effect]:
    return [effect for effect in found.effects if (effect.method, effect.budget) == (method, budget)]


def gains_of(found: Findings, method: str, budget: str = "E") -> np.ndarray:
    """Return gains, cells × seeds."""
    return np.array([effect.differences for effect in effects_of(found, method, budget)])


def assert_is_mean_of(result: HypothesisResult, per_seed: np.ndarray) -> None:
    reference = stats.ttest_1samp(per_seed, 0)
    assert result.estimate == pytest.approx(per_seed.mean(), abs=1e-9)
    assert result.ci95 == pytest.approx(tuple(reference.confidence_interval(0.95)), abs=1e-9)
    assert result.ci90 == pytest.approx(tuple(reference.confidence_interval(0.90)), abs=1e-9)
    assert (result.n, result.unit) == (len(per_seed), "seeds")


def stated(low95: float, low90: float, high90: float, high95: float, p: float | None = None) -> Estimate:
    excludes_zero = low95 > 0 or high95 < 0
    return Estimate(
        6, (low90 + high90) / 2, 0.01, (low95, high95), (low90, high90), p or (0.01 if excludes_zero else 0.3)
    )


WIDE = (-0.02, -0.01, 0.02, 0.03)


@pytest.mark.parametrize(
    ("ends", "expected", "outcome"),
    [
        ((0.001, 0.002, 0.02, 0.03), "+", "reproduced"),
        ((0.0, 0.001, 0.02, 0.03), "+", "inconclusive"),
        ((-0.03, -0.02, -0.002, -0.001), "+", "contradicted"),
        ((-0.006, -0.0049, 0.0049, 0.006), "+", "contradicted"),
        ((-0.006, -0.005, 0.0049, 0.006), "+", "inconclusive"),
        ((0.001, 0.0012, 0.004, 0.0045), "+", "reproduced"),  # as claimed, though too small to matter
        (WIDE, "+", "inconclusive"),
        ((-0.03, -0.02, -0.002, -0.001), "-", "reproduced"),
        ((0.001, 0.002, 0.02, 0.03), "-", "contradicted"),
        ((-0.006, -0.0049, 0.0049, 0.006), "-", "contradicted"),
        (WIDE, "-", "inconclusive"),
        ((-0.006, -0.0049, 0.0049, 0.006), "0", "reproduced"),
        ((0.001, 0.0012, 0.004, 0.0045), "0", "reproduced"),
        ((0.0051, 0.006, 0.02, 0.03), "0", "contradicted"),
        ((-0.03, -0.02, -0.006, -0.0051), "0", "contradicted"),
        ((0.004, 0.0051, 0.02, 0.03), "0", "inconclusive"),
        (WIDE, "0", "inconclusive"),
        ((-0.006, -0.0049, 0.02, 0.03), ">=", "reproduced"),
        ((-0.006, -0.005, 0.02, 0.03), ">=", "inconclusive"),
        ((-0.03, -0.02, -0.006, -0.0051), ">=", "contradicted"),
        ((-0.03, -0.02, -0.006, -0.004), ">=", "inconclusive"),
        ((math.nan,) * 4, "+", "inconclusive"),
        ((math.nan,) * 4, "0", "inconclusive"),
        ((math.nan,) * 4, ">=", "inconclusive"),
    ],
)
def test_the_rules(ends: tuple[float, float, float, float], expected: str, outcome: str) -> None:
    assert decide(stated(*ends), expected, MARGIN) == outcome


def test_what_is_never_negative_must_exceed_its_margin() -> None:
    assert decide(stated(0.001, 0.0012, 0.004, 0.0045), "+", MARGIN, never_negative=True) == "contradicted"
    assert decide(stated(0.004, 0.0051, 0.02, 0.03), "+", MARGIN, never_negative=True) == "inconclusive"
    assert decide(stated(0.0051, 0.006, 0.02, 0.03), "+", MARGIN, never_negative=True) == "reproduced"


def test_five_equal_differences_are_no_proof() -> None:
    assert decide(estimate([0.01] * 5), "+", MARGIN) == "inconclusive"
    assert decide(estimate([0.01] * 6), "+", MARGIN) == "reproduced"
    assert decide(estimate([0.0] * 6), "+", MARGIN) == "contradicted"


@given(st.lists(st.integers(-60, 60).map(lambda k: k / 1000), min_size=2, max_size=8), st.sampled_from("+-0"))
def test_mirrored_numbers_mirror_the_claim(values: list[float], expected: str) -> None:
    mirrored = {"+": "-", "-": "+", "0": "0"}[expected]
    assert decide(estimate(values), expected, MARGIN) == decide(estimate([-v for v in values]), mirrored, MARGIN)


def test_every_kind_of_the_spec_is_evaluated() -> None:
    assert set(get_args(Hypothesis.model_fields["kind"].annotation)) == set(KINDS)


@pytest.mark.parametrize("budget", ["E", "G"])
def test_gain_averages_over_cells_seed_by_seed(budget: str) -> None:
    result, found = result_of(claim("gain", budget=budget))
    assert_is_mean_of(result, gains_of(found, "SAM", budget).mean(axis=0))
    assert (result.outcome, result.cells, result.margin) == ("reproduced", 4, 0.005)


def test_a_claim_of_no_gain_and_a_claim_of_loss() -> None:
    settings: dict[str, Any] = {"gains": {"SAM": -0.03}, "noise": 0.001}
    assert result_of(claim("gain", "0", method="SWA"), **settings)[0].outcome == "reproduced"
    assert result_of(claim("gain", "0"), **settings)[0].outcome == "contradicted"
    assert result_of(claim("gain", "-"), **settings)[0].outcome == "reproduced"
    assert result_of(claim("gain", ">="), **settings)[0].outcome == "contradicted"


def test_difference_holds_two_methods_against_each_other() -> None:
    result, found = result_of(claim("difference", method="WASAM", other="SAM", budget="G"))
    assert_is_mean_of(result, (gains_of(found, "WASAM", "G") - gains_of(found, "SAM", "G")).mean(axis=0))
    for other in ("baseline", "SGD"):
        alone, found = result_of(claim("difference", other=other))
        assert_is_mean_of(alone, gains_of(found, "SAM").mean(axis=0))


def test_budget_is_what_twice_the_epochs_give_the_baseline() -> None:
    result, found = result_of(claim("budget", "-"))
    assert_is_mean_of(result, (gains_of(found, "SAM", "E") - gains_of(found, "SAM", "G")).mean(axis=0))


def test_slope_is_least_squares_seed_by_seed() -> None:
    result, found = result_of(claim("slope", factor="label_noise"))
    per_seed = np.polyfit(NOISES, gains_of(found, "SAM"), 1)[0]
    assert_is_mean_of(result, per_seed)
    assert result.outcome == "reproduced"
    assert result.margin == pytest.approx(0.005 / 0.3)
    assert "(HC3 on 4 cell means)" in result.note
    assert result.note.endswith("in units of the score (accuracy: a fraction) per unit of label_noise.")


def test_slope_is_adjusted_for_the_other_factors() -> None:
    """An unbalanced design: the schedule is constant at the noisy end only, and has an effect of its own."""
    problems = [
        {"task": "digits", "factors": {"label_noise": [0.0, 0.1]}},
        {"task": "digits", "factors": {"label_noise": [0.2, 0.3], "schedule": "constant"}},
        {"task": "digits", "factors": {"label_noise": 0.3}},
    ]
    result, found = result_of(claim("slope", factor="label_noise"), problems=problems)
    effects = effects_of(found, "SAM")
    design = [[1, dict(e.factors)["label_noise"], dict(e.factors)["schedule"] == "constant"] for e in effects]
    per_seed = np.linalg.lstsq(np.array(design, dtype=float), gains_of(found, "SAM"))[0][1]
    assert_is_mean_of(result, per_seed)


@pytest.mark.parametrize("kind", ["contrast", "averaging"])
def test_contrast_is_the_second_value_minus_the_first(kind: str) -> None:
    factors = {
        "label_noise": [0.0, 0.3],
        "schedule": [
            "cosine",
            "constant",
        ],
    }
    result, found = result_of(claim(kind, factor="schedule", method="WASAM"), factors=factors)
    effects = [e for e in found.averaging if e.method == "WASAM"] if kind == "averaging" else effects_of(found, "WASAM")
    gains = {(dict(e.factors)["label_noise"], dict(e.factors)["schedule"]): np.array(e.differences) for e in effects}
    per_seed = sum(gains[noise, "constant"] - gains[noise, "cosine"] for noise in (0.0, 0.3)) / 2
    assert_is_mean_of(result, per_seed)
    assert (result.cells, result.margin) == (4, 0.005)


def test_contrast_reads_the_first_two_values() -> None:
    result, found = result_of(claim("contrast", "-", factor="label_noise"), factors={"label_noise": [0.3, 0.0, 0.1]})
    first, second, _ = gains_of(found, "SAM")
    assert_is_mean_of(result, second - first)
    assert (result.outcome, result.cells) == ("reproduced", 2)


def test_averaging_of_last_weights_is_that_of_their_family() -> None:
    by_average = result_of(claim("averaging", factor="label_noise", method="SWA"))[0]
    by_last = result_of(claim("averaging", factor="label_noise", method="SGD"))[0]
    assert (by_last.estimate, by_last.ci95) == (by_average.estimate, by_average.ci95)
    assert math.isfinite(by_last.estimate)


@pytest.mark.parametrize("other", ["SGD", "baseline", "SAM"])
def test_sharpness_is_a_log_ratio_of_paired_probes(other: str) -> None:
    spec, records = study_of(claim("sharpness", "-", method="WASAM", other=other))
    found = find(spec, records, len(records))
    chosen = {(s.cell, s.method): s for s in found.selections if s.epochs_factor == 1}
    logs = {}
    for name in ("WASAM", "SGD" if other == "baseline" else other):
        for cell in dict.fromkeys(e.cell for e in found.effects):
            pick = chosen[cell, name]
            for r in records:
                job = r.job
                same = (job.cell, job.rho, job.learning_rate, job.epochs_factor) == (
                    cell,
                    pick.rho,
                    pick.learning_rate,
                    1,
                )
                if job.stage == "confirm" and same:
                    logs[name, cell, job.seed] = next(
                        math.log(p.value) for p in r.probes if p.weights == (pick.average or "last")
                    )
    first, second = (
        np.array([[logs[name, c, s] for s in range(1000, 1006)] for c in dict.fromkeys(k[1] for k in logs)])
        for name in dict.fromkeys(k[0] for k in logs)
    )
    assert_is_mean_of(found.hypotheses[0], (first - second).mean(axis=0))
    assert found.hypotheses[0].outcome == "reproduced"


def test_a_barrier_is_the_rise_above_the_straight_line() -> None:
    alphas = (0.0, 0.25, 0.5, 1.0)
    losses = (1.0, 1.5, 2.5, 3.0)
    line = LineRecord(
        cell="c", seed=1, start="SGD", end="SAM", alphas=alphas, train_losses=losses, test_losses=losses,
        test_errors=losses,
    )  # fmt: skip
    assert barrier(line) == pytest.approx(0.5)
    valley = line.model_copy(update={"train_losses": (1.0, 0.2, 0.3, 1.0)})
    assert barrier(valley) == 0.0


def test_barriers_are_read_off_the_lines_in_either_direction() -> None:
    claims = (
        claim("barrier", "0", id="none", method="SWA", other="SGD"),
        claim("barrier", "+", id="some", method="SAM", other="baseline"),
        claim("barrier", "0", id="unmeasured", method="WASAM", other="SGD"),
    )
    study = study_of(*claims)
    lines = synthetic_lines(study[1], {("SWA", "SGD"): 0.01, ("SGD", "SAM"): 0.8})
    none, some, unmeasured = found_in(study, lines=lines).hypotheses
    assert (none.outcome, some.outcome, unmeasured.outcome) == ("reproduced", "reproduced", "inconclusive")
    assert some.estimate == pytest.approx(0.8, abs=0.02)
    assert unmeasured.note == "0 complete seeds; 3 are needed."
    few = [line for line in lines if line.seed < 1003]
    assert found_in(study, lines=few).hypotheses[1].outcome == "reproduced"
    assert found_in(study, lines=few).hypotheses[1].n == 3


def test_minimizers_relate_the_gain_to_the_distance_with_the_cell_as_the_unit() -> None:
    study = study_of(claim("minimizers", "-", other="SGD"))
    straight = synthetic_lines(study[1], {("SGD", "SAM"): 0.0})
    lines = [
        line.model_copy(update={"train_losses": away(k % 7), "test_losses": away(0)}) for k, line in enumerate(straight)
    ]
    found = found_in(study, lines=lines)
    (result,) = found.hypotheses
    effects = effects_of(found, "SAM")
    apart = [[minimizer_distance(line) for line in lines if line.cell == effect.cell] for effect in effects]
    x = [np.mean(distances[::2]) for distances in apart]
    y = [np.mean(effect.differences[1::2]) for effect in effects]
    (reference,) = robust_slopes(y, [x])
    assert (result.n, result.unit, result.cells) == (4, "cells", 4)
    assert (result.estimate, result.ci95) == (reference.slope, reference.ci95)
    assert result.ci90[1] - result.estimate == pytest.approx(
        (result.ci95[1] - result.estimate) * stats.t.isf(0.05, 2) / stats.t.isf(0.025, 2)
    )
    assert result.margin == pytest.approx(0.005 / (max(x) - min(x)))
    assert found_in(study, lines=straight).hypotheses[0].note.startswith("4 cells with lines and gains; four are")
    assert found_in(study).hypotheses[0].outcome == "inconclusive"


def away(position: int) -> tuple[float, ...]:
    """Return losses on a line whose lowest stands at a position."""
    return tuple(1.0 + abs(k - position) for k in range(11))


@pytest.mark.parametrize(("kind", "other"), [("worse", "SWA"), ("better", "SAM")])
def test_worse_and_better_of_two_parts(kind: str, other: str) -> None:
    gains = {"SWA": 0.01, "SAM": 0.04, "WASAM": 0.05}
    result, found = result_of(claim(kind, method="WASAM"), gains=gains, noise=0.001)
    assert_is_mean_of(result, (gains_of(found, "WASAM") - gains_of(found, other)).mean(axis=0))


def test_the_parts_of_a_method() -> None:
    assert parts("WASAM") == ("SWA", "SAM")
    assert parts("SAM+EMA") == ("EMA", "SAM")
    assert parts("AdamW+WASAM") == ("AdamW+SWA", "AdamW+SAM")
    assert parts("SAM") == ("SGD", "SAM")


@pytest.mark.parametrize("kind", ["worse", "better"])
def test_the_interval_against_the_worse_of_two_equal_parts_is_honest(kind: str) -> None:
    """The hardest case: nothing tells the parts apart. Chosen seed by seed, 14 % of intervals would miss."""
    rng, hypothesis, studies = np.random.default_rng(0), Hypothesis(**claim("gain", method="WASAM")), 2000
    missed = 0
    for _ in range(studies):
        effects = {
            ("c", name, "E"): replace(EFFECT, method=name, seeds=tuple(range(6)), differences=tuple(values))
            for name, values in zip(("SWA", "SAM", "WASAM"), rng.normal(size=(3, 6)).tolist(), strict=True)
        }
        material = Material(EVIDENCE, effects, {}, ())
        low, high = KINDS[kind].measure(hypothesis, material).found.ci95
        missed += not low <= 0 <= high
    assert stats.binomtest(missed, studies, 0.055, alternative="greater").pvalue > 0.001


def test_a_seed_that_one_cell_lacks_is_left_out_everywhere() -> None:
    spec, records = study_of(claim("gain"))
    victim = next(r for r in records if r.job.stage == "confirm" and r.job.family == "sam" and r.job.seed == 1002)
    spoiled = [failed_run(r) if r.run_id == victim.run_id else r for r in records]
    found = find(spec, spoiled, len(records))
    assert (found.hypotheses[0].n, found.hypotheses[0].outcome) == (5, "reproduced")
    gone = [r for r in records if r.job.stage == "confirm" and r.job.family == "sam" and r.job.seed < 1002]
    spoiled = [failed_run(r) if r in gone else r for r in records]
    (result,) = find(spec, spoiled, len(records)).hypotheses
    assert (result.n, result.outcome) == (4, "inconclusive")
    assert result.note == "4 of 6 seeds are complete in all cells: too few."


def test_an_unfinished_study_decides_nothing() -> None:
    study = study_of(claim("gain"), claim("slope", id="slope", factor="label_noise"), runs=45)
    for result in found_in(study).hypotheses:
        assert result.outcome == "inconclusive"
        assert "of 4 cells are measured so far." in result.note
    for runs in (0, 1):
        empty = study_of(claim("gain"), claim("slope", id="slope", factor="label_noise"), runs=runs)
        assert {result.outcome for result in found_in(empty).hypotheses} == {"inconclusive"}


@pytest.mark.parametrize(
    ("keys", "settings", "note"),
    [
        ({"kind": "slope", "factor": "schedule"}, {"factors": {"schedule": ["cosine", "constant"]}}, "is not a number"),
        ({"kind": "slope", "factor": "width"}, {}, "width is not a number that varies in this study."),
        ({"kind": "contrast", "factor": "width"}, {}, "width does not vary in this study."),
        (
            {"kind": "slope", "factor": "label_noise"},
            {"problems": [{"task": "digits", "factors": {"label_noise": noise, "momentum": momentum}}
                          for noise, momentum in ((0.0, 0.5), (0.3, 0.9))]},
            "label_noise does not vary, apart from the other factors that differ between cells.",
        ),
    ],
)  # fmt: skip
def test_what_the_design_cannot_tell(keys: dict[str, Any], settings: dict[str, Any], note: str) -> None:
    result, _ = result_of(claim(**{"kind": "gain"} | keys), **settings)
    assert (result.outcome, result.n) == ("inconclusive", 0)
    assert note in result.note


def test_costs_are_those_of_all_runs_it_rests_on() -> None:
    spec, records = study_of(claim("gain"), claim("sharpness", other="SGD"))
    gain, sharpness = find(spec, records, len(records)).hypotheses
    at_equal_epochs = [r for r in records if r.job.epochs_factor == 1]
    assert gain.gradient_evaluations <= sum(r.gradient_evaluations for r in at_equal_epochs)
    assert gain.gradient_evaluations == sharpness.gradient_evaluations > 0
    longer, _ = result_of(claim("gain", budget="G"))
    assert longer.gradient_evaluations > gain.gradient_evaluations


def test_the_order_of_records_and_lines_does_not_matter() -> None:
    study = study_of(claim("gain"), claim("barrier", other="SGD"))
    lines = synthetic_lines(study[1], {("SGD", "SAM"): 0.3})
    found = found_in(study, lines=lines)
    turned = found_in((study[0], study[1][::-1]), lines=lines[::-1])
    assert repr(turned.hypotheses) == repr(found.hypotheses)
    assert replace(found.hypotheses[0], note="").claim == "It is so."
