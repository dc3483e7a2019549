"""Small real data that scikit-learn ships: digits, breast cancer and wine to classify, diabetes to regress."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from study.data.pool import Pool, origin_of, table_pool

_TEST_SIZE = 397  # leaves 1,400: 1,000 to train on and 400 to validate on


def load_digits_pool() -> Pool:
    """Load the 1,797 8×8 digits as ``(n, 1, 8, 8)``; every replicate splits 397 off as its test part.

    Pixels are standardized by one mean and one deviation of all images, the test part's among them: two constants of
    the data set (4.884 and 6.017, of pixels from 0 to 16), the same for every method and seed, and no labels. Those of
    a training part differ by less than 0.01 deviations, so what was measured with them stands.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, through scikit-learn.
    """
    found = find_spec("sklearn")
    assert found is not None  # the study depends on it
    assert found.origin is not None
    # Read as `sklearn.datasets.load_digits` does, without importing scikit-learn: that takes the driver seconds.
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")
    pixels, classes = rows[:, :-1], rows[:, -1]
    inputs = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = classes.astype(np.int64)
    origin = origin_of("UCI by scikit-learn, CC BY 4.0", file.read_bytes())
    return Pool(inputs, labels, validation_size=400, classes=10, test_size=_TEST_SIZE, origin=origin)


def load_breast_cancer_pool() -> Pool:
    """Load 569 tumours, 30 measures of their cells' nuclei each, malignant or benign.

    Source: Street, Wolberg & Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993.
    """
    return _of_scikit_learn("breast_cancer", "UCI by scikit-learn, CC BY 4.0")


def load_wine_pool() -> Pool:
    """Load 178 wines, 13 chemical measures each, of three growers.

    Source: Aeberhard & Forina, "Wine", UCI, 1992, through scikit-learn.
    """
    return _of_scikit_learn("wine", "UCI by scikit-learn, CC BY 4.0")


def load_diabetes_pool() -> Pool:
    """Load 442 patients, ten measures each, and how far their disease went in a year.

    Source: Efron, Hastie, Johnstone & Tibshirani, "Least Angle Regression", 2004, through scikit-learn.
    """
    return _of_scikit_learn("diabetes", "Efron et al. 2004 by scikit-learn, no licence stated")


def _of_scikit_learn(task: str, source: str) -> Pool:
    from sklearn import datasets  # noqa: PLC0415  # slow, and workers don't load data

    inputs, targets = getattr(datasets, f"load_{task}")(return_X_y=True)
    return table_pool(task, inputs, targets, origin_of(source, inputs, targets))
