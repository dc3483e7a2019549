"""A family of comparisons against autorank, which ranks methods from the same paired scores."""

import numpy as np
import pandas as pd
import pytest
from autorank import autorank
from matrices import repeated
from numpy.testing import assert_allclose
from statsmodels.stats.multitest import multipletests

from study.stats import Arm, Contrast, Effect, compare, judge

METHODS = ("SWA", "SAM", "WASAM")
DELTA, ALPHA, SEEDS = 1e-9, 0.05, 12


def scores(gains: dict[str, float], seed: int) -> pd.DataFrame:
    """Return one column a method, one row a seed, which all methods share."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.8, 0.01, SEEDS)
    return pd.DataFrame({name: shared + gain + rng.normal(0, 0.003, SEEDS) for name, gain in gains.items()})


def judged(table: pd.DataFrame, delta: float = DELTA) -> tuple[Effect, ...]:
    def effect(method: str) -> Effect:
        contrast = Contrast("cell", "digits", (), "tuned", method, "E", "test_score")
        own, base = (
            Arm(name, {unit: {0: score} for unit, score in enumerate(table[name])}) for name in (method, "SGD")
        )
        return compare(contrast, own, [base], planned=SEEDS, alpha=ALPHA)

    return judge([effect(method) for method in METHODS], delta, ALPHA)


@repeated("seed", range(5))
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
@pytest.mark.slow
def test_pairwise_tests_and_verdicts_are_autoranks_under_holm(seed: int, scale: float) -> None:
    table = scores({"SGD": 0.0, "SWA": 0.002 * scale, "SAM": 0.006 * scale, "WASAM": -0.004 * scale}, seed)
    effects = judged(table)
    pairwise = [autorank(table[["SGD", method]], ALPHA, force_mode="parametric") for method in METHODS]
    assert {result.omnibus for result in pairwise} == {"ttest"}
    p_values = [result.pvalue for result in pairwise]
    assert_allclose([effect.p for effect in effects], p_values, rtol=1e-6, atol=1e-15)
    rejected, adjusted, *_ = multipletests(p_values, alpha=ALPHA, method="holm")
    assert_allclose([effect.p_holm for effect in effects], adjusted, rtol=1e-6)  # type: ignore[arg-type]
    assert [effect.verdict in ("helps", "hurts") for effect in effects] == rejected.tolist()
    better = [result.rankdf["mean"].idxmax() != "SGD" for result in pairwise]
    assert [effect.mean > 0 for effect in effects] == better


@repeated("seed", range(5))
def test_methods_that_differ_clearly_stand_in_autoranks_order(seed: int) -> None:
    table = scores({"SGD": 0.0, "SWA": 0.02, "SAM": 0.05, "WASAM": 0.08}, seed)
    ranked = autorank(table, ALPHA)
    means = {effect.method: effect.mean for effect in judged(table)} | {"SGD": 0.0}
    assert ranked.pvalue < ALPHA
    assert list(ranked.rankdf.sort_values("meanrank").index) == sorted(means, key=means.__getitem__, reverse=True)
    assert {effect.verdict for effect in judged(table, delta=0.005)} == {"helps"}
