"""Statistics do not mind the unit of a metric: numbers of any size give the results of ordinary ones, in their size."""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from synthetic import synthetic_study

from dashboards.closing import closing
from dashboards.report import build_report
from study.findings import Findings, find
from study.stats import Arm, Contrast, compare, estimate, judge
from study.stats.clustered import slope_between, slopes_within
from study.stats.designs import robust_slopes
from study.stats.estimates import max_t_p, mean_of, rounded
from study.stats.interactions import interaction
from study.stats.replication import relabelling_test
from study.stats.rules import moderator_rule
from study.stats.synthesis import synthesize
from study.store.frame import frame_of

SIZES = (2.0**-1000, 2.0**-540, 2.0**-400, 2.0**-30, 1.0, 2.0**17, 2.0**400, 2.0**540, 2.0**1000)
DRAWN = np.random.default_rng(0).normal(0.1, 0.2, size=(6, 9)).tolist()
CONTRAST = Contrast("cell", "own:task", (), "tuned", "SAM", "E", "test_score")


def times(value: Any, size: float) -> Any:
    """Return numbers, nested as they are, in a unit that is so many times smaller."""
    if isinstance(value, dict):
        return {key: times(part, size) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [times(part, size) for part in value]
    return value * size


@pytest.mark.parametrize("size", SIZES)
def test_estimates_are_those_of_ordinary_numbers(size: float) -> None:
    for row in DRAWN:
        found, ordinary = asdict(estimate(times(row, size))), asdict(estimate(row))
        for name in ("mean", "sd", "ci95", "ci90"):
            assert found[name] == pytest.approx(times(ordinary[name], size), rel=1e-12, abs=0)
        assert found["p"] == pytest.approx(ordinary["p"], rel=1e-9)
        assert mean_of(times(row, size)) == pytest.approx(mean_of(row) * size, rel=1e-12, abs=0)
    assert max_t_p(times(DRAWN, size)) == max_t_p(DRAWN)


@pytest.mark.parametrize("size", SIZES)
def test_comparisons_come_to_the_same_verdict(size: float) -> None:
    def judged(scale: float) -> list[Any]:
        effects = []
        for number, row in enumerate(DRAWN):
            ours = {unit: {0: (1 + value) * scale, 1: (1.1 + value) * scale} for unit, value in enumerate(row)}
            theirs = {unit: {0: scale, 1: (1 + number / 10) * scale} for unit in range(len(row))}
            effects.append(compare(CONTRAST, Arm("SAM", ours, 18), [Arm("SGD", theirs, 18)], planned=9, confirms=2))
        return [*judge(effects, 0.05 * scale, 0.05)]

    for found, ordinary in zip(judged(size), judged(1.0), strict=True):
        assert (found.verdict, found.clear) == (ordinary.verdict, ordinary.clear)
        assert found.p_holm == pytest.approx(ordinary.p_holm, rel=1e-6)
        for name in ("mean", "sd", "sd_seed", "sd_tuning", "ci95", "minimum_detectable"):
            assert getattr(found, name) == pytest.approx(times(getattr(ordinary, name), size), rel=1e-6, abs=0)
    corners = {name: dict(enumerate(row)) for name, row in zip(("SGD", "SWA", "SAM", "WASAM"), DRAWN, strict=False)}
    assert interaction("c", times(corners, size)).mean == pytest.approx(interaction("c", corners).mean * size, rel=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_together_is_in_the_same_unit(size: float) -> None:
    gains, errors = DRAWN[0], [abs(value) / 3 + 0.01 for value in DRAWN[1]]
    found, ordinary = (synthesize("SAM", "E", times(gains, s), times(errors, s)) for s in (size, 1.0))
    for name in ("mean", "error", "ci95", "prediction95", "tau"):
        assert getattr(found, name) == pytest.approx(times(getattr(ordinary, name), size), rel=1e-6, abs=0)
    assert found.i2 == pytest.approx(ordinary.i2, rel=1e-6)
    (slope,), (same,) = (robust_slopes(times(gains, s), [times(DRAWN[2], s)]) for s in (size, 1.0))
    assert (slope.slope, *slope.ci95) == pytest.approx((same.slope, *same.ci95), rel=1e-6)
    (slope,) = robust_slopes(times(gains, size), [DRAWN[2]])
    assert slope.slope == pytest.approx(same.slope * size, rel=1e-6, abs=0)
    cells, tasks = [{"noise": noise} for _ in "abcdef" for noise in (0.0, 0.3, 0.6)], [*"aaabbbcccdddeeefff"]
    over = [0.01 * value + cell["noise"] for value, cell in zip([*gains, *DRAWN[1]], cells, strict=True)]
    (slope,), (same,) = (slopes_within(times(over, s), [[cell["noise"] for cell in cells]], tasks) for s in (size, 1.0))
    assert (slope.slope, *slope.ci95) == pytest.approx(times((same.slope, *same.ci95), size), rel=1e-6, abs=0)
    assert slope.p == pytest.approx(same.p)
    (between, as_before) = (slope_between(times(over, s), DRAWN[0] + DRAWN[1], tasks) for s in (size, 1.0))
    assert between.slope == pytest.approx(as_before.slope * size, rel=1e-6, abs=0)
    rules = [moderator_rule("SAM", "E", cells, times(over, s), tasks) for s in (size, 1.0)]
    assert (rules[0].r2, rules[0].p) == (pytest.approx(rules[1].r2), pytest.approx(rules[1].p))
    assert rules[1].leaves
    assert [leaf.gain for leaf in rules[0].leaves] == pytest.approx([leaf.gain * size for leaf in rules[1].leaves])
    studies = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    tests = [relabelling_test(times(DRAWN, s), studies, 99, np.random.default_rng(0)) for s in (size, 1)]
    assert (tests[0].p, tests[0].rows) == (tests[1].p, tests[1].rows)
    assert tests[0].statistic == pytest.approx(tests[1].statistic)


@pytest.mark.parametrize("value", [1e300, 1.7e308, 5e-324, 1e-310, -1e300])
def test_numbers_at_the_ends_of_floats_crash_nothing(value: float) -> None:
    rows = [[value] * 6, [value, 0.0, value, -value, value, value / 3], [value, 1.0, 1.0, 0.5, 1.0, 2.0]]
    for row in rows:
        found = estimate(row)
        assert not math.isnan(found.p)
        mean_of(row)
    assert all(0 <= p <= 1 for p in max_t_p(rows))
    arms = [Arm(name, {unit: {0: v} for unit, v in enumerate(rows[1])}, 6) for name in ("SAM", "SGD")]
    (effect,) = judge([compare(CONTRAST, arms[0], arms[1:], planned=6)], 1e-9, 0.05)
    assert effect.mean == 0


def test_rounding_keeps_small_units_and_takes_noise_out_of_large_ones() -> None:
    assert rounded(1e-300, 1e-298) == 1e-300
    assert rounded(0.1 + 0.2 - 0.3, 0.3) == 0
    assert rounded(14920.73 + 0.1 - 14920.83, 14920.83) == 0
    assert rounded(1e160 - 1e144, 1e160) == pytest.approx(1e160)


@pytest.mark.parametrize("size", [1e-200, 1e160])
def test_a_study_of_any_unit_has_findings_and_a_page(size: float) -> None:
    def found(scale: float) -> tuple[Findings, Any]:
        spec, records = synthetic_study(replicates=5, trials=2)
        spec = spec.model_copy(update={"delta": spec.delta * scale})
        records = [
            record.model_copy(
                update={
                    "metric": "energy",
                    "measurements": tuple(
                        replace(
                            m,
                            **{
                                name: value * scale
                                for name in ("val_score", "test_score", "train_score")
                                if (value := getattr(m, name)) is not None
                            },
                        )
                        for m in record.measurements
                    ),
                }
            )
            for record in records
        ]
        return find(spec, records), frame_of(records)

    here, frame = found(size)
    there, _ = found(1.0)
    assert [effect.verdict for effect in here.effects] == [effect.verdict for effect in there.effects]
    assert here.effects[0].mean == pytest.approx(there.effects[0].mean * size, rel=1e-6)
    assert "energy" in closing(here, frame)
    assert "energy" in build_report(here, frame)
