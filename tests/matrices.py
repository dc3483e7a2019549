"""Matrices of cases: `make test` runs each value once, `make test-all` every combination."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def crossed(**parameters: Iterable[Any]) -> Callable[[Any], Any]:
    """Parametrize a test with all combinations of values; marked `exhaustive` but for so many that each is in one.

    Example:
        ``crossed(a="xyz", b=(1, 2))`` leaves (x, 1), (y, 2), (z, 1) unmarked, and marks three others.
    """
    values = [list(of) for of in parameters.values()]
    every_day = {tuple(number % len(of) for of in values) for number in range(max(map(len, values)))}
    cases = [
        pytest.param(
            *(of[index] for of, index in zip(values, case, strict=True)),
            marks=() if case in every_day else pytest.mark.exhaustive,
        )
        for case in itertools.product(*(range(len(of)) for of in values))
    ]
    return pytest.mark.parametrize(tuple(parameters), cases)


def repeated(name: str, values: Iterable[Any]) -> Callable[[Any], Any]:
    """Parametrize a test with values of one kind, as seeds are; all but the first are marked `exhaustive`."""
    first, *others = values
    return pytest.mark.parametrize(name, [first, *(pytest.param(one, marks=pytest.mark.exhaustive) for one in others)])
