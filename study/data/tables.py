"""Small real tables that scikit-learn ships: breast cancer and wine to classify, diabetes to regress.

Every replicate splits its test part off anew; columns are standardized with the mean and deviation of what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from study.data.pool import Floats, Pool, check_unsealed, origin_of, split_off, standardized

_Loader = Callable[..., tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a regression.

    Attributes:
        inputs: ``(n, columns)``, as measured.
        targets: ``(n, 1)``, as measured.
        validation_size: How many development rows every split sets aside for validation.
        test_size: How many rows a replicate splits off as its test part.
        origin: See `study.data.pool.origin_of`.
    """

    inputs: Floats
    targets: Floats
    validation_size: int
    test_size: int
    origin: str

    def development(self, test_seed: int) -> tuple[Floats, Floats]:
        """Return the standardized inputs and targets that a replicate may train on or validate with."""
        _, known = split_off(len(self.targets), self.test_size, test_seed)
        return self._standardized(known, known)

    def open_test(self, stage: str, test_seed: int) -> tuple[Floats, Floats]:
        """Return the test inputs and targets of a replicate, in the units of its development part.

        Raises:
            SealedTestError: in any stage but ``confirm``.
        """
        check_unsealed(stage)
        unseen, known = split_off(len(self.targets), self.test_size, test_seed)
        return self._standardized(known, unseen)

    def _standardized(self, known: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        return (
            standardized(self.inputs[known], self.inputs[wanted]),
            standardized(self.targets[known], self.targets[wanted]),
        )


def load_breast_cancer_pool() -> Pool:
    """Load 569 tumours, 30 measures of their cells' nuclei each, malignant or benign; a test part has 169.

    Source: Street, Wolberg & Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993.
    """
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  # slow, and workers don't load data

    return _classes_of(load_breast_cancer, test=169, validation=100, classes=2)


def load_wine_pool() -> Pool:
    """Load 178 wines, 13 chemical measures each, of three growers; a test part has 58.

    Source: Aeberhard & Forina, "Wine", UCI, 1992, through scikit-learn.
    """
    from sklearn.datasets import load_wine  # noqa: PLC0415  # slow, and workers don't load data

    return _classes_of(load_wine, test=58, validation=40, classes=3)


def load_diabetes_table() -> Table:
    """Load 442 patients, ten measures each, and how far their disease went in a year; a test part has 142.

    Source: Efron, Hastie, Johnstone & Tibshirani, "Least Angle Regression", 2004, through scikit-learn.
    """
    from sklearn.datasets import load_diabetes  # noqa: PLC0415  # slow, and workers don't load data

    inputs, targets = load_diabetes(return_X_y=True)
    origin = origin_of("Efron et al. 2004 by scikit-learn, no licence stated", inputs, targets)
    return Table(inputs, targets[:, None], validation_size=80, test_size=142, origin=origin)


def _classes_of(load: _Loader, *, test: int, validation: int, classes: int) -> Pool:
    inputs, labels = load(return_X_y=True)
    origin = origin_of("UCI by scikit-learn, CC BY 4.0", inputs, labels)
    return Pool(inputs, labels.astype(np.int64), validation, classes, test_size=test, columns=True, origin=origin)
