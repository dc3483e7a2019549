"""What is cut out of real trainings is disjoint, and what is counted is right; nothing is trained here."""

import numpy as np
import pytest
from truth.coverage import Seen, line, of_size, one_tuning
from truth.null import comparisons
from truth.rows import Row

from study.plan.cells import Cell
from study.simulations.rates import Rate

CELL = Cell("some", "some", {})
DELTA = 0.5


def drawn(rng: np.random.Generator, units: int, confirms: int, gain: float, tuning: float, seeds: float = 1.0) -> Row:
    """Draw a row whose replicates differ by tuning, and their seeds beside that."""

    def side(mean: float) -> dict[int, dict[int, float]]:
        middle = rng.normal(mean, tuning, units)
        return {u: {s: float(rng.normal(middle[u], seeds)) for s in range(confirms)} for u in range(units)}

    return Row(CELL, "SAM", side(gain), {"SGD best": side(0.0)}, confirms)


def test_studies_are_disjoint_and_their_truth_is_not_their_own() -> None:
    row = drawn(np.random.default_rng(1), units=23, confirms=2, gain=1.0, tuning=1.0)
    found = list(of_size(5)(row, DELTA))
    assert [seen.effect.units for seen in found] == [tuple(range(k, k + 5)) for k in (0, 5, 10, 15)]
    everything = row.gain("SGD best", row.units)
    for seen in found:
        assert 5 * seen.effect.mean + 18 * seen.truth == pytest.approx(23 * everything)


def test_intervals_over_replicates_cover_and_those_over_seeds_do_not_where_tuning_decides() -> None:
    row = drawn(np.random.default_rng(2), units=2000, confirms=6, gain=0.3, tuning=1.0)
    over_replicates = [seen.covered for seen in of_size(10)(row, DELTA)]
    over_seeds = [seen.covered for seen in one_tuning(row, DELTA)]
    low, high = Rate("", "", sum(over_replicates), len(over_replicates), "").interval
    assert low <= 0.95 <= high
    assert np.mean(over_seeds) < 0.75
    without = drawn(np.random.default_rng(3), units=2000, confirms=6, gain=0.3, tuning=0.0)
    low, high = Rate("", "", sum(seen.covered for seen in one_tuning(without, DELTA)), 2000, "").interval
    assert low <= 0.95 <= high


def test_a_replicate_without_all_of_its_seeds_is_left_out() -> None:
    row = drawn(np.random.default_rng(4), units=6, confirms=3, gain=0.0, tuning=1.0)
    lacking = {u: {s: v for s, v in one.items() if (u, s) != (2, 0)} for u, one in row.method.items()}
    assert Row(CELL, "SAM", lacking, row.baselines, 3).units == (0, 1, 3, 4, 5)


def test_equal_gains_make_no_interval() -> None:
    scores = {u: {0: 0.5, 1: 0.75} for u in range(10)}
    row = Row(CELL, "SWA", scores, {"SGD best": scores}, 2)
    found = list(of_size(5)(row, DELTA))
    assert [seen.interval for seen in found] == [False, False]
    assert line("some", "SWA", "n = 5", found)[3:6] == ("2", "2", "–")
    moved = {u: {**one, 0: 0.5 + u / 8} for u, one in scores.items()}
    shifted = Row(CELL, "SWA", moved, {"SGD best": scores}, 2).study(range(10), DELTA)
    assert Seen(shifted, shifted.mean).interval
    assert Seen(shifted, shifted.mean).covered


def test_a_baseline_against_itself_is_found_to_differ_at_the_level_of_the_test() -> None:
    row = drawn(np.random.default_rng(5), units=20 * 1000, confirms=2, gain=0.0, tuning=1.0)
    found = list(comparisons(Row(CELL, "SGD best again", row.method, {"SGD best": row.method}, 2), 10))
    assert len(found) == 1000
    assert {effect.n for effect in found} == {10}
    assert not any(set(effect.method_values) & set(effect.baseline_values) for effect in found)
    low, high = Rate("", "", sum(effect.verdict in ("helps", "hurts") for effect in found), 1000, "").interval
    assert low <= 0.05 <= high
