"""The pipeline is calibrated: nothing comes out of nothing, and a planted gain is found."""

import numpy as np
import pytest
from matrices import repeated
from numpy.typing import NDArray
from scipy.stats import binomtest
from synthetic import planned_runs, synthetic_study

from study.findings import Findings, find
from study.stats import Arm, Contrast, Effect, compare, judge

CONTRAST = Contrast("cell", "digits", (), "tuned", "SAM", "E", "test_score")
TINY = 1e-9  # a δ that excuses nothing, so that the level of the test is on its own
SD = 0.0028 / np.sqrt(2)  # per arm: differences spread by .28 points


def family(
    rng: np.random.Generator, gain: float, comparisons: int, delta: float, units: int = 6, baselines: int = 1
) -> tuple[Effect, ...]:
    """Simulate the comparisons of one study, on a test set of 1,000 examples, against equally good baselines."""
    shared = rng.normal(0, 0.005, (comparisons, 1, units))
    arms = np.round(0.8 + shared + rng.normal(0, SD, (comparisons, 1 + baselines, units)), 3)
    arms[:, 0] += gain
    effects = [
        compare(CONTRAST, method, against, planned=units, alpha=0.05)
        for method, *against in ([arm(number, scores) for number, scores in enumerate(sides)] for sides in arms)
    ]
    return judge(effects, delta, 0.05)


def arm(number: int, values: NDArray[np.float64]) -> Arm:
    return Arm(f"side {number}", {unit: {0: value} for unit, value in enumerate(values.tolist())})


def decided(effects: tuple[Effect, ...]) -> bool:
    return any(effect.verdict in ("helps", "hurts") for effect in effects)


def small_study(seed: int, gains: dict[str, float], delta: float) -> Findings:
    spec, records = synthetic_study(
        tasks=("digits",), factors={}, trials=1, gains=gains, delta=delta, seed=seed,
        budgets=("E",), primary_budget="E",
    )  # fmt: skip
    return find(spec, records, planned_runs(spec, records))


@pytest.mark.parametrize("baselines", [1, 4])
def test_a_null_family_decides_no_more_often_than_alpha(baselines: int) -> None:
    rng = np.random.default_rng(11)
    families = 400
    false = sum(decided(family(rng, 0.0, 6, TINY, baselines=baselines)) for _ in range(families))
    assert binomtest(false, families, 0.05, alternative="greater").pvalue > 0.01
    assert false > 0  # a test that never rejects would pass too


@pytest.mark.slow
@pytest.mark.parametrize("baselines", [1, 2, 4])
@pytest.mark.parametrize("side", ["helps", "hurts"])
def test_either_side_of_a_single_null_is_said_in_no_more_than_half_of_alpha(side: str, baselines: int) -> None:
    """Beating all baselines needs no correction; being behind one of several is corrected for their number."""
    rng = np.random.default_rng(13)
    false = sum(effect.verdict == side for _ in range(3000) for effect in family(rng, 0.0, 1, TINY, 10, baselines))
    assert binomtest(false, 3000, 0.025, alternative="greater").pvalue > 0.01


@pytest.mark.slow
def test_without_a_correction_being_behind_one_of_several_is_said_too_often() -> None:
    """The correction is needed: the strongest of four level baselines has a p value of its own that is too small."""
    rng = np.random.default_rng(14)
    effects = [effect for _ in range(3000) for effect in family(rng, 0.0, 1, TINY, 10, 4)]
    alone = [next(one for one in effect.against if one.mean == effect.mean) for effect in effects]
    false = sum(one.mean < 0 and one.p < 0.05 for one in alone)
    assert binomtest(false, 3000, 0.025, alternative="greater").pvalue < 1e-6


@pytest.mark.slow
def test_a_method_that_is_the_baseline_under_another_name_decides_no_more_often_than_alpha() -> None:
    """Each method has a family of its own, so the level is each method's."""
    studies = 100
    found = [small_study(seed, {}, TINY).effects for seed in range(studies)]
    for method in ("SWA", "SAM", "WASAM"):
        false = sum(decided(tuple(effect for effect in effects if effect.method == method)) for effects in found)
        assert binomtest(false, studies, 0.05, alternative="greater").pvalue > 0.01


def test_a_planted_point_helps() -> None:
    rng = np.random.default_rng(12)
    verdicts = [e.verdict for _ in range(50) for e in family(rng, 0.01, comparisons=6, delta=0.005)]
    assert verdicts.count("helps") >= 0.97 * len(verdicts)


@repeated("seed", range(5))
def test_a_planted_point_helps_through_the_whole_pipeline(seed: int) -> None:
    found = small_study(seed, {"SAM": 0.01, "WASAM": 0.01}, 0.005)
    assert {e.method: e.verdict for e in found.effects if e.method != "SWA"} == {"SAM": "helps", "WASAM": "helps"}
