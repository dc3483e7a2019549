"""What the atlas says is what was put into a simulated one, and a null is called one."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matrices import repeated
from scipy import stats
from simulated_atlas import FACTORS, TASKS, simulated, simulated_trials

from study.atlas.advice import validate
from study.atlas.answers import (
    Moderation,
    beside_decay,
    distributions,
    expectations,
    moderation_by_factors,
    moderation_by_features,
    replacements,
    rule,
    seen,
)
from study.atlas.cell_means import METHODS, cell_means, rows_of
from study.atlas.features import FEATURES
from study.atlas.frames import OVER, least_elsewhere, over_strongest
from study.atlas.literature import published_claims
from study.atlas.markdown import Gain, Row
from study.atlas.transfer import costs_of, transfer
from study.atlas.verdicts import DELTA, verdicts
from study.stats import estimate


def test_cells_have_levels_and_features_apart_from_the_gain_that_they_explain() -> None:
    frame = simulated()
    cells = cell_means(frame, "SAM")
    assert len(cells) == 48
    one = cells.iloc[0]
    rows = frame[(frame["cell"] == one["cell"]) & (frame["method"] == "SAM") & (frame["budget"] == "G")]
    assert one["gain"] == one["crossed"] == pytest.approx(rows["gain"].mean())
    assert one["crossed_even"] == pytest.approx(rows[rows["replicate"] % 2 == 0]["gain"].mean())
    assert one["score_gap"] == rows["score_gap"].iloc[0]
    assert [one[f"level {name}"] for name in FACTORS] == [0, 0, 0, 0]
    assert {
        *cells[cells["task"] == "dna"][[f"level {name}" for name in FACTORS]].itertuples(index=False, name=None)
    } == {levels for levels in itertools.product((0, 1), repeat=4) if sum(levels) % 2 == 0}


def test_features_are_of_other_replicates_than_the_gains_that_they_explain() -> None:
    """A baseline that happened to be poor shows a large gain there: neither side may see the other's replicates."""
    frame = simulated(tasks=TASKS[:2])
    rng = np.random.default_rng(0)
    odd = frame["replicate"] % 2 == 1
    before = cell_means(frame, "SAM")
    spoiled = frame.copy()
    spoiled.loc[odd, [*OVER]] += rng.normal(0, 0.1, (odd.sum(), len(OVER)))  # another baseline is the strongest there
    after = cell_means(over_strongest(spoiled), "SAM")
    pd.testing.assert_series_equal(after["crossed_even"], before["crossed_even"])
    assert not np.allclose(after["gain"], before["gain"])
    spoiled = frame.copy()
    measured = [
        name for name in frame if name in {"base_score", "score_gap", "top_eigenvalue", "memorized", "end_rate"}
    ]
    spoiled.loc[~odd, measured] = rng.uniform(1, 2, ((~odd).sum(), len(measured)))
    pd.testing.assert_frame_equal(cell_means(spoiled, "SAM")[[*FEATURES]], before[[*FEATURES]])


def test_unknown_features_are_left_out_and_noise_is_a_share() -> None:
    frame = simulated(tasks=TASKS[:1]).assign(
        memorized=math.nan, gradient_noise=100.0, gradient_signal=-3.0, halfway_gradient_noise=100.0,
        halfway_gradient_signal=6.0, top_eigenvalue=20.0, base_rate=0.05,
    )  # fmt: skip
    features = cell_means(frame, "SAM").iloc[0]
    assert math.isnan(features["memorized"])
    assert features["noise"] == 1.0
    assert features["halfway_noise"] == pytest.approx(2 / 8)  # a noise of 100 in batches of 50, a signal of 6
    assert features["sharpness"] == pytest.approx(0.0)


def chance_made_strong(frame: pd.DataFrame, sd: float, where: pd.Series, seed: int = 0) -> pd.DataFrame:
    """Return gains over four baselines of which none is better: they differ by chance, in some cells alone."""
    rng = np.random.default_rng(seed)
    gain = (
        frame["over_best"].to_numpy()[:, None] + rng.normal(0, sd, (len(frame), len(OVER))) * where.to_numpy()[:, None]
    )
    known = frame[[*OVER]].notna().to_numpy()
    return over_strongest(frame.assign(**dict(zip(OVER, np.where(known, gain, math.nan).T, strict=True))))


