"""Tasks by name: one entry says all of a task, from its limits to what loads its data and what builds it.

Plain data without torch. A name such as ``my_package.my_module:build`` is a user's own task.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from study.records import Configuration, FactorValue, Job, Measurement, RunRecord
from study.specs.factors import DEFAULTS, FACTORS, OF_SOME_TASKS, OF_TRAINING
from study.specs.model_names import IMAGE_MODELS, form_of
from study.specs.own_names import is_own_name

TestPart = Literal["drawn", "split", "official", "own", "anew", "same", "run", "loop"]
# What a verdict speaks of, by where the test part comes from.
TEST_PARTS: dict[TestPart, str] = {
    "drawn": "the distribution that the data are drawn from: every replicate is tested on new data",
    "split": "this data set, over its splits: every replicate splits a test part off anew",
    "official": "this one test part: all runs are tested on it",
    # Of a user's own task: before anybody has looked, and as the preflight has found it.
    "own": "the test part that the task's own code returns",
    "anew": "the test part that the task's own code makes anew for every replicate",
    "same": "the one test part that the task's own code returns: all runs are tested on it",
    "run": "test parts that the task's own code makes anew for every run",
    "loop": "what the loop's own code tests on, which it alone knows: one test part, or one of each replicate",
}


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """All there is to say of a task.

    What loads, finds and builds is named (``module:function``) and imported when it is called, so that the table is
    read in an instant.

    Attributes:
        description: One line for people.
        models: Names, or forms of names (see `study.specs.model_names`), that its factor ``model`` may take; empty:
            any.
        max_train_size: Training examples that there are; without a default for it, a spec has to give train_size.
        classes: Of a classification or of a vocabulary; 0 for a regression, or where the data decide.
        load: From nothing, or the task's name and the folder of downloaded data (None: the usual places) where it has
            a ``find``, to whatever ``build`` needs; without torch. Empty for a user's own, which loads its data itself.
        build: From what ``load`` returned, a cell's factors and a seed to a `study.tasks.Task`. Empty for a user's own,
            which `study.tasks.own` builds.
        defaults: Values of its own, over the common ones.
        without: Factors that mean nothing to it; they stand in none of its cells.
        metric: What its score is called.
        test: Where a replicate's test part comes from: a key of `TEST_PARTS`.
        test_size: How many examples that part has; 0 where the data decide.
        find: Makes sure that the data are there, without reading them, from the same as ``load``; empty if they come
            with the study.
    """

    description: str
    models: tuple[str, ...]
    max_train_size: int
    classes: int
    load: str
    build: str
    defaults: dict[str, FactorValue] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    metric: str = "accuracy"
    test: TestPart = "split"
    test_size: int = 0
    find: str = ""


def _images(description: str, train: int, classes: int, test: int, **defaults: FactorValue) -> TaskEntry:
    """Return the entry of images that are downloaded, with an official test part."""
    of_all: dict[str, FactorValue] = {"model": "conv", "train_size": train, "epochs": 10, "transforms": "none"}
    return TaskEntry(
        description, IMAGE_MODELS, train, classes, "study.data.image_sets:load_images",
        "study.tasks.vision:image_task", of_all | defaults, test="official", test_size=test,
        find="study.data.image_sets:find_images",
    )  # fmt: skip


def _table(
    description: str, train: int, classes: int, test: int,
    load: str = "study.data.mlbench:load_table", find: str = "study.data.mlbench:find_table", **defaults: FactorValue,
) -> TaskEntry:  # fmt: skip
    """Return the entry of a table of measures, of which every replicate splits a test part off: UCI's, of mlbench."""
    return TaskEntry(
        description, ("mlp",), train, classes, load, "study.tasks.pool:pool_task", {"model": "mlp", **defaults},
        without=_OF_IMAGES, test_size=test, find=find,
    )  # fmt: skip


_OF_IMAGES = ("augmentation", "norm")
_RESNET: dict[str, FactorValue] = {"model": "resnet18", "batch_size": 128, "ascent_batch": 32}

