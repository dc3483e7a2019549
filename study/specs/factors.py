"""Factors: what can be varied between cells, with what each allows, and which tasks there are to vary it in.

Plain data without torch, so that a spec is checked, planned and read back in an instant. A factor that was added after
the first studies is *optional*: it stands in a cell only where a spec or a task names it, so that the run ids of older
studies stay; `factor_of` fills its default in.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from study.records import FactorValue
from study.specs.model_names import IMAGE_MODELS, form_of
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

    def check(self, name: str, value: FactorValue, task: str) -> None:
        """Raise a ValueError that says what was given and what is allowed, unless ``value`` is fine for ``task``."""
        right_type = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not (right_type and self.allows(value)):
            raise ValueError(f"factors.{name} = {value!r} was given; allowed is {self.allowed}")
        limits = limits_of(task)
        if name in limits.without or (name in OF_SOME_TASKS and name not in limits.defaults):
            raise ValueError(f"factors.{name} was given; task {task!r} has no such factor")
        if name == "model" and limits.models and form_of(str(value), limits.models) is None:
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
        "learning-rate schedule", str, f"one of {', '.join(map(json.dumps, SCHEDULES))}",
        lambda value: value in SCHEDULES,
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
}
OF_SOME_TASKS = ("transforms", "image_size")  # they stand in the cells of tasks that have a default for them alone
_OF_TRAINING = ("schedule", "ascent_batch", "train_size", "epochs", "batch_size", "momentum", "weight_decay")


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a spec needs to know of a task before anything is loaded; `study.tasks` holds the data and the model.

    Attributes:
        description: One line for people.
        models: Names, or forms of names (see `study.specs.model_names`), that its factor ``model`` may take; empty:
            any.
        max_train_size: Training examples that there are; without a default for it, a spec has to give train_size.
        classes: Of a classification or of a vocabulary; 0 for a regression, or where the data decide.
        defaults: Values of its own, over the common ones.
        without: Factors that mean nothing to it; they stand in none of its cells.
        metric: What its score is called.
    """

    description: str
    models: tuple[str, ...]
    max_train_size: int
    classes: int
    defaults: dict[str, FactorValue] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    metric: str = "accuracy"


_OF_CIFAR: dict[str, FactorValue] = {"batch_size": 128, "ascent_batch": 32}