def test_the_strongest_of_equal_baselines_lowers_gains_and_moderates_nothing() -> None:
    """The least of four noisy means is below their expectation, the more, the noisier: that is no moderator."""
    null = simulated(mean=0.0, by_task=0.0)
    found = distributions(chance_made_strong(null, 0.02, null["label_noise"] >= 0))
    expected = -1.03 * 0.02 / math.sqrt(8)  # of the least of four normal means of eight
    assert np.mean([one.typical.mean for one in found]) == pytest.approx(expected, rel=0.15)
    assert np.mean([one.crossed for one in found]) == pytest.approx(0.0, abs=0.0015)
    noisy = chance_made_strong(null, 0.02, null["label_noise"] > 0)
    effects = {one.name: one.effect for one in moderation_by_factors(noisy, "SAM")}
    assert effects["label_noise"] == pytest.approx(0.0, abs=0.003)
    cells = cell_means(noisy, "SAM")
    by_level = cells.groupby("level label_noise")["gain"].mean()
    assert by_level[1] - by_level[0] < -0.005  # what a moderator would have been said to do


def test_the_least_elsewhere_is_that_of_a_slow_twin() -> None:
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.normal(size=(12, 3)), columns=["a", "b", "c"])
    rows = pd.DataFrame({"group": np.repeat(["x", "y"], 6)})
    found = least_elsewhere(values, rows, ["group"])
    for place in range(12):
        others = values[(rows["group"] == rows["group"][place]) & (values.index != place)]
        assert found[place] == values.loc[place, others.mean().idxmin()]


def test_a_distribution_says_how_large_gains_are_and_how_many() -> None:
    (found,) = distributions(simulated(mean=0.02, methods=["SAM"]))
    assert (found.cells, len(found.by_task)) == (48, 6)
    assert found.typical.ci95[0] < 0.02 < found.typical.ci95[1]
    assert found.typical.mean == pytest.approx(0.02, abs=0.004)
    assert found.above > 0.9
    assert found.verdicts["helps"] > 40
    assert found.verdicts["hurts"] == 0
    assert {domain: len(means) for domain, means in found.by_domain.items()} == {
        "images": 1, "signals": 2, "tables": 1, "sequences": 1, "graphs": 1,
    }  # fmt: skip
    assert distributions(simulated().iloc[:0]) == []


def test_intervals_over_tasks_are_students_with_tasks_as_the_sample() -> None:
    """Eight cells of a task that share all are one witness, and six tasks have five degrees of freedom."""
    (found,) = distributions(simulated(by_task=0.02, methods=["SAM"]))
    means = [mean for mean, _ in found.by_task.values()]
    reference = stats.ttest_1samp(means, 0)
    low, high = reference.confidence_interval(0.95)
    assert found.typical.ci95 == pytest.approx((low, high), abs=2e-4)
    assert found.p_holm == pytest.approx(reference.pvalue, rel=0.05)


def test_the_error_of_a_task_is_that_of_its_replicates() -> None:
    """Cells share a replicate's split: what moves all of them together is not averaged away."""
    frame = simulated(by_task=0.0, methods=["SAM"])
    rng = np.random.default_rng(1)
    together = {(task, number): rng.normal(0, 0.01) for task in TASKS for number in range(1, 9)}
    moved = [together[key] for key in frame[["task", "replicate"]].itertuples(index=False, name=None)]
    frame[[*OVER]] = frame[[*OVER]].add(moved, axis=0)
    (found,) = distributions(over_strongest(frame))
    assert found.typical.error == pytest.approx(0.01 / math.sqrt(8 * len(TASKS)), rel=0.4)


def test_verdicts_of_a_null_are_few() -> None:
    told = [distributions(simulated(seed=seed, mean=0.0, by_task=0.0, methods=["SAM"]))[0] for seed in range(10)]
    assert sum(one.verdicts["helps"] + one.verdicts["hurts"] for one in told) <= 6  # of 60 families at 5 %


def as_two_parts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return an atlas in which half of a task's cells are another part, under another base optimizer."""
    first, second, *_ = FACTORS
    alike = frame[first].rank(method="dense") == frame[second].rank(method="dense")  # so each part has all levels
    other = (frame["task"] == "digits") & alike
    frame = frame.copy()
    frame.loc[other, ["part", "base"]] = ["atlas-digits-adamw", "AdamW"]
    return frame