TASKS: dict[str, TaskEntry] = {
    "digits": TaskEntry(
        "scikit-learn's 1,797 real 8×8 images of handwritten digits", ("conv", "mlp"), 1000, 10,
        "study.data.scikit_learn:load_digits_pool", "study.tasks.pool:pool_task",
        {"model": "conv", "train_size": 1000, "epochs": 20}, test_size=397,
    ),
    "mnist1d": TaskEntry(
        "MNIST-1D: 40-point signals, ten classes, made from the published recipe", ("conv", "mlp"), 4000, 10,
        "study.data.mnist1d:make_mnist1d_pool", "study.tasks.pool:pool_task",
        {"model": "conv", "train_size": 4000, "epochs": 30}, test="drawn", test_size=4000,
    ),
    "mnist": _images("MNIST: 70,000 grey 28×28 images of handwritten digits", 54_000, 10, 10_000),
    "fashion": _images("Fashion-MNIST: 70,000 grey 28×28 images of clothing", 54_000, 10, 10_000),
    "svhn": _images(
        "SVHN: 99,289 colour 32×32 images of house numbers (without the extra part)", 65_931, 10, 26_032,
        **_RESNET, epochs=100,
    ),
    "cifar10": _images(
        "CIFAR-10: 60,000 colour 32×32 images of ten classes", 45_000, 10, 10_000,
        **_RESNET, epochs=200, transforms="crop-flip",
    ),
    "cifar100": _images(
        "CIFAR-100: 60,000 colour 32×32 images of a hundred classes", 45_000, 100, 10_000,
        **_RESNET, epochs=200, transforms="crop-flip",
    ),
    "image-folder": TaskEntry(
        "your own images, as in ImageNet: train/CLASS/*.jpg, test/CLASS/*.jpg, and val/ if you like",
        IMAGE_MODELS, 10**12, 0,
        "study.data.image_folder:list_folder", "study.tasks.vision:folder_task",
        {"model": "torchvision/resnet50", "epochs": 90, "batch_size": 256, "ascent_batch": 32, "weight_decay": 1e-4,
         "transforms": "crop-flip", "image_size": 224},
        test="official", find="study.data.image_folder:find_folder",
    ),
    "breast_cancer": _table(
        "scikit-learn's 569 tumours, 30 measures each, malignant or benign", 300, 2, 169,
        "study.data.scikit_learn:load_breast_cancer_pool", "", train_size=300, epochs=40, batch_size=25, ascent_batch=5,
    ),
    "wine": _table(
        "scikit-learn's 178 wines, 13 measures each, of three growers", 80, 3, 58,
        "study.data.scikit_learn:load_wine_pool", "", train_size=80, epochs=60, batch_size=20, ascent_batch=5,
    ),
    "diabetes": TaskEntry(
        "scikit-learn's 442 patients, ten measures each, and the progress of their disease", ("mlp",), 220, 0,
        "study.data.scikit_learn:load_diabetes_pool", "study.tasks.pool:pool_task",
        {"model": "mlp", "train_size": 220, "epochs": 40, "batch_size": 20, "ascent_batch": 5},
        without=("label_noise", *_OF_IMAGES, "label_smoothing"), metric="R²", test_size=142,
    ),
    "letters": _table(
        "UCI's 20,000 printed letters, 16 measures each (Debian's r-cran-mlbench)", 15_000, 26, 4000,
        train_size=2000, epochs=20, batch_size=50,
    ),
    "satellite": _table(
        "UCI's 6,435 spots of soil, 36 brightnesses each from a satellite (Debian's r-cran-mlbench)", 3435, 6, 2000,
        train_size=1000, epochs=20, batch_size=50,
    ),
    "dna": _table(
        "UCI's 3,186 stretches of DNA, 180 marks each (Debian's r-cran-mlbench)", 1686, 3, 1000,
        train_size=1200, epochs=20, batch_size=50,
    ),
    "shuttle": _table(
        "UCI's 58,000 readings of nine sensors of a space shuttle (Debian's r-cran-mlbench)", 52_000, 7, 5000,
        train_size=1500, epochs=20, batch_size=50,
    ),
    "vowel": _table(
        "UCI's 990 spoken vowels, nine measures each (Debian's r-cran-mlbench)", 510, 11, 330,
        train_size=500, epochs=40, batch_size=20,
    ),
    "characters": TaskEntry(
        "the next character of Python's own help topics, in windows of 32", ("transformer",), 10_000, 97,
        "study.data.corpus:load_corpus", "study.tasks.text:text_task",
        {"model": "transformer", "train_size": 2000, "epochs": 8, "batch_size": 20, "ascent_batch": 5},
        without=("label_noise", *_OF_IMAGES, "label_smoothing"), metric="token accuracy", test_size=600,
    ),
    "communities": TaskEntry(
        "the communities of the nodes of random graphs (stochastic block model)", ("gin",), 800, 4,
        "study.data.communities:make_graphs", "study.tasks.graphs:graph_task",
        {"model": "gin", "train_size": 400, "epochs": 20, "batch_size": 20, "ascent_batch": 5},
        without=(*_OF_IMAGES, "label_smoothing"), metric="node accuracy", test="drawn", test_size=500,
    ),
}  # fmt: skip

