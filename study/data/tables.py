"""Small real tables that scikit-learn ships: breast cancer and wine to classify, diabetes to regress.

Columns are standardized with the mean and deviation of the development part, so that nothing of test enters them. A
fixed draw of the rows is the test part; the seed splits the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from study.data.pool import Floats, Pool
from study.streams import stream

_Loader = Callable[..., tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a regression.

    Attributes:
        inputs: ``(n, columns)``, standardized.
        targets: ``(n, 1)``, standardized: their variance is 1.
        validation_size: How many development rows every split sets aside for validation.
    """

    inputs: Floats
    targets: Floats
    validation_size: int
    _test: tuple[Floats, Floats] = field(repr=False)

    def open_test(self) -> tuple[Floats, Floats]:
        """Return the test inputs and targets; a task calls it in the confirm stage alone."""
        return self._test


def load_breast_cancer_pool() -> Pool:
    """Load 569 tumours, 30 measures of their cells' nuclei each, malignant or benign; 169 are the test part.

    Source: Street, Wolberg & Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993.
    """
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  # slow, and workers don't load data

    return _classes_of(load_breast_cancer, "breast cancer test part", test=169, validation=100, classes=2)


def load_wine_pool() -> Pool:
    """Load 178 wines, 13 chemical measures each, of three growers; 58 are the test part.

    Source: Aeberhard & Forina, "Wine", UCI, 1992, through scikit-learn.
    """
    from sklearn.datasets import load_wine  # noqa: PLC0415  # slow, and workers don't load data

    return _classes_of(load_wine, "wine test part", test=58, validation=40, classes=3)


def load_diabetes_table() -> Table:
    """Load 442 patients, ten measures each, and how far their disease went in a year; 142 are the test part.

    Source: Efron, Hastie, Johnstone & Tibshirani, "Least Angle Regression", 2004, through scikit-learn.
    """
    from sklearn.datasets import load_diabetes  # noqa: PLC0415  # slow, and workers don't load data

    inputs, targets, test_inputs, test_targets = _parts(load_diabetes, "diabetes test part", 142)
    mean, deviation = targets.mean(), targets.std()
    known, unseen = (((part - mean) / deviation).astype(np.float32)[:, None] for part in (targets, test_targets))
    return Table(inputs, known, 80, (test_inputs, unseen))


def _classes_of(load: _Loader, name: str, *, test: int, validation: int, classes: int) -> Pool:
    inputs, labels, test_inputs, test_labels = _parts(load, name, test)
    return Pool(
        inputs=inputs,
        labels=labels.astype(np.int64),
        validation_size=validation,
        classes=classes,
        _test=(test_inputs, test_labels.astype(np.int64)),
    )


def _parts(
    load: _Loader, name: str, test: int
) -> tuple[Floats, npt.NDArray[np.float64], Floats, npt.NDArray[np.float64]]:
    """Return development inputs and targets, then test inputs and targets, the inputs standardized."""
    inputs, targets = load(return_X_y=True)
    order = stream(0, name).permutation(len(targets))
    unseen, known = order[:test], order[test:]
    mean, deviation = inputs[known].mean(axis=0), inputs[known].std(axis=0)
    standardized = ((inputs - mean) / deviation).astype(np.float32)
    return standardized[known], targets[known], standardized[unseen], targets[unseen]
