"""Arrays of a classification: the development pool and the sealed test part."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from study.data.errors import check_unsealed

Inputs = npt.NDArray[Any]  # floats of signals and tables, bytes of images, paths of files
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


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
