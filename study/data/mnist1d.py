"""MNIST-1D: one-dimensional signals of ten classes, made by the published recipe.

Source: Greydanus & Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024 (arXiv 2011.14439), section 2.
Differs from: the ``mnist1d`` package, which draws from NumPy's global state one example at a time, and needs
matplotlib and a download by default. The templates, transformations and their constants are the paper's; the
random numbers are drawn in another order, so single signals differ and their distribution does not.
"""

import functools
from functools import partial

import numpy as np
import numpy.typing as npt

from study.data.pool import Pool, origin_of
from study.streams import stream

_DEVELOPMENT, _VALIDATION, _TEST = 5000, 1000, 4000  # examples; validation ones are of the development part
_POINTS = 40
_PADDED_POINTS = 72  # template of 12 + at most 60 points of padding
_PADDING = (36, 60)
_SCALE, _SHEAR, _MAX_SHIFT = 0.4, 0.75, 48
_CORRELATED_NOISE, _WHITE_NOISE = 0.25, 0.02
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)


def make_mnist1d_pool() -> Pool:
    """Make the pool as ``(n, 1, 40)`` float32 signals; every replicate's test part is drawn anew.

    The paper has 1,000 test examples; more make the test accuracy less noisy.
    """
    signals, labels = make_signals(_DEVELOPMENT, stream(42, "mnist1d"))
    mean, deviation = float(signals.mean()), float(signals.std())
    return Pool(
        inputs=((signals - mean) / deviation).astype(np.float32)[:, None, :],
        labels=labels,
        validation_size=_VALIDATION,
        classes=len(_TEMPLATES),
        origin=origin_of("made here", signals, labels),
        _draw=partial(_unseen, mean, deviation),
    )


@functools.lru_cache(maxsize=2)  # a replicate's runs follow each other, and a draw takes as long as a short training
def _unseen(mean: float, deviation: float, test_seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    signals, labels = make_signals(_TEST, stream(test_seed, "mnist1d test part"))
    return ((signals - mean) / deviation).astype(np.float32)[:, None, :], labels


def make_signals(count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Make ``count`` signals ``(count, 40)`` and their classes, in random order."""
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415  # a tenth of a worker's start; workers make no signals

    templates = _standardized_templates()
    labels = rng.permutation(np.arange(count) % len(templates)).astype(np.int64)
    stretched = np.stack([_pad_and_stretch(templates[label], rng) for label in labels])
    scaled = stretched * (1 + _SCALE * (rng.random((count, 1)) - 0.5))
    shifts = rng.integers(_MAX_SHIFT, size=(count, 1))
    positions = (np.arange(_PADDED_POINTS) - shifts) % _PADDED_POINTS
    moved = np.take_along_axis(scaled, positions, axis=1)
    background = gaussian_filter1d(_CORRELATED_NOISE * rng.standard_normal(moved.shape), 2, axis=1)
    noisy = np.where(moved != 0, moved, background) + _WHITE_NOISE * rng.standard_normal(moved.shape)
    sheared = noisy - _SHEAR * (rng.random((count, 1)) - 0.5) * np.linspace(-0.5, 0.5, _PADDED_POINTS)
    return np.stack([_resample(row, _POINTS) for row in sheared]), labels


def _standardized_templates() -> npt.NDArray[np.float64]:
    """Whiten each template, then let it start at 0, at a sixth of its size."""
    whitened = _TEMPLATES - _TEMPLATES.mean(axis=1, keepdims=True)
    whitened = whitened / whitened.std(axis=1, keepdims=True)
    templates: npt.NDArray[np.float64] = (whitened - whitened[:, :1]) / 6
    return templates


def _pad_and_stretch(template: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Append a random number of zeros and stretch to the common length, so that the pattern's width varies."""
    padding = rng.integers(_PADDING[0], _PADDING[1] + 1)
    # The tiny offset keeps the pattern apart from the padding, whose exact zeros mark where background goes.
    return _resample(np.concatenate([template + 1e-8, np.zeros(padding)]), _PADDED_POINTS)


def _resample(row: npt.NDArray[np.float64], points: int) -> npt.NDArray[np.float64]:
    resampled: npt.NDArray[np.float64] = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(row)), row)
    return resampled
