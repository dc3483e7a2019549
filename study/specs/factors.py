"""Factors: what can be varied between cells, with what each allows.

Plain data without torch, so that a spec is checked, planned and read back in an instant. A factor that was added after
the first studies is *optional*: it stands in a cell only where a spec or a task names it, so that the run ids of older
studies stay; `factor_of` fills its default in.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from study.records import FactorValue
from study.specs.own_names import is_own_name
from study.specs.schedules import SCHEDULES


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that a cell fixes.

    ``kind`` is the type (an int passes for a float), ``allows`` the test of a value, ``allowed`` the same in words.
    """

    description: str
    kind: type
    allowed: str
    allows: Callable[[FactorValue], bool]

    def check(self, name: str, value: FactorValue, key: str = "") -> None:
        """Raise a ValueError that says what was given and what is allowed, unless ``value`` is fine for some task.

        Args:
            name: The factor's. value: What it is given.
            key: Where that stands in the spec; "": among a problem's factors.
        """
        right_type = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not (right_type and self.allows(value)):
            raise ValueError(f"{key or f'factors.{name}'} = {value!r} was given; allowed is {self.allowed}")


FACTORS: dict[str, Factor] = {
    "model": Factor("network", str, "one of the task's models", bool),
    "label_noise": Factor(
        "share of training labels replaced by a wrong class", float, "a number from 0 to below 1",
        lambda value: 0 <= float(value) < 1,
    ),
    "schedule": Factor(
        "learning-rate schedule", str,
        f"one of {', '.join(map(json.dumps, SCHEDULES))}, or a function of your own as \"my_module:function\", from "
        "the share of steps done to the factor on the rate",
        lambda value: value in SCHEDULES or is_own_name(str(value)),
    ),
    "augmentation": Factor(
        "strength of random changes of training inputs: shifts and noise; of images of the vision tasks, RandAugment's",
        float, "a number from 0 to 1", lambda value: 0 <= float(value) <= 1,
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
    "steps_per_epoch": Factor(
        "steps of an epoch, in the place of train_size, of a task of your own whose training part is a stream", int,
        "a whole number from 1", lambda value: int(value) >= 1,
    ),
    "epochs": Factor("passes over the training set", int, "a whole number from 1", lambda value: int(value) >= 1),
    "batch_size": Factor("examples a step", int, "a whole number from 2", lambda value: int(value) >= 2),
    "momentum": Factor(
        "momentum of SGD", float, "a number from 0 to below 1", lambda value: 0 <= float(value) < 1
    ),
    "weight_decay": Factor("L2 coefficient of SGD", float, "a number from 0", lambda value: float(value) >= 0),
    "label_smoothing": Factor(
        "share of a training target that goes to all classes", float, "a number from 0 to below 1",
        lambda value: 0 <= float(value) < 1,
    ),
    "precision": Factor(
        "arithmetic of forward and backward", str, '"float32" or "bfloat16" (autocast)',
        lambda value: value in ("float32", "bfloat16"),
    ),
    "warmup": Factor(
        "share of the steps in which the rate rises to the schedule's", float, "a number from 0 to below 1",
        lambda value: 0 <= float(value) < 1,
    ),
    "clip_norm": Factor(
        "largest norm of the gradient that a step is taken with, longer ones are scaled down; 0: none is", float,
        "a number from 0", lambda value: 0 <= float(value) < float("inf"),
    ),
    "gradient_accumulation_steps": Factor(
        "parts of a batch whose gradients are added up one after the other: a step's examples, in less memory, and "
        "batch statistics of the parts", int, "a whole number from 1 that divides batch_size",
        lambda value: int(value) >= 1,
    ),
    "validation_label_noise": Factor(
        "whether the labels of the validation part are as noisy as those of the training part", str,
        '"same" or "none"', lambda value: value in ("same", "none"),
    ),
    "transforms": Factor(
        "what every training image goes through: a shifted crop, and a mirror image where that keeps the class, half "
        "of the time; with cutout, a blank square besides", str, '"none", "crop-flip" or "cutout"',
        lambda value: value in ("none", "crop-flip", "cutout"),
    ),
    "image_size": Factor(
        "pixels of each side that images of a folder are cut to", int, "a whole number from 8",
        lambda value: int(value) >= 8,
    ),
}  # fmt: skip


OPTIONAL: dict[str, FactorValue] = {
    "label_smoothing": 0.0,
    "precision": "float32",
    "warmup": 0.0,
    "clip_norm": 0.0,
    "gradient_accumulation_steps": 1,
    "validation_label_noise": "same",
}
# Of tasks that have a default for them alone; steps_per_epoch of those of one's own, in the cells that name it.
OF_SOME_TASKS = ("transforms", "image_size", "steps_per_epoch")
OF_TRAINING = (
    "schedule", "ascent_batch", "train_size", "steps_per_epoch", "epochs", "batch_size", "momentum", "weight_decay",
    "precision", "warmup", "clip_norm", "gradient_accumulation_steps",
)  # fmt: skip
# Of every task that does not name its own.
DEFAULTS: dict[str, FactorValue] = {
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


def factor_of(factors: Mapping[str, FactorValue], name: str) -> FactorValue:
    """Return an optional factor of a cell, at its default where the cell does not name it."""
    return factors.get(name, OPTIONAL[name])
