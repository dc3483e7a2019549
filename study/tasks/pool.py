"""What a seed makes of arrays that fit into memory: the split that it draws, and the task."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from study.data.pool import Inputs, Labels, Pool
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
    """One seed's training and validation examples; the training labels carry the cell's label noise."""

    train_inputs: Inputs
    train_labels: Labels
    val_inputs: Inputs
    val_labels: Labels


def pool_task(pool: Pool, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return the task of one seed: its split of the pool, its noise, its initial weights."""
    split = draw_split(pool, factors, seed)
    strength = float(factors.get("augmentation", 0))  # rows of tables have none
    augment: Augment | None = partial(augmented, strength) if strength else None
    return classification(
        build_model(factors, pool.inputs.shape[1:], pool.classes, seed),
        (split.train_inputs, split.train_labels),
        (split.val_inputs, split.val_labels),
        partial(pool.open_test, "confirm"),
        classes=pool.classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
        augment=augment,
    )


def draw_split(pool: Pool, factors: Mapping[str, FactorValue], seed: int) -> Split:
    """Draw the split and the label noise of a seed, the same for every method.

    A smaller training set is a prefix of a larger one, and no training set holds a validation example of another.
    There are no more validation examples than training examples, or 1,000: measured on all of a large set's six
    thousand, a run of a thousand examples would spend more on validation than on training. A smaller validation
    part is a prefix of a larger one, too.

    Noise hits an exact share of the training labels, each moved to another class, uniformly; validation and test labels
    stay clean.

    Args:
        pool: The task's data.
        factors: ``train_size`` (examples) and ``label_noise`` (a fraction in [0, 1)).
        seed: Root seed of the run.
    """
    order = stream(seed, "split").permutation(len(pool.labels))
    aside, rest = order[: pool.validation_size], order[pool.validation_size :]
    train = rest[: int(factors["train_size"])]
    val = aside[: max(_LEAST_VALIDATION, len(train))]
    labels = with_noise(pool.labels[train], float(factors["label_noise"]), pool.classes, seed)
    return Split(pool.inputs[train], labels, pool.inputs[val], pool.labels[val])


def with_noise(labels: Labels, share: float, classes: int, seed: int) -> Labels:
    """Return labels ``(n,)`` of which an exact share, drawn by the seed, is moved to another class, uniformly."""
    rng = stream(seed, "label noise")
    hit = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[hit] = (labels[hit] + rng.integers(1, classes, size=len(hit))) % classes
    return noisy


def table_task(table: Table, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return one seed's regression of a table: its split and its initial weights."""
    order = stream(seed, "split").permutation(len(table.targets))
    val, rest = order[: table.validation_size], order[table.validation_size :]
    train = rest[: int(factors["train_size"])]
    return regression(
        build_model(factors, table.inputs.shape[1:], 1, seed),
        (table.inputs[train], table.targets[train]),
        (table.inputs[val], table.targets[val]),
        table.open_test,
        variance=1.0,
    )
