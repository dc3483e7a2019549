"""Small real images: scikit-learn's bundled handwritten digits."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from study.data.pool import Pool

_TEST_SIZE = 397  # leaves 1,400: 1,000 to train on and 400 to validate on


def load_digits_pool() -> Pool:
    """Load the 1,797 8×8 digits as ``(n, 1, 8, 8)``; every replicate splits 397 off as its test part.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, through scikit-learn.
    """
    found = find_spec("sklearn")
    assert found is not None  # the study depends on it
    assert found.origin is not None
    # Read as `sklearn.datasets.load_digits` does, without importing scikit-learn: that takes the driver seconds.
    rows = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels, classes = rows[:, :-1], rows[:, -1]
    inputs = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = classes.astype(np.int64)
    return Pool(inputs, labels, validation_size=400, classes=10, test_size=_TEST_SIZE)
