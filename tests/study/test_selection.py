"""Validation alone decides, by a rule without loose ends."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.plan.selection import Selection, preferred_at, preferred_of, select
from study.records import Job, Measurement, RunRecord
from study.specs.contenders import Contender
from study.specs.methods import METHODS
from study.specs.spec import SearchSpace
from study.specs.tasks import default_factors

SPACE = SearchSpace(trials=4)
EPOCHS = 20
READS = {"SAM": ("last",), "WASAM": ("last", "swa"), "SAM best": ("best",), "WASAM best": ("last", "best", "swa")}


def reader(name: str, lengths: tuple[float, ...] = (1.0,)) -> Contender:
    method = name.removesuffix(" best")
    return Contender(method, METHODS[method], READS[name], lengths)


def final(weights: str, accuracy: float, loss: float = 1.0, epoch: int = EPOCHS) -> Measurement:
    return Measurement(weights=weights, epoch=epoch, val_score=accuracy, val_loss=loss)


def best(accuracy: float, at: int, loss: float = 1.0, epoch: int = EPOCHS) -> Measurement:
    return Measurement(weights="best", epoch=epoch, weights_epoch=at, val_score=accuracy, val_loss=loss)


def trial(number: int, *measurements: Measurement, status: str = "completed", **hyperparameters: float) -> RunRecord:
    proposal: dict[str, Any] = {"learning_rate": 0.1, "rho": 0.1, "average_start": 0.6}
    job = Job(
        stage="tune",
        cell="digits",
        task="digits",
        factors=default_factors("digits"),
        family="sam",
        average_starts=(0.5, 0.75),
        seed=0,
        trial=number,
        search="sam",
        reads=("last", "best", "swa"),
        **({"epochs_factor": 1} | proposal | hyperparameters),
    )
    once = tuple({(m.weights, m.epoch): m for m in measurements}.values())  # a record holds no measurement twice
    data = {"run_id": job.run_id, "spec_hash": "", "job": job, "status": status, "measurements": once}
    return RunRecord.model_validate(data)


def chosen(method: str, *trials: RunRecord) -> Selection:
    found = select(reader(method, (1.0, 2.0)), trials, SPACE)
    assert found is not None
    assert select(reader(method, (1.0, 2.0)), reversed(trials), SPACE) == found  # the order of the records has no say
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


def test_then_to_the_cheaper_configuration() -> None:
    """The shorter training, and at one length the unperturbed one: what costs more has to be better."""
    level = final("last", 0.9, 0.5)
    longer = trial(0, final("last", 0.9, 0.5, epoch=2 * EPOCHS), epochs_factor=2.0)
    assert chosen("SAM", longer, trial(1, level)).epochs_factor == 1
    assert chosen("SAM", trial(0, level), trial(1, level, rho=0.0)).trial == 1
    assert chosen("SAM", longer, trial(1, level), trial(2, level, rho=0.0)).trial == 2
    better = trial(0, final("last", 0.9, 0.4, epoch=2 * EPOCHS), epochs_factor=2.0)
    assert chosen("SAM", better, trial(1, level)).epochs_factor == 2


def test_then_to_the_earlier_trial() -> None:
    trials = (trial(2, final("last", 0.9, 0.5)), trial(1, final("last", 0.9, 0.5)))
    assert chosen("SAM", *trials).trial == 1
    averaged_first = (trial(0, final("last", 0.8), final("swa@0.5", 0.9)), trial(1, final("last", 0.9)))
    assert chosen("WASAM", *averaged_first).trial == 0


def test_within_a_run_ties_go_to_the_later_epoch() -> None:
    """Whatever the losses: the later of two epochs that are level has seen more."""
    early = trial(0, final("last", 0.9, 0.9), best(0.9, at=7, loss=0.1))
    assert chosen("WASAM best", early).weights == "last"
    assert (chosen("SAM best", early).weights, chosen("SAM best", early).weights_epoch) == ("best", 7)
    higher = trial(0, final("last", 0.9, 0.1), best(0.95, at=7, loss=0.9))
    assert (chosen("WASAM best", higher).weights, chosen("WASAM best", higher).weights_epoch) == ("best", 7)
    at_the_end = trial(0, final("last", 0.9), best(0.9, at=EPOCHS))
    assert chosen("WASAM best", at_the_end).weights == "last"
    averaged = trial(0, final("last", 0.8), best(0.9, at=19, loss=0.1), final("swa@0.5", 0.9, 0.9))
    assert chosen("WASAM best", averaged).weights == "swa@0.5"


@given(
    scores=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    losses=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    at=st.integers(1, EPOCHS),
)  # fmt: skip
def test_what_a_run_stands_by_is_read_off_an_order(scores: list[int], losses: list[int], at: int) -> None:
    """The rule, said again as one order: score, then the epoch, then the loss, then the simpler weights."""
    some = [
        final("last", scores[0] / 4, losses[0]), best(scores[1] / 4, at, losses[1]),
        final("swa@0.5", scores[2] / 4, losses[2]),
    ]  # fmt: skip
    for order in itertools.permutations(some):
        found = preferred_at(order, EPOCHS).of(("last", "best", "swa"))
        stands = [(-(m.val_score or 0), -(m.weights_epoch or EPOCHS), m.val_loss, m.weights != "last", m.weights)
                  for m in some]  # fmt: skip
        assert found == some[stands.index(min(stands))]
        assert preferred_at(order, EPOCHS - 1).of(("last",)) is None
        assert preferred_at(order, EPOCHS).of(("ema",)) is None


def test_then_to_the_simpler_weights() -> None:
    averages = (final("swa@0.75", 0.9), final("swa@0.5", 0.9))
    assert chosen("WASAM", trial(0, *averages, final("last", 0.9))).weights == "last"
    assert chosen("WASAM", trial(0, *averages, final("last", 0.8))).weights == "swa@0.5"


def test_the_candidates_that_validation_chose_from_are_counted() -> None:
    """Checkpoints are those of the curve; the last epoch is one of them, and not another."""
    curve = [final("last", 0.1 * k, epoch=2 * k) for k in range(1, 11)]
    record = trial(0, *curve, best(0.9, at=18), final("swa@0.5", 0.8))
    counted = {name: chosen(name, record).candidates for name in READS}
    assert counted == {"SAM": 1, "WASAM": 1 + 3, "SAM best": 10, "WASAM best": 10 + 3}


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
    assert select(reader("SAM"), [trial(0, status="failed"), trial(1, status="failed")], SPACE) is None
    assert select(reader("SAM"), [], SPACE) is None
    assert preferred_of(trial(0, status="failed")).of(("last", "best")) is None


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
