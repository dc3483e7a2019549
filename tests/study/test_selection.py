"""Validation alone decides, by a rule without loose ends."""

from typing import Any

import pytest

from study.plan.selection import Selection, best_measurement, select
from study.records import Job, Measurement, RunRecord
from study.specs.spec import SearchSpace
from study.specs.tasks import default_factors

SPACE = SearchSpace(trials=4)
EPOCHS = 20


def final(weights: str, accuracy: float, loss: float = 1.0, epoch: int = EPOCHS) -> Measurement:
    return Measurement(weights=weights, epoch=epoch, val_score=accuracy, val_loss=loss)


def trial(number: int, *measurements: Measurement, status: str = "completed", **hyperparameters: float) -> RunRecord:
    proposal: dict[str, Any] = {"learning_rate": 0.1, "rho": 0.1, "average_start": 0.6}
    job = Job(
        stage="tune",
        cell="digits",
        task="digits",
        factors=default_factors("digits"),
        family="sam",
        epochs_factor=1,
        average_starts=(0.5, 0.75),
        seed=0,
        trial=number,
        search="sam",
        **(proposal | hyperparameters),
    )
    once = tuple({(m.weights, m.epoch): m for m in measurements}.values())  # a record holds no measurement twice
    data = {"run_id": job.run_id, "spec_hash": "", "job": job, "status": status, "measurements": once}
    return RunRecord.model_validate(data)


def chosen(method: str, *trials: RunRecord) -> Selection:
    found = select(method, trials, SPACE)
    assert found is not None
    assert select(method, reversed(trials), SPACE) == found  # the order of the records has no say
    return found


def test_the_best_final_validation_accuracy_wins() -> None:
    trials = (trial(0, final("last", 0.8)), trial(1, final("last", 0.9)), trial(2, final("last", 0.7)))
    assert (chosen("SAM", *trials).trial, chosen("SAM", *trials).val_score) == (1, 0.9)
    assert chosen("SAM", *trials).trials == 3


def test_earlier_epochs_do_not_count() -> None:
    trials = (trial(0, final("last", 0.99, epoch=EPOCHS - 1), final("last", 0.8)), trial(1, final("last", 0.85)))
    assert chosen("SAM", *trials).trial == 1


def test_only_an_averaging_method_sees_averages() -> None:
    trials = (trial(0, final("last", 0.8), final("swa@0.5", 0.95)), trial(1, final("last", 0.9)))
    assert (chosen("SAM", *trials).trial, chosen("SAM", *trials).weights) == (1, "last")
    assert (chosen("WASAM", *trials).trial, chosen("WASAM", *trials).weights) == (0, "swa@0.5")


def test_no_averaging_lies_inside_the_space_of_averaging() -> None:
    trials = (trial(0, final("last", 0.9), final("swa@0.5", 0.8)),)
    assert chosen("WASAM", *trials).weights == "last"


def test_ties_go_to_the_lower_loss() -> None:
    trials = (trial(0, final("last", 0.9, 0.5)), trial(1, final("last", 0.9, 0.4)))
    assert chosen("SAM", *trials).trial == 1


def test_then_to_the_earlier_trial() -> None:
    trials = (trial(2, final("last", 0.9, 0.5)), trial(1, final("last", 0.9, 0.5)))
    assert chosen("SAM", *trials).trial == 1
    averaged_first = (trial(0, final("last", 0.8), final("swa@0.5", 0.9)), trial(1, final("last", 0.9)))
    assert chosen("WASAM", *averaged_first).trial == 0


def test_then_to_the_simpler_weights() -> None:
    averages = (final("swa@0.75", 0.9), final("swa@0.5", 0.9))
    assert chosen("WASAM", trial(0, *averages, final("last", 0.9))).weights == "last"
    assert chosen("WASAM", trial(0, *averages, final("last", 0.8))).weights == "swa@0.5"


def test_a_known_loss_goes_before_an_unknown_one() -> None:
    unknown = Measurement(weights="last", epoch=EPOCHS, val_score=0.9)
    assert chosen("SAM", trial(0, unknown), trial(1, final("last", 0.9, 5.0))).trial == 1


def test_failed_trials_are_not_compared_and_diverged_ones_are() -> None:
    trials = (
        trial(0, status="failed"),
        trial(1, final("last", 0.1), status="diverged"),
        trial(2, final("last", 0.9)),
    )
    assert (chosen("SAM", *trials).trial, chosen("SAM", *trials).trials) == (2, 2)


def test_nothing_is_selected_where_all_failed() -> None:
    assert select("SAM", [trial(0, status="failed"), trial(1, status="failed")], SPACE) is None
    assert select("SAM", [], SPACE) is None
    assert best_measurement("SAM", trial(0, status="failed")) is None


@pytest.mark.parametrize(
    ("hyperparameters", "weights", "expected"),
    [
        ({}, "last", ()),
        ({"learning_rate": SPACE.learning_rate.at(0.04)}, "last", ("learning_rate",)),
        ({"learning_rate": SPACE.learning_rate.at(0.06)}, "last", ()),
        ({"rho": SPACE.rho.at(0.96)}, "last", ("rho",)),
        ({"rho": 0.0}, "last", ()),  # the base step is a setting of its own, not the low end of a log range
        ({"average_start": 0.42}, "last", ()),
        ({"average_start": 0.42}, "swa@0.5", ()),
        ({"average_start": 0.42}, "swa@0.42", ("average_start",)),
        ({"learning_rate": 0.5, "rho": 0.8}, "last", ("learning_rate", "rho")),
    ],
)
def test_a_value_at_the_edge_is_flagged(
    hyperparameters: dict[str, float], weights: str, expected: tuple[str, ...]
) -> None:
    record = trial(0, final("last", 0.5), final(weights, 0.9), status="completed", **hyperparameters)
    assert chosen("WASAM", record).at_edge == expected