def test_two_parts_of_one_task_are_one_task() -> None:
    once = simulated(by_feature=0.01, by_task=0.01)
    twice = as_two_parts(once)
    assert twice["part"].nunique() == 7
    one, two = distributions(once)[2], distributions(twice)[2]
    assert two.by_task.keys() == one.by_task.keys()
    assert two.typical.ci95 == pytest.approx(one.typical.ci95)
    by_name = {found.name: found for found in moderation_by_factors(twice, "SAM")}
    assert [*by_name["base"].by_task] == ["digits"]
    for found in moderation_by_factors(once, "SAM"):
        assert by_name[found.name].ci95 == pytest.approx(found.ci95)
    assert rule(twice, "SAM").tasks == rule(once, "SAM").tasks == 6
    checked = validate(cell_means(twice, "SAM"))
    assert checked is not None
    assert (checked.tasks, checked.cells) == (6, 48)
    trials = simulated_trials()
    parted = pd.concat([trials, trials[trials["task"] == "digits"].assign(part="digits-2")])
    assert [*costs_of(parted, "SAM").index] == [*costs_of(trials, "SAM").index]


def test_a_task_in_which_nothing_varies_but_by_rounding_is_no_witness() -> None:
    frame = simulated(by_feature=0.01)
    own = frame["task"] == TASKS[0]
    frame.loc[own, "score_gap"] = np.where(frame.loc[own, "label_noise"] > 0, 0.1, 0.1 + 1e-15)
    found = {one.name: one for one in moderation_by_features(frame, "SAM")}["score_gap"]
    assert {*found.by_task} == {*TASKS[1:]}
    assert max(map(abs, found.by_task.values())) < 0.05


def test_what_differs_between_parts_that_were_not_planned_for_it_is_no_factor() -> None:
    """A part that was added with other batches says nothing of batches: whatever else differs goes with them."""
    added = simulated(tasks=TASKS[:1], mean=0.2, seed=1).assign(part="atlas-digits-2", batch_size=20)
    both = pd.concat([simulated().assign(batch_size=100), added], ignore_index=True)
    assert cell_means(both, "SAM")["level batch_size"].isna().all()
    assert {one.name for one in moderation_by_factors(both, "SAM")} == {*FACTORS}


def test_parts_whose_decay_was_searched_count_in_their_own_question_alone() -> None:
    fixed = simulated(by_feature=0.01)
    searched = simulated(tasks=("digits", "fashion"), mean=0.2, searched=True, seed=1)
    both = pd.concat([fixed, searched], ignore_index=True)
    for method in METHODS:
        pd.testing.assert_frame_equal(cell_means(both, method), cell_means(fixed, method))
        assert moderation_by_factors(both, method) == moderation_by_factors(fixed, method)
    assert distributions(both) == distributions(fixed)
    assert replacements(both) == replacements(fixed)
    assert [*published_claims(both)] == [*published_claims(fixed)]
    trials = simulated_trials()
    (one,) = transfer(fixed, trials, "SAM")
    (two,) = transfer(both, pd.concat([trials, trials.assign(searched_decay=True, task="other")]), "SAM")
    assert one == two


@repeated("method", METHODS)
def test_moderators_are_found_with_their_size_and_their_sign(method: str) -> None:
    found = {
        one.name: one for one in moderation_by_factors(simulated(effects={"label_noise": 0.02, "width": -0.01}), method)
    }
    assert {*found} == {*FACTORS}
    assert found["label_noise"].effect == pytest.approx(0.02, abs=0.002)
    assert found["label_noise"].ci95[0] < 0.02 < found["label_noise"].ci95[1]
    assert found["width"].effect == pytest.approx(-0.01, abs=0.002)
    assert all(len(one.by_task) == 6 for one in found.values())
    assert found["train_size"].seen == found["schedule"].seen == "not seen"
    if method == "SAM":
        assert found["label_noise"].expected == "+"
        assert found["label_noise"].seen == "as expected"
        assert found["width"].seen == "the opposite"
    elif method == "EMA":
        assert found["label_noise"].expected == ""
        assert found["label_noise"].seen == "seen"


def test_few_tasks_say_nothing_and_their_effect_is_told() -> None:
    found = {one.name: one for one in moderation_by_factors(simulated(tasks=TASKS[:4], effects={"width": 0.01}), "SAM")}
    assert {one.seen for one in found.values()} == {"too few tasks"}
    assert found["width"].effect == pytest.approx(0.01, abs=0.003)
    assert math.isnan(found["width"].p_holm)


def test_a_null_moderator_is_seen_in_few_tables() -> None:
    seen = 0
    for seed in range(40):
        table = moderation_by_factors(simulated(seed=seed, methods=["SAM"]), "SAM")
        seen += any(one.seen not in ("not seen", "as expected") or one.p_holm < 0.05 for one in table)
    assert seen <= 6  # of 40 at 5 %: more come in .3 % of cases


