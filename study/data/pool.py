"""Arrays of a classification: the development pool and the sealed test part; and what goes wrong with them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from study.specs.spec import SpecError

Inputs = npt.NDArray[Any]  # floats of signals and tables, bytes of images, paths of files
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class TaskError(SpecError):
    """A task or its data can't be used; the message says what was given and what is allowed."""


class SealedTestError(RuntimeError):
    """The test part was asked for outside the confirm stage."""


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

    Attributes:
        inputs: ``(n, channels, *shape)``, standardized; bytes of images; or ``(n,)`` paths.
        labels: ``(n,)``, classes from 0.
        validation_size: How many development examples every split sets aside for validation; see `draw_split` for how
            many of them are used.
        classes: Number of classes.
    """

    inputs: Inputs
    labels: Labels
    validation_size: int
    classes: int
    _test: tuple[Inputs, Labels] = field(repr=False)

    def open_test(self, stage: str) -> tuple[Inputs, Labels]:
        """Return the test inputs and labels; in the confirm stage alone.

        Raises:
            SealedTestError: in any other stage.
        """
        check_unsealed(stage)
        return self._test
