"""What `make test` leaves out of a matrix: nothing that `make test-all` does not run, and no value of any parameter."""

from collections.abc import Callable
from typing import Any

from matrices import crossed, repeated


def cases(parametrized: Callable[[Any], Any]) -> list[tuple[tuple[Any, ...], bool]]:
    """Return the values of each case, and whether it is run every day."""

    def test() -> None: ...

    [mark] = parametrized(test).pytestmark
    return [(case.values, not case.marks) if hasattr(case, "marks") else ((case,), True) for case in mark.args[1]]


def test_every_combination_is_there_once_and_every_value_every_day() -> None:
    found = cases(crossed(a="xyz", b=[1, 2], c=[{}]))
    assert sorted((a, b) for (a, b, _), _ in found) == [(a, b) for a in "xyz" for b in (1, 2)]
    assert [values for values, every_day in found if every_day] == [("x", 1, {}), ("y", 2, {}), ("z", 1, {})]


def test_of_repetitions_the_first_is_run_every_day() -> None:
    assert cases(repeated("seed", range(3))) == [((0,), True), ((1,), False), ((2,), False)]
