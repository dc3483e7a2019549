"""The calibration command: its rates are right, it sees when one is off, and says so loudly."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from study import calibrate
from study.calibrate import main, table
from study.simulations import calibrate as simulated
from study.simulations import procedure
from study.simulations.procedure import Setting, Spread, draw, known
from study.simulations.rates import Rate, Relation
from study.simulations.records import null_effects, null_spec
from study.simulations.verdicts import SETTLED, SPREADS, UNSETTLED, level, overfitted


@pytest.fixture(scope="module")
def rates() -> list[Rate]:
    return simulated(100, seed=0)


@pytest.mark.slow
def test_no_rate_is_off(rates: list[Rate]) -> None:
    assert [rate for rate in rates if rate.off] == []
    assert {rate.group for rate in rates} == {
        "false verdicts", "power", "coverage", "protocol 1", "protocol 2", "replication", "null factor", "hypotheses",
    }  # fmt: skip
    assert len({(rate.group, rate.name) for rate in rates}) == len(rates)


def rates_of(rates: list[Rate], group: str, part: str) -> list[float]:
    found = [rate.rate for rate in rates if rate.group == group and part in rate.name]
    assert found
    return found


@pytest.mark.slow
def test_pooling_replicates_makes_chance_look_like_a_rule(rates: list[Rate]) -> None:
    by_name = {rate.name: rate.rate for rate in rates if rate.group == "null factor"}
    alone = by_name["slope within 6 tasks, on each of which it acts otherwise"]
    assert alone < 0.1
    assert by_name["HC3 on all 24 × 10 gains"] > alone
    assert by_name["slope by replicate, cells taken as given"] > 0.1


@pytest.mark.slow
def test_protocol_1_misses_the_truth_and_sees_help_where_longer_training_hurts(rates: list[Rate]) -> None:
    """Its interval is over the seeds of one tuning, its baseline the last weights of the longer training."""
    for part in ("95 % interval, n = 10, tuning .008", "95 % interval, n = 6, tuning .008"):
        assert rates_of(rates, "protocol 1", part)[0] < 0.85 < rates_of(rates, "protocol 2", part)[0]
    assert rates_of(rates, "protocol 1", "longer training overfits") == [1.0]
    assert rates_of(rates, "protocol 2", "longer training overfits")[0] < 0.1
    assert set(rates_of(rates, "protocol 2", "helps against hurts")) == {0.0}


@pytest.mark.slow
def test_power_grows_with_gain_and_replicates(rates: list[Rate]) -> None:
    for spread in SPREADS:
        by_gain = [rates_of(rates, "power", f"gain of {k} δ, n = 10, {spread}: helps")[0] for k in (1, 2, 3)]
        by_size = [rates_of(rates, "power", f"gain of 3 δ, n = {n}, {spread}: helps")[0] for n in (6, 10, 15, 20)]
        assert by_gain == sorted(by_gain)
        assert by_size == sorted(by_size)
        assert rates_of(rates, "power", f"gain of 3 δ, n = 15, {spread}: helps")[0] > 0.9


@pytest.mark.slow
def test_equal_seeds_give_equal_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedure, "REPLICATES_OF_TRUTH", 200)  # the truth need not be right here
    one, other, another = (simulated(2, seed) for seed in (1, 1, 2))
    assert repr(one) == repr(other) != repr(another)


@pytest.mark.parametrize(
    ("hits", "relation", "expected", "off"),
    [
        (90, "≤", 0.05, True),
        (55, "≤", 0.05, False),
        (0, "≤", 0.05, False),
        (900, "≥", 0.95, True),
        (1000, "≥", 0.95, False),
        (900, "=", 0.95, True),
        (990, "=", 0.95, True),
        (945, "=", 0.95, False),
        (1000, "", math.nan, False),
    ],
)
def test_off_is_what_chance_does_not_explain(hits: int, relation: Relation, expected: float, off: bool) -> None:
    assert Rate("group", "name", hits, 1000, relation, expected).off is off


@pytest.mark.parametrize(("hits", "off"), [(9500, False), (9420, False), (9300, True), (9580, False), (9690, True)])
def test_a_tolerance_lies_on_both_sides(hits: int, off: bool) -> None:
    rate = Rate("group", "name", hits, 10_000, "=", 0.95, 0.01)
    assert rate.off is off
    assert rate.should == "= 95.0% ± 1.0%"
    assert Rate("group", "name", hits, 10_000, "").should == "for comparison"


@pytest.mark.parametrize(("spread", "tuning", "seeds"), [(SETTLED, 0.003, 0.010), (UNSETTLED, 0.008, 0.013)])
@pytest.mark.parametrize("make", [overfitted, level])
def test_gains_spread_as_trainings_do(
    make: Callable[[Spread], Setting], spread: Spread, tuning: float, seeds: float
) -> None:
    cell = known(make(spread), np.random.default_rng(0))
    drawn = cell.draw(20_000, 0.01, np.random.default_rng(1))
    gains = drawn.scores["SAM"] - drawn.scores[cell.strongest]
    of_a_seed = gains.var(axis=1, ddof=1).mean()
    assert math.sqrt(of_a_seed) == pytest.approx(seeds, rel=0.15)
    assert math.sqrt(gains.mean(axis=1).var() - of_a_seed / 3) == pytest.approx(tuning, rel=0.15)
    assert gains.mean() == pytest.approx(0.01, abs=4 * math.sqrt(2) * gains.mean(axis=1).std() / math.sqrt(20_000))


def test_level_baselines_are_level_and_the_strongest_is_named() -> None:
    rng = np.random.default_rng(2)
    cell = known(level(SETTLED), rng)
    means = [cell.draw(20_000, 0.0, rng).scores[name].mean() for name in cell.setting.baselines]
    assert np.ptp(means) < 4e-4
    clear = known(overfitted(SETTLED), rng)
    others = [
        truth for name, truth in clear.truth.items() if name in clear.setting.baselines and name != clear.strongest
    ]
    assert (clear.strongest, clear.truth["SGD best"] - max(others) > 0.02) == ("SGD best", True)


def test_a_method_that_is_off_is_its_baseline_run_for_run() -> None:
    rng = np.random.default_rng(3)
    cell = known(overfitted(SETTLED, off=0.4), rng)
    drawn = cell.draw(2000, 0.05, rng)
    zero = (drawn.scores["SAM"] == drawn.scores["SGD best"]).all(axis=1)
    assert zero.tolist() == drawn.off.tolist()
    assert drawn.off.mean() == pytest.approx(0.4, abs=0.05)
    effect = drawn.effect("SAM", slice(0, 10))
    assert effect.off == int(drawn.off[:10].sum()) == sum(gain == 0 for gain in effect.differences)


def test_without_noise_every_side_gets_the_best_that_it_may_use() -> None:
    setting = overfitted(Spread(proposals=0.01, seeds=0.0, checkpoints=0.0, validation=0.0))
    scores = draw(setting, 500, np.random.default_rng(4))
    assert all(np.ptp(of, axis=1).max() < 1e-12 for of in scores.values())  # every seed the same
    curve = setting.trajectories["1x"].curve  # of one pick, whichever weights are kept
    assert np.allclose(scores["SGD best"] - scores["SGD last"], max(curve) - curve[-1])


def test_a_null_study_walks_the_whole_way() -> None:
    effects = null_effects(null_spec(1), np.random.default_rng(0))
    assert [(effect.method, effect.budget, effect.n) for effect in effects] == [("SAM", "G", 6), ("WASAM", "G", 6)]
    assert {against.baseline for effect in effects for against in effect.against} == {
        "SGD last", "SGD best", "SGD last, 2× epochs", "SGD best, 2× epochs",
    }  # fmt: skip


def test_the_table_says_it_all() -> None:
    text = table([Rate("g", "fine", 50, 1000, "≤", 0.05), Rate("g", "bad", 500, 1000, "≤", 0.05)])
    header, fine, bad = text.splitlines()
    assert header.split() == ["observed", "95", "%", "interval", "should", "be"]
    assert fine.split() == ["g", "fine", "5.0%", "3.7%", "to", "6.5%", "≤", "5.0%"]
    assert bad.endswith("OFF")


def test_a_rate_that_is_off_ends_the_command_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate, "calibrate", lambda studies, seed: [Rate("g", "bad", 500, 1000, "≤", 0.05)])
    assert main(["--studies", "3"]) == 1
    printed = capsys.readouterr()
    assert "OFF" in printed.out
    assert "error: g, bad: 50.00% of 1000 was observed; it should be ≤ 5.0%" in printed.err


@pytest.mark.slow
def test_a_small_calibration_passes_and_help_has_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(procedure, "REPLICATES_OF_TRUTH", 2000)
    assert main(["--studies", "4", "--seed", "3"]) == 0
    assert "false verdicts" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "example:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--studies", "0"], ["--studies", "many"], ["--seed", "-1"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "a whole number from" in capsys.readouterr().err
