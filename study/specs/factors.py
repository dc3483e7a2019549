"""Factors: what can be varied between cells, with what each allows.

Plain data without torch, so that a spec is checked, planned and read back in an instant. A factor that was added after
the first studies is *optional*: it stands in a cell only where a spec or a task names it, so that the run ids of older
studies stay; `factor_of` fills its default in.
"""

import json
import math
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

    def check(self, name: str, value: FactorValue) -> None:
        """Raise a ValueError that says what was given and what is allowed, unless ``value`` is fine for some task."""
        right_type = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not (right_type and self.allows(value)):
            raise ValueError(f"factors.{name} = {value!r} was given; allowed is {self.allowed}")


def _number(description: str, low: float, high: float = math.inf, *, below: bool = False) -> Factor:
    """Return a number from ``low`` to ``high``, or to below it, as it is where nothing is above it."""
    upper = "" if high == math.inf else f" to {'below ' if below else ''}{high:g}"

    def allows(value: FactorValue) -> bool:
        return low <= float(value) < high or (float(value) == high < math.inf and not below)

    return Factor(description, float, f"a number from {low:g}{upper}", allows)


def _whole(description: str, low: int, more: str = "") -> Factor:
    return Factor(description, int, f"a whole number from {low}{more}", lambda value: int(value) >= low)


def _one_of(description: str, *values: str) -> Factor:
    *head, last = map(json.dumps, values)
    return Factor(description, str, f"{', '.join(head)} or {last}", lambda value: value in values)


FACTORS: dict[str, Factor] = {
    "model": Factor("network", str, "one of the task's models", bool),
    "label_noise": _number("share of training labels replaced by a wrong class", 0, 1, below=True),
    "schedule": Factor(
        "learning-rate schedule",
        str,
        f'one of {", ".join(map(json.dumps, SCHEDULES))}, or a function of your own as "my_module:function", from '
        "the share of steps done to the factor on the rate",
        lambda value: value in SCHEDULES or is_own_name(str(value)),
    ),
    "augmentation": _number(
        "strength of random changes of training inputs: shifts and noise; of images of the vision tasks, RandAugment's",
        0,
        1,
    ),
    "norm": _one_of("normalization of the conv net", "batch", "group", "none"),
    "width": _number("multiple of the network's channels or hidden units", 0.25, 16),
    "ascent_batch": _whole("examples of an ascent micro-batch (m) for m-SAM", 2),
    "train_size": _whole("training examples", 10),
    "steps_per_epoch": _whole(
        "steps of an epoch, in the place of train_size, of a task of your own whose training part is a stream", 1
    ),
    "epochs": _whole("passes over the training set", 1),
    "batch_size": _whole("examples a step", 2),
    "momentum": _number("momentum of SGD", 0, 1, below=True),
    "weight_decay": _number("L2 coefficient of SGD", 0),
    "label_smoothing": _number("share of a training target that goes to all classes", 0, 1, below=True),
    "precision": Factor(
        "arithmetic of forward and backward",
        str,
        '"float32" or "bfloat16" (autocast)',
        lambda value: value in ("float32", "bfloat16"),
    ),
    "warmup": _number("share of the steps in which the rate rises to the schedule's", 0, 1, below=True),
    "clip_norm": _number(
        "largest norm of the gradient that a step is taken with, longer ones are scaled down; 0: none is", 0
    ),
    "gradient_accumulation_steps": _whole(
        "parts of a batch whose gradients are added up one after the other: a step's examples, in less memory, and "
        "batch statistics of the parts",
        1,
        " that divides batch_size",
    ),
    "validation_label_noise": _one_of(
        "whether the labels of the validation part are as noisy as those of the training part", "same", "none"
    ),
    "transforms": _one_of(
        "what every training image goes through: a shifted crop, and a mirror image where that keeps the class, half "
        "of the time; with cutout, a blank square besides",
        "none",
        "crop-flip",
        "cutout",
    ),
    "image_size": _whole("pixels of each side that images of a folder are cut to", 8),
}


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