TASKS: dict[str, TaskLimits] = {
    "digits": TaskLimits(
        "scikit-learn's 1,797 real 8×8 images of handwritten digits", ("conv", "mlp"), 1000, 10,
        {"model": "conv", "train_size": 1000, "epochs": 20},
    ),
    "mnist1d": TaskLimits(
        "MNIST-1D: 40-point signals, ten classes, made from the published recipe", ("conv", "mlp"), 4000, 10,
        {"model": "conv", "train_size": 4000, "epochs": 30},
    ),
    "mnist": TaskLimits(
        "MNIST: 70,000 grey 28×28 images of handwritten digits", IMAGE_MODELS, 54_000, 10,
        {"model": "conv", "train_size": 54_000, "epochs": 10, "transforms": "none"},
    ),
    "fashion": TaskLimits(
        "Fashion-MNIST: 70,000 grey 28×28 images of clothing", IMAGE_MODELS, 54_000, 10,
        {"model": "conv", "train_size": 54_000, "epochs": 10, "transforms": "none"},
    ),
    "svhn": TaskLimits(
        "SVHN: 99,289 colour 32×32 images of house numbers (without the extra part)", IMAGE_MODELS, 65_931, 10,
        {"model": "resnet18", "train_size": 65_931, "epochs": 100, "transforms": "none", **_OF_CIFAR},
    ),
    "cifar10": TaskLimits(
        "CIFAR-10: 60,000 colour 32×32 images of ten classes", IMAGE_MODELS, 45_000, 10,
        {"model": "resnet18", "train_size": 45_000, "epochs": 200, "transforms": "crop-flip", **_OF_CIFAR},
    ),
    "cifar100": TaskLimits(
        "CIFAR-100: 60,000 colour 32×32 images of a hundred classes", IMAGE_MODELS, 45_000, 100,
        {"model": "resnet18", "train_size": 45_000, "epochs": 200, "transforms": "crop-flip", **_OF_CIFAR},
    ),
    "image-folder": TaskLimits(
        "your own images, as in ImageNet: train/CLASS/*.jpg, test/CLASS/*.jpg, and val/ if you like",
        IMAGE_MODELS, 10**12, 0,
        {"model": "torchvision/resnet50", "epochs": 90, "batch_size": 256, "ascent_batch": 32, "weight_decay": 1e-4,
         "transforms": "crop-flip", "image_size": 224},
    ),
    "breast_cancer": TaskLimits(
        "scikit-learn's 569 tumours, 30 measures each, malignant or benign", ("mlp",), 300, 2,
        {"model": "mlp", "train_size": 300, "epochs": 40, "batch_size": 25, "ascent_batch": 5},
        without=("augmentation", "norm"),
    ),
    "wine": TaskLimits(
        "scikit-learn's 178 wines, 13 measures each, of three growers", ("mlp",), 80, 3,
        {"model": "mlp", "train_size": 80, "epochs": 60, "batch_size": 20, "ascent_batch": 5},
        without=("augmentation", "norm"),
    ),
    "diabetes": TaskLimits(
        "scikit-learn's 442 patients, ten measures each, and the progress of their disease", ("mlp",), 220, 0,
        {"model": "mlp", "train_size": 220, "epochs": 40, "batch_size": 20, "ascent_batch": 5},
        without=("label_noise", "augmentation", "norm", "label_smoothing"), metric="R²",
    ),
    "characters": TaskLimits(
        "the next character of Python's own help topics, in windows of 32", ("transformer",), 10_000, 97,
        {"model": "transformer", "train_size": 2000, "epochs": 8, "batch_size": 20, "ascent_batch": 5},
        without=("label_noise", "augmentation", "norm", "label_smoothing"), metric="token accuracy",
    ),
    "communities": TaskLimits(
        "the communities of the nodes of random graphs (stochastic block model)", ("gin",), 800, 4,
        {"model": "gin", "train_size": 400, "epochs": 20, "batch_size": 20, "ascent_batch": 5},
        without=("augmentation", "norm", "label_smoothing"), metric="node accuracy",
    ),
}  # fmt: skip

_OWN_TASK = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_OWN_FACTOR = re.compile(r"[a-z][a-z0-9_]{0,39}")
_OWN_LIMITS = TaskLimits(
    "a task of your own", (), 10**12, 0, {"epochs": 20},
    without=tuple(name for name in FACTORS if name not in (*_OF_TRAINING, *OPTIONAL)), metric="score",
)  # fmt: skip

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


def is_own_task(task: str) -> bool:
    """Tell whether a task's name is that of a user's own: ``my_package.my_module:build``."""
    return _OWN_TASK.fullmatch(task) is not None


def limits_of(task: str) -> TaskLimits:
    """Return the limits of a task, built in or a user's own."""
    return _OWN_LIMITS if is_own_task(task) else TASKS[task]


def default_factors(task: str) -> dict[str, FactorValue]:
    """Return a value for every factor that a cell of the task always has: its own defaults over the common ones.

    A user's own task has those of the training only; its ``train_size`` must come from the spec.
    """
    limits = limits_of(task)
    merged = _DEFAULTS | limits.defaults
    return {name: merged[name] for name in FACTORS if name in merged and name not in limits.without}


def factor_of(factors: Mapping[str, FactorValue], name: str) -> FactorValue:
    """Return an optional factor of a cell, at its default where the cell does not name it."""
    return factors.get(name, OPTIONAL[name])


def check_factor(name: str, value: FactorValue, task: str) -> None:
    """Check one value of one factor of a task.

    Raises:
        ValueError: with what was given and what is allowed.
    """
    if name in FACTORS and not (is_own_task(task) and name in limits_of(task).without):
        FACTORS[name].check(name, value, task)
    elif not is_own_task(task):
        raise ValueError(f"factors.{name} was given; available are {', '.join(FACTORS)}")
    elif not _OWN_FACTOR.fullmatch(name):
        raise ValueError(
            f"factors.{name} was given; a factor of your own has lower-case letters, digits and _, at most 40"
        )
