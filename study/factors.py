"""Factors: what can be varied between cells, with what each allows, and which tasks there are to vary it in.

Plain data without torch, so that a spec is checked, planned and read back in an instant.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from study.records import FactorValue


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that a cell fixes.

    ``kind`` is the type (an int passes for a float), ``allows`` the test of a value, ``allowed`` the same in words.
    """

    description: str
    kind: type
    allowed: str
    allows: Callable[[FactorValue], bool]

    def check(self, name: str, value: FactorValue, task: str) -> None:
        """Raise a ValueError that says what was given and what is allowed, unless ``value`` is fine for ``task``."""
        right_type = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not (right_type and self.allows(value)):
            raise ValueError(f"factors.{name} = {value!r} was given; allowed is {self.allowed}")
        limits = TASKS[task]
        if name == "model" and value not in limits.models:
            raise ValueError(f"factors.model = {value!r} was given; task {task!r} has {', '.join(limits.models)}")
        if name == "train_size" and value > limits.max_train_size:  # type: ignore[operator]  # an int by now
            raise ValueError(
                f"factors.train_size = {value} was given; task {task!r} has at most {limits.max_train_size} "
                "training examples"
            )


FACTORS: dict[str, Factor] = {
    "model": Factor("network", str, "one of the task's models", bool),
    "label_noise": Factor(
        "share of training labels replaced by a wrong class", float, "a number from 0 to below 1",
        lambda value: 0 <= float(value) < 1,
    ),
    "schedule": Factor(
        "learning-rate schedule", str, '"cosine" (to 0) or "constant"',
        lambda value: value in ("cosine", "constant"),
    ),
    "augmentation": Factor(
        "strength of random shifts and noise on training inputs", float, "a number from 0 to 1",
        lambda value: 0 <= float(value) <= 1,
    ),
    "norm": Factor(
        "normalization of the conv net", str, '"batch", "group" or "none"',
        lambda value: value in ("batch", "group", "none"),
    ),
    "width": Factor(
        "multiple of the network's channels or hidden units", float, "a number from 0.25 to 16",
        lambda value: 0.25 <= float(value) <= 16,
    ),
    "ascent_batch": Factor(
        "examples of an ascent micro-batch (m) for m-SAM", int, "a whole number from 2", lambda value: int(value) >= 2
    ),
    "train_size": Factor("training examples", int, "a whole number from 10", lambda value: int(value) >= 10),
    "epochs": Factor("passes over the training set", int, "a whole number from 1", lambda value: int(value) >= 1),
    "batch_size": Factor("examples a step", int, "a whole number from 2", lambda value: int(value) >= 2),
    "momentum": Factor(
        "momentum of SGD", float, "a number from 0 to below 1", lambda value: 0 <= float(value) < 1
    ),
    "weight_decay": Factor("L2 coefficient of SGD", float, "a number from 0", lambda value: float(value) >= 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a spec needs to know of a task before anything is loaded; `study.tasks` holds the data and the model."""

    description: str
    models: tuple[str, ...]
    max_train_size: int
    classes: int
    defaults: dict[str, FactorValue] = field(default_factory=dict)


TASKS: dict[str, TaskLimits] = {
    "digits": TaskLimits(
        "scikit-learn's 1,797 real 8×8 images of handwritten digits", ("conv", "mlp"), 1000, 10,
        {"model": "conv", "train_size": 1000, "epochs": 20},
    ),
    "mnist1d": TaskLimits(
        "MNIST-1D: 40-point signals, ten classes, made from the published recipe", ("conv", "mlp"), 4000, 10,
        {"model": "conv", "train_size": 4000, "epochs": 30},
    ),
}  # fmt: skip

_DEFAULTS: dict[str, FactorValue] = {
    "label_noise": 0.0,
    "schedule": "cosine",
    "augmentation": 0.0,
    "norm": "batch",
    "width": 1.0,
    "ascent_batch": 25,
    "batch_size": 100,
    "momentum": 0.9,
    "weight_decay": 5e-4,
}


def default_factors(task: str) -> dict[str, FactorValue]:
    """Return a value for every factor: the task's own defaults over the common ones."""
    merged = _DEFAULTS | TASKS[task].defaults
    return {name: merged[name] for name in FACTORS}