# A factor of the user's own stands beside these in the frame, in every tracker and in the records.
RESERVED = frozenset(
    {*Job.model_fields, *RunRecord.model_fields, *Measurement.__dataclass_fields__, *Configuration._fields}
    | {"configuration", "final"}
) - {*FACTORS}  # fmt: skip
_SEARCHED = ("learning_rate", "rho", "average_start")
_EXACT = 2**53  # whole numbers up to here are the same number in every format that they are written in
_OWN_FACTOR = re.compile(r"[a-z][a-z0-9_]{0,39}")
_OWN_ENTRY = TaskEntry(
    "a task of your own", (), 10**12, 0, "", "", {"epochs": 20},
    without=tuple(name for name in FACTORS if name not in (*OF_TRAINING, "label_smoothing")),
    metric="score", test="own",
)  # fmt: skip


def is_own_task(task: str) -> bool:
    """Tell whether a task's name is that of a user's own: ``my_package.my_module:build``."""
    return is_own_name(task)


def entry_of(task: str) -> TaskEntry:
    """Return the entry of a task, built in or a user's own."""
    return _OWN_ENTRY if is_own_task(task) else TASKS[task]


def default_factors(task: str) -> dict[str, FactorValue]:
    """Return a value for every factor that a cell of the task always has: its own defaults over the common ones.

    A user's own task has those of the training only; its ``train_size`` must come from the spec.
    """
    entry = entry_of(task)
    merged = DEFAULTS | entry.defaults
    return {name: merged[name] for name in FACTORS if name in merged and name not in entry.without}


def check_values(name: str, given: object) -> None:
    """Refuse a value, or a list of values, of a factor that are of several kinds, or that not every file can hold."""
    values = given if isinstance(given, list) else [given]
    kinds = {kind_of_value(value) for value in values}
    if "" in kinds:
        wrong = next(value for value in values if not kind_of_value(value))
        raise ValueError(
            f"factors.{name} = {given!r} was given; {wrong!r} is none of the values that a factor may have: a text, "
            "true or false, or a finite number, a whole one from -2^53 to 2^53; give it as a text"
        )
    if len(kinds) > 1:
        raise ValueError(
            f"factors.{name} = {given!r} was given, which are {' and '.join(sorted(kinds))}; the values of a factor "
            'are of one kind: write all of them as texts, such as "none" and "0.1"'
        )


def kind_of_value(value: object) -> str:
    """Return what kind of value a factor has, in the plural; "" for what no factor can have."""
    if isinstance(value, bool):
        return "truth values"
    if isinstance(value, str):
        return "texts"
    if isinstance(value, int):
        return "numbers" if abs(value) <= _EXACT else ""
    return "numbers" if isinstance(value, float) and math.isfinite(value) else ""


def check_factor(name: str, value: FactorValue, task: str) -> None:
    """Refuse what is no value of a factor of a task."""
    if name in FACTORS and not (is_own_task(task) and name in entry_of(task).without):
        FACTORS[name].check(name, value)
        _check_for(task, name, value)
    elif not is_own_task(task):
        raise ValueError(f"factors.{name} was given; available are {', '.join(FACTORS)}")
    elif not _OWN_FACTOR.fullmatch(name):
        raise ValueError(
            f"factors.{name} was given; a factor of your own has lower-case letters, digits and _, at most 40"
        )


def check_own_name(name: str) -> None:
    """Refuse a factor whose name means something else in the results."""
    if name in RESERVED:
        raise ValueError(
            f"factors.{name} was given; {name!r} is what the study itself calls something that stands beside the "
            f"factors in the results: call it otherwise, such as own_{name}"
            + (f" (a {name.replace('_', ' ')} is fixed by search.{name} = …)" if name in _SEARCHED else "")
        )


def _check_for(task: str, name: str, value: FactorValue) -> None:
    entry = entry_of(task)
    follows = "label_noise" if name == "validation_label_noise" else name
    of_others = name in OF_SOME_TASKS and name not in entry.defaults and not is_own_task(task)
    if of_others or follows in entry.without:
        raise ValueError(f"factors.{name} was given; task {task!r} has no such factor")
    if name == "model" and entry.models and form_of(str(value), entry.models) is None:
        raise ValueError(f"factors.model = {value!r} was given; task {task!r} has {', '.join(entry.models)}")
    if name == "train_size" and value > entry.max_train_size:  # type: ignore[operator]  # an int by now
        raise ValueError(
            f"factors.train_size = {value} was given; task {task!r} has at most {entry.max_train_size} "
            "training examples"
        )


def factor_column(name: str) -> str:
    """Return what a factor is called in the frame and in trackers: by its name.

    Or ``factor.<name>``, in an older study which has one called like another column; see `check_own_name`.
    """
    return f"factor.{name}" if name in RESERVED else name
