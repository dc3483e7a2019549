"""What a seed makes of arrays that fit into memory: the split that it draws, and the task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from study.data.pool import Inputs, Labels, Pool, standardized
from study.models import build_model
from study.records import FactorValue
from study.specs.factors import factor_of
from study.streams import stream
from study.tasks.augment import augmented
from study.tasks.task import Task, classification, regression

_LEAST_VALIDATION = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """One seed's inputs and labels to train on and to validate with.

    The labels carry the cell's label noise, but for ``clean_labels``: the training labels without it.
    """

    train: tuple[Inputs, npt.NDArray[Any]]
    val: tuple[Inputs, npt.NDArray[Any]]
    clean_labels: npt.NDArray[Any]


def pool_task(pool: Pool, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return the task of one seed: its split of the pool, its noise, its initial weights."""
    split = draw_split(pool, factors, seed, test_seed)
    parts = (
        build_model(factors, pool.inputs.shape[1:], pool.classes or 1, seed),
        split.train,
        split.val,
        partial(_test, pool, test_seed),
    )
    if not pool.classes:
        return replace(regression(*parts, variance=1.0), origin=pool.origin)
    strength = float(factors.get("augmentation", 0))  # rows of tables have none
    task = classification(
        *parts,
        classes=pool.classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
        augment=partial(augmented, strength) if strength else None,
    )
    return replace(task, clean_targets=split.clean_labels, origin=pool.origin)


def _test(pool: Pool, test_seed: int) -> tuple[Inputs, Inputs]:
    inputs, labels = pool.open_test("confirm", test_seed)
    known = pool.development(test_seed)
    return (
        standardized(pool.inputs[known], inputs) if pool.columns else inputs,
        labels if pool.classes else standardized(pool.labels[known], labels),
    )


def draw_split(pool: Pool, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Split:
    """Draw the split and the label noise of a seed, the same for every method; tables are standardized.

    A smaller training set is a prefix of a larger one, and no training set holds a validation example of another.
    There are no more validation examples than training examples, or 1,000: measured on all of a large set's six
    thousand, a run of a thousand examples would spend more on validation than on training. A smaller validation
    part is a prefix of a larger one, too.

    Noise hits an exact share of the training labels, each moved to another class, uniformly, and as large a share of
    the validation labels, unless ``validation_label_noise`` is ``none``: who has noisy labels has no clean ones to
    choose by. Test labels stay clean.

    Args:
        pool: The task's data.
        factors: ``train_size`` (examples) and ``label_noise`` (a fraction in [0, 1)).
        seed: Root seed of the run.
        test_seed: Root of the replicate's test stream; what it sets aside is in neither part.
    """
    known = pool.development(test_seed)
    order = known[stream(seed, "split").permutation(len(known))]
    aside, rest = order[: pool.validation_size], order[pool.validation_size :]
    train = rest[: int(factors["train_size"])]
    val = aside[: max(_LEAST_VALIDATION, len(train))]
    inputs = _rows(pool.inputs, train), _rows(pool.inputs, val)
    if pool.columns:
        inputs = standardized(pool.inputs[known], inputs[0]), standardized(pool.inputs[known], inputs[1])
    labels = pool.labels[train], pool.labels[val]
    if not pool.classes:
        targets = [standardized(pool.labels[known], part) for part in labels]
        return Split((inputs[0], targets[0]), (inputs[1], targets[1]), targets[0])
    noisy = noisy_training(labels[0], factors, pool.classes, seed)
    noisy_val = noisy_validation(labels[1], factors, pool.classes, seed)
    return Split((inputs[0], noisy), (inputs[1], noisy_val), labels[0])


def _rows(inputs: Inputs, rows: npt.NDArray[np.int64]) -> Inputs:
    return tuple(part[rows] for part in inputs) if isinstance(inputs, tuple) else inputs[rows]


def noisy_training(labels: Labels, factors: Mapping[str, FactorValue], classes: int, seed: int) -> Labels:
    """Return training labels with the cell's noise, by a stream of the seed."""
    return with_noise(labels, float(factors["label_noise"]), classes, stream(seed, "label noise"))


def noisy_validation(labels: Labels, factors: Mapping[str, FactorValue], classes: int, seed: int) -> Labels:
    """Return validation labels, as noisy as those of the training part or clean, by a stream of the seed."""
    share = float(factors["label_noise"]) if factor_of(factors, "validation_label_noise") == "same" else 0.0
    return with_noise(labels, share, classes, stream(seed, "validation label noise"))


def with_noise(labels: Labels, share: float, classes: int, rng: np.random.Generator) -> Labels:
    """Return labels of which an exact share is moved to another class, uniformly."""
    noisy = np.array(labels)
    each = noisy.reshape(-1)  # a view
    hit = rng.permutation(len(each))[: round(share * len(each))]
    each[hit] = (each[hit] + rng.integers(1, classes, size=len(hit))) % classes
    return noisy