def test_what_was_measured_moves_with_gains_of_other_replicates() -> None:
    found = {one.name: one for one in moderation_by_features(simulated(by_feature=0.01), "SAM")}
    assert found["score_gap"].effect == pytest.approx(0.01, abs=0.004)
    assert found["score_gap"].seen == "seen"
    assert {*found} == {"score_gap"}  # all others are the same everywhere
    assert rule(simulated(by_feature=0.02), "SAM").reliable
    assert not rule(simulated(), "SAM").reliable


@pytest.mark.parametrize(
    ("expected", "effect", "ci95", "p", "became"),
    [
        ("+", 0.01, (0.005, 0.015), 0.001, "as expected"),
        ("-", 0.01, (0.005, 0.015), 0.001, "the opposite"),
        ("-", -0.01, (-0.015, -0.005), 0.001, "as expected"),
        ("", 0.01, (0.005, 0.015), 0.001, "seen"),
        ("+", 0.01, (-0.005, 0.025), 0.2, "not seen"),
        ("0", 0.001, (-0.002, 0.004), 0.5, "as expected"),
        ("0", 0.001, (-0.02, 0.022), 0.9, "not seen"),
        ("0", 0.01, (0.004, 0.016), 0.01, "the opposite"),
        ("+", 0.01, (math.nan, math.nan), math.nan, "too few tasks"),
    ],
)
def test_what_becomes_of_an_expected_sign(
    expected: str, effect: float, ci95: tuple[float, float], p: float, became: str
) -> None:
    assert seen(Moderation("SAM", "width", {}, effect, ci95, p, expected)) == became


def test_signs_are_those_of_the_specs() -> None:
    signs = expectations()
    assert signs["label_noise", "SAM"] == signs["schedule", "SWA"] == "+"
    assert signs["augmentation", "SAM"] == signs["batch_size", "SWA"] == "-"
    assert {method for _, method in signs} == {"SAM", "SWA"}


def test_what_replaces_what_is_measured_task_by_task() -> None:
    found = replacements(simulated(early_stopping=0.05, decay=0.03, mean=0.01, longer=0.02))
    decay_last, decay_best, stopping, left, longer = found
    assert decay_last.found.mean == pytest.approx(0.03, abs=0.003)
    assert decay_best.found.mean == pytest.approx(0.0, abs=0.003)
    assert stopping.found.mean == pytest.approx(0.05 + 0.03 / 2, abs=1e-9)  # half of the cells have a constant rate
    assert left.found.mean == pytest.approx(0.01, abs=0.004)
    assert longer.found.mean == pytest.approx(0.02, abs=1e-9)
    assert all(len(one.by_task) == one.found.n == 6 for one in found)


def test_a_gain_beside_a_tuned_decay_is_held_against_that_beside_a_fixed_one() -> None:
    fixed = simulated(tasks=TASKS[:2], mean=0.02, by_task=0.0)
    searched = simulated(tasks=TASKS[:1], mean=0.005, by_task=0.0, searched=True, seed=1)
    both = pd.concat([fixed, searched], ignore_index=True)
    (one,) = beside_decay(both, "SAM")
    assert (one["task"], one["cells"]) == ("digits", 8)
    assert one["decay fixed"].mean == pytest.approx(0.02, abs=0.002)
    assert one["decay tuned for all"].mean == pytest.approx(0.005, abs=0.002)
    sides = [
        rows[(rows["task"] == "digits") & (rows["method"] == "SAM") & (rows["budget"] == "G")]
        for rows in (fixed, searched)
    ]
    first, second = (side.groupby("replicate")["gain"].mean() for side in sides)
    reference = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert one["difference"].ends == pytest.approx((reference.low, reference.high))
    assert [*beside_decay(fixed, "SAM")] == []


def test_the_setting_that_carries_over_is_found_and_costs_less_than_chance() -> None:
    (found,) = transfer(simulated(tasks=TASKS[:1]), simulated_trials(), "SAM")
    assert found["cheapest setting"] == "rate 0.037 to 0.14, rho 0.23 to 0.8"
    assert found["tasks"] == 3
    own, fixed, chance = (found[name].mean for name in ("its own", "cost of the others' cheapest", "at random"))
    assert 0 <= own <= fixed < chance / 2
    assert found["weights picked"] == "swa@0.8 64"
    costs = costs_of(simulated_trials(), "SAM").mean()
    assert len(costs) == 12
    assert costs["rate 0.037 to 0.14, rho 0"] > costs[found["cheapest setting"]]
    assert [*transfer(simulated(), simulated_trials(), "SWA")] == []  # no trial is the base's


