"""The calibration command: its rates are right, it sees when one is off, and says so loudly."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from study import calibrate
from study.calibrate import main, table
from study.simulations import Rate, Relation, power
from study.simulations import calibrate as simulated


@pytest.fixture(scope="module")
def rates() -> list[Rate]:
    return simulated(100, seed=0)


@pytest.mark.slow
def test_no_rate_is_off(rates: list[Rate]) -> None:
    assert [rate for rate in rates if rate.off] == []
    assert {rate.group for rate in rates} == {"false verdicts", "power", "coverage", "null factor", "hypotheses"}


def test_pooling_seeds_makes_chance_look_like_a_rule(rates: list[Rate]) -> None:
    by_name = {rate.name.partition(" (")[0]: rate.rate for rate in rates if rate.group == "null factor"}
    assert by_name["HC3 on 8 cell means"] < 0.1
    assert by_name["HC3 on all 8 × 10 pairs"] > 0.3
    assert by_name["slope by seed, cells taken as given"] > 0.5


@pytest.mark.slow
def test_equal_seeds_give_equal_rates() -> None:
    one, other, another = (simulated(5, seed) for seed in (1, 1, 2))
    assert repr(one) == repr(other) != repr(another)


@pytest.mark.parametrize("n", [6, 20])
@pytest.mark.parametrize("gain", [0.001, 0.0025, 0.004])
def test_power_without_a_margin_is_that_of_the_t_test(gain: float, n: int) -> None:
    one_side = TTestPower().power(gain / 0.0028, n, 0.025, alternative="larger")
    assert power(gain, 0.0028, n, 0.0, 0.05) == pytest.approx(one_side, abs=1e-4)


def test_power_with_a_margin_is_what_is_simulated() -> None:
    samples = np.random.default_rng(0).normal(0.005, 0.0028, (40_000, 6))
    mean, error = samples.mean(axis=1), samples.std(axis=1, ddof=1) / math.sqrt(6)
    found = (mean >= 0.004) & (mean / error > 2.5706)
    assert power(0.005, 0.0028, 6, 0.004, 0.05) == pytest.approx(found.mean(), abs=0.01)


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
    assert "error: g, bad: 50.00% of 1000 was observed; it should be ≤ 5.00%" in printed.err


def test_a_small_calibration_passes_and_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--studies", "10", "--seed", "3"]) == 0
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
