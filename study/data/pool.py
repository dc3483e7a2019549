"""Arrays of a task and its sealed test part, which belongs to the replicate; what goes wrong with them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from study.specs.spec import SpecError
from study.specs.tasks import TASKS
from study.streams import stream

Inputs = Any  # an array: floats of signals and tables, bytes of images, paths of files; or a tuple of arrays
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class TaskError(SpecError):
    """A task or its data can't be used; the message says what was given and what is allowed."""


class SealedTestError(RuntimeError):
    """The test part was asked for outside the confirm stage."""


def origin_of(source: str, *contents: bytes | npt.NDArray[Any]) -> str:
    """Return where data come from and under which licence, and a hash of what they are, for every record.

    Args:
        source: In words, such as ``UCI, CC BY 4.0``.
        contents: The file that they were read from, or the arrays that were made.
    """
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content if isinstance(content, bytes) else content.tobytes())
    return f"{source}, sha256 {digest.hexdigest()[:12]}"


def check_unsealed(stage: str) -> None:
    """Make sure that the test part may be opened in a stage.

    Raises:
        SealedTestError: the stage is not ``confirm``.
    """
    if stage != "confirm":
        raise SealedTestError(
            f"the test part was asked for in stage {stage!r}; it opens in 'confirm' only, because a "
            "configuration that was selected on test can't be judged on it"
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """Arrays of one task.

    Its test part is an official one that stays as it is, is drawn anew for every replicate, or is a part of ``inputs``
    that every replicate splits off anew.

    Attributes:
        inputs: ``(n, channels, *shape)``, standardized; bytes of images; ``(n,)`` paths; or several arrays.
        labels: ``(n,)``, or more of each example, classes from 0; or ``(n, 1)``, numbers as they were measured, which
            are standardized like columns.
        validation_size: How many development examples every split sets aside for validation; see `draw_split` for how
            many of them are used.
        classes: Number of classes; 0 for a regression.
        test_size: How many of the examples a replicate splits off as its test part; 0 if that does not come from them.
        columns: The inputs are rows of a table, ``(n, columns)``, as they were measured: they are standardized with
            the mean and deviation of the development part, so that nothing of test enters them.
        origin: What the data are; see `origin_of`.
    """

    inputs: Inputs
    labels: npt.NDArray[Any]
    validation_size: int
    classes: int
    test_size: int = 0
    columns: bool = False
    origin: str = ""
    _official: tuple[Inputs, npt.NDArray[Any]] | None = field(default=None, repr=False)
    _draw: Callable[[int], tuple[Inputs, npt.NDArray[Any]]] | None = field(default=None, repr=False)

    def development(self, test_seed: int) -> npt.NDArray[np.int64]:
        """Return the places of the examples that a replicate may train on or validate with."""
        return split_off(len(self.labels), self.test_size, test_seed)[1]

    def open_test(self, stage: str, test_seed: int) -> tuple[Inputs, npt.NDArray[Any]]:
        """Return the test inputs and labels of a replicate, as they were measured.

        Raises:
            SealedTestError: in any stage but ``confirm``.
        """
        check_unsealed(stage)
        if self._official is not None:
            return self._official
        if self._draw is not None:
            return self._draw(test_seed)
        unseen, _ = split_off(len(self.labels), self.test_size, test_seed)
        return self.inputs[unseen], self.labels[unseen]


def table_pool(task: str, inputs: Floats, targets: npt.NDArray[Any], origin: str) -> Pool:
    """Return a table ``(n, columns)`` as a pool: the rows that are neither for the test nor for training validate."""
    entry = TASKS[task]
    labels = targets.astype(np.int64) if entry.classes else targets[:, None]
    validation_size = len(labels) - entry.max_train_size - entry.test_size
    return Pool(inputs, labels, validation_size, entry.classes, entry.test_size, columns=True, origin=origin)


def split_off(count: int, test_size: int, test_seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the places of a replicate's test part among ``count`` examples, and those of all others."""
    order = stream(test_seed, "test part").permutation(count) if test_size else np.arange(count)
    return order[:test_size], order[test_size:]


def standardized(known: Floats, inputs: Floats) -> Floats:
    """Return inputs in units of the deviation of ``known`` from its mean, column by column."""
    scaled: Floats = ((inputs - known.mean(axis=0)) / known.std(axis=0)).astype(np.float32)
    return scaled
