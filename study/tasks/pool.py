"""What a seed makes of arrays that fit into memory: the split that it draws, and the task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from study.data.pool import Inputs, Labels, Pool, standardized
from study.data.tables import Table
from study.models import build_model
from study.records import FactorValue
from study.specs.factors import factor_of
from study.streams import stream
from study.tasks.augment import augmented
from study.tasks.task import Augment, Task, classification, regression

_LEAST_VALIDATION = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """One seed's training and validation examples; the labels carry the cell's label noise, but for ``clean_labels``.

    These are the training labels without it.
    """

    train_inputs: Inputs
    train_labels: Labels
    val_inputs: Inputs
    val_labels: Labels
    clean_labels: Labels


def pool_task(pool: Pool, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return the task of one seed: its split of the pool, its noise, its initial weights."""
    split = draw_split(pool, factors, seed, test_seed)
    strength = float(factors.get("augmentation", 0))  # rows of tables have none
    augment: Augment | None = partial(augmented, strength) if strength else None
    task = classification(
        build_model(factors, pool.inputs.shape[1:], pool.classes, seed),
        (split.train_inputs, split.train_labels),
        (split.val_inputs, split.val_labels),
        partial(_test, pool, test_seed),
        classes=pool.classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
        augment=augment,
    )
    return replace(task, clean_targets=split.clean_labels, origin=pool.origin)


def _test(pool: Pool, test_seed: int) -> tuple[Inputs, Labels]:
    inputs, labels = pool.open_test("confirm", test_seed)
    return (standardized(pool.inputs[pool.development(test_seed)], inputs) if pool.columns else inputs), labels


def draw_split(pool: Pool, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Split:
    """Draw the split and the label noise of a seed, the same for every method.

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
    inputs = pool.inputs[train], pool.inputs[val]
    if pool.columns:
        inputs = standardized(pool.inputs[known], inputs[0]), standardized(pool.inputs[known], inputs[1])
    return Split(
        inputs[0],
        noisy_training(pool.labels[train], factors, pool.classes, seed),
        inputs[1],
        noisy_validation(pool.labels[val], factors, pool.classes, seed),
        pool.labels[train],
    )


def noisy_training(labels: Labels, factors: Mapping[str, FactorValue], classes: int, seed: int) -> Labels:
    """Return training labels ``(n,)`` with the cell's noise, by a stream of the seed."""
    return with_noise(labels, float(factors["label_noise"]), classes, stream(seed, "label noise"))


def noisy_validation(labels: Labels, factors: Mapping[str, FactorValue], classes: int, seed: int) -> Labels:
    """Return validation labels ``(n,)``, as noisy as those of the training part or clean, by a stream of the seed."""
    share = float(factors["label_noise"]) if factor_of(factors, "validation_label_noise") == "same" else 0.0
    return with_noise(labels, share, classes, stream(seed, "validation label noise"))


def with_noise(labels: Labels, share: float, classes: int, rng: np.random.Generator) -> Labels:
    """Return labels ``(n,)`` of which an exact share is moved to another class, uniformly."""
    hit = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = np.array(labels)
    noisy[hit] = (noisy[hit] + rng.integers(1, classes, size=len(hit))) % classes
    return noisy


def table_task(table: Table, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return one seed's regression of a table: its split and its initial weights."""
    inputs, targets = table.development(test_seed)
    order = stream(seed, "split").permutation(len(targets))
    val, rest = order[: table.validation_size], order[table.validation_size :]
    train = rest[: int(factors["train_size"])]
    task = regression(
        build_model(factors, inputs.shape[1:], 1, seed),
        (inputs[train], targets[train]),
        (inputs[val], targets[val]),
        partial(table.open_test, "confirm", test_seed),
        variance=1.0,
    )
    return replace(task, origin=table.origin)
