"""The pipeline is calibrated: nothing comes out of nothing, and a planted gain is found."""

import numpy as np
import pytest
from matrices import repeated
from scipy.stats import binomtest
from synthetic import planned_runs, synthetic_study

from study.findings import Findings, find
from study.stats import Contrast, Effect, compare, judge

CONTRAST = Contrast("cell", "digits", (), "tuned", "SAM", "SGD", "E", "test_score")
TINY = 1e-9  # a δ that excuses nothing, so that the level of the test is on its own
SD = 0.0028 / np.sqrt(2)  # per arm: differences spread by .28 points


def family(rng: np.random.Generator, gain: float, comparisons: int, delta: float, pairs: int = 6) -> tuple[Effect, ...]:
    """Simulate the comparisons of one study, on a test set of 1,000 examples."""
    shared = rng.normal(0, 0.005, (comparisons, 1, pairs))
    arms = np.round(0.8 + shared + rng.normal(0, SD, (comparisons, 2, pairs)), 3)
    arms[:, 0] += gain
    effects = [
        compare(CONTRAST, dict(enumerate(method)), dict(enumerate(baseline)), planned=pairs, alpha=0.05)
        for method, baseline in arms.tolist()
    ]
    return judge(effects, delta, 0.05)


def decided(effects: tuple[Effect, ...]) -> bool:
    return any(effect.verdict in ("helps", "hurts") for effect in effects)


def small_study(seed: int, gains: dict[str, float], delta: float) -> Findings:
    spec, records = synthetic_study(
        tasks=("digits",), factors={}, trials=1, gains=gains, delta=delta, seed=seed,
        budgets=("E",), primary_budget="E",
    )  # fmt: skip
    return find(spec, records, planned_runs(spec, records))


def test_a_null_family_decides_no_more_often_than_alpha() -> None:
    rng = np.random.default_rng(11)
    families = 400
    false = sum(decided(family(rng, 0.0, comparisons=6, delta=TINY)) for _ in range(families))
    assert binomtest(false, families, 0.05, alternative="greater").pvalue > 0.01
    assert false > 0  # a test that never rejects would pass too


@pytest.mark.slow
def test_a_method_that_is_the_baseline_under_another_name_decides_no_more_often_than_alpha() -> None:
    studies = 100
    false = sum(decided(small_study(seed, {}, TINY).effects) for seed in range(studies))
    assert binomtest(false, studies, 0.05, alternative="greater").pvalue > 0.01


def test_a_planted_point_helps() -> None:
    rng = np.random.default_rng(12)
    verdicts = [e.verdict for _ in range(50) for e in family(rng, 0.01, comparisons=6, delta=0.005)]
    assert verdicts.count("helps") >= 0.97 * len(verdicts)


@repeated("seed", range(5))
def test_a_planted_point_helps_through_the_whole_pipeline(seed: int) -> None:
    found = small_study(seed, {"SAM": 0.01, "WASAM": 0.01}, 0.005)
    assert {e.method: e.verdict for e in found.effects if e.method != "SWA"} == {"SAM": "helps", "WASAM": "helps"}