def test_costs_are_those_of_a_slow_twin() -> None:
    frame = simulated_trials(seed=3)
    found = costs_of(frame, "WASAM")
    costs: dict[str, dict[str, list[float]]] = {}
    for (task, cell), rows in frame.groupby(["task", "cell"]):
        own: dict[str, list[float]] = {}
        for _, some in rows.groupby("replicate"):
            top = max(max(row.last, row.best, row.swa) for row in some.itertuples())
            for row in some.itertuples():
                rate = row.learning_rate / (0.04 if row.base == "AdamW" else 1)
                where = "0.01 to 0.037" if rate < 0.0368 else "0.037 to 0.14" if rate < 0.136 else "0.14 to 0.5"
                radius = (
                    "0" if row.rho == 0 else "0.02 to 0.068" if row.rho < 0.0684
                    else "0.068 to 0.23" if row.rho < 0.234 else "0.23 to 0.8"
                )  # fmt: skip
                own.setdefault(f"rate {where}, rho {radius}", []).append(top - max(row.last, row.best, row.swa))
        for name, values in own.items():
            costs.setdefault(f"{task}", {}).setdefault(name, []).append(float(np.mean(values)))
        assert cell in "ab"
    assert {*found} == set.intersection(*({*by} for by in costs.values()))
    for task, by in costs.items():
        for name in found:
            assert found.loc[task, name] == pytest.approx(float(np.mean(by[name])))


def test_delta_is_that_of_the_parts() -> None:
    assert DELTA == 0.005


def outcomes(frame: pd.DataFrame) -> dict[int, str]:
    return {number: str(row["outcome"]) for number, row in enumerate(published_claims(frame), 1)}


def test_published_claims_are_held_against_what_was_put_in() -> None:
    found = outcomes(simulated(effects={"label_noise": 0.02}, decay=0.03, early_stopping=0.05))
    assert [*found] == list(range(1, 14))
    assert {number: outcome for number, outcome in found.items() if outcome != "not tested"} == {
        1: "agrees", 2: "agrees", 5: "agrees", 9: "undecided", 10: "undecided", 12: "disagrees", 13: "agrees",
    }  # fmt: skip
    assert outcomes(simulated(longer=0.01))[12] == "agrees"
    contrary = outcomes(simulated(effects={"label_noise": -0.02}, decay=-0.03, early_stopping=-0.05))
    assert {contrary[number] for number in (1, 2, 13)} == {"disagrees"}


def test_few_tasks_decide_no_claim() -> None:
    found = outcomes(simulated(tasks=TASKS[:4], effects={"label_noise": 0.05}, decay=0.1, early_stopping=0.1))
    assert {*found.values()} == {"undecided", "not tested"}


def shown_by(frame: pd.DataFrame, number: int) -> Row:
    return [*published_claims(frame)][number - 1]


def test_wasam_below_both_disagrees_and_chance_does_not_make_it_better() -> None:
    frame = simulated()
    frame.loc[frame["method"] == "WASAM", "score"] -= 0.03
    assert outcomes(frame)[5] == "disagrees"
    noise = [shown_by(simulated(seed=seed, by_task=0.0), 5)["over tasks"] for seed in range(5)]
    assert all(isinstance(one, Gain) for one in noise)
    assert np.mean([one.mean for one in noise]) == pytest.approx(0.0, abs=4e-4)  # the worse by chance lies 8e-4 below


def test_a_baseline_that_gains_nothing_by_more_epochs_shrinks_no_gain() -> None:
    """The strongest of more baselines is stronger by chance alone: like is held against like."""
    frame = simulated(longer=0.0)
    equal = chance_made_strong(frame, 0.02, frame["label_noise"] >= 0)
    assert shown_by(equal, 12)["over tasks"].mean == pytest.approx(0.0, abs=0.002)
    assert outcomes(equal)[12] == "disagrees"
    sides = [estimate(cell_means(equal, "SAM", budget)["gain"].to_list()).mean for budget in ("E", "G")]
    assert sides[0] - sides[1] > 0.002


def test_verdicts_are_of_the_family_of_a_part() -> None:
    frame = simulated(tasks=TASKS[:2], mean=0.02)
    found = verdicts(rows_of(frame, "SAM", "G"), "G")
    assert len(found) == 16
    assert {*found.values()} == {"helps"}
    assert {part for part, _ in found} == {"atlas-digits", "atlas-mnist1d"}
