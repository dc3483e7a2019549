"""Nests: any of them can be moved, cut and put together, and comes back as it was."""

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from study.tasks.nests import (
    ExamplesError,
    check_form,
    device_of,
    examples_in,
    joined,
    leaves,
    mapped,
    moved,
    rows_of,
    uncuttable,
)

SIZE = 5
Named = namedtuple("Named", ["a", "b"])


@dataclass(frozen=True)
class Parts:
    """A nest of one's own."""

    a: Any
    b: Any


def of_examples(size: int) -> st.SearchStrategy[Any]:
    """Return nests of so many examples, each part of which holds all: tensors, and lists of whatever belongs to one."""
    whole = st.integers(1, 3).map(lambda width: torch.arange(float(size * width)).reshape(size, width))
    one = st.sampled_from([torch.ones(2), {"boxes": torch.zeros(0, 4)}, "a name", 3, None, (torch.ones(1), [1, 2])])
    parts = whole | st.lists(one, min_size=size, max_size=size)
    return st.recursive(
        parts,
        lambda inner: (
            st.tuples(inner, inner)
            | st.dictionaries(st.sampled_from("abc"), inner, min_size=1)
            | st.builds(Parts, inner, inner)
            | st.builds(Named, inner, inner)
        ),
        max_leaves=4,
    )


def same(one: Any, other: Any) -> bool:
    """Tell whether two nests are of one form and hold equal values."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Parts):
        return type(one) is type(other) and same((one.a, one.b), (other.a, other.b))
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(of_examples(SIZE))
def test_a_nest_comes_back_in_its_form(nested: Any) -> None:
    assert same(mapped(nested, torch.clone), nested)
    assert same(moved(nested, torch.device("cpu")), nested)
    assert examples_in(nested) == SIZE
    assert uncuttable(nested, SIZE) == ""
    check_form(nested, "targets", SIZE)


@given(of_examples(SIZE), st.integers(0, SIZE))
def test_what_is_cut_is_put_together_again(nested: Any, at: int) -> None:
    parts = [rows_of(nested, SIZE, slice(at)), rows_of(nested, SIZE, slice(at, SIZE))]
    assert same(joined(parts, [at, SIZE - at]), nested)


@given(of_examples(SIZE), st.lists(st.integers(0, SIZE - 1), max_size=8))
def test_rows_by_number_are_the_rows_one_by_one(nested: Any, numbers: list[int]) -> None:
    found = rows_of(nested, SIZE, torch.tensor(numbers, dtype=torch.long))
    one_by_one = [rows_of(nested, SIZE, slice(number, number + 1)) for number in numbers]
    if numbers:
        assert same(found, joined(one_by_one, [1] * len(numbers)))
    assert examples_in(found) == len(numbers)


def test_what_belongs_to_no_example_stays_as_it_is() -> None:
    """As the share of mixup, a batch-wide mask, or a list of feature levels."""
    share, levels = torch.tensor(0.3), [torch.zeros(SIZE, 2), torch.zeros(SIZE, 3), "x"]
    cut = rows_of((share, torch.ones(2), levels), SIZE, slice(2))
    assert cut[0] is share
    assert cut[1].shape == (2,)
    assert [level.shape[0] for level in cut[2][:2]] == [2, 2]
    assert "a tensor of 2 rows" in uncuttable((share, torch.ones(2)), SIZE)
    assert "a list of 3 entries" in uncuttable({"levels": levels}, SIZE)


def test_mappings_of_other_classes() -> None:
    """Any mapping counts as a dict; one that is a dataclass too, as outputs of transformers are, keeps its class."""

    @dataclass
    class Output(OrderedDict[str, Any]):
        logits: Any = None

        def __post_init__(self) -> None:
            self["logits"] = self.logits

    assert type(mapped(UserDict(a=torch.ones(1)), torch.clone)) is dict
    held = Output(torch.ones(2))
    found = mapped(held, lambda tensor: tensor * 2)
    assert type(found) is Output
    assert found["logits"].tolist() == [2, 2]
    assert held["logits"].tolist() == [1, 1]


def test_an_object_that_can_move_does_it_by_itself() -> None:
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    found = moved((packed, "x", None), torch.device("cpu"))
    assert torch.equal(found[0].data, packed.data)
    assert found[1:] == ("x", None)
    assert device_of("no tensor") == torch.device("cpu")
    assert leaves("no tensor") == ()


@pytest.mark.parametrize(
    ("nested", "name", "message"),
    [
        ([torch.zeros(8), torch.zeros(8)], "targets", "a list of 2; a list holds one entry for each example"),
        ({"a": [torch.zeros(8)] * 3}, "targets", "a list of 3"),
        (tuple(torch.zeros(3, 4, 4) for _ in range(8)), "inputs", r"a tuple of 8.*list\(inputs\)"),
        (tuple({"boxes": torch.zeros(k, 4)} for k in range(8)), "targets", r"a tuple of 8.*list\(targets\)"),
    ],
)
def test_parts_are_tuples_and_examples_lists(nested: Any, name: str, message: str) -> None:
    with pytest.raises(ExamplesError, match=message):
        check_form(nested, name, 8)


@pytest.mark.parametrize(
    "nested",
    [
        [torch.zeros(3, 4, 4) for _ in range(8)],
        (torch.zeros(8), torch.zeros(8), torch.tensor(0.3)),
        {"ids": torch.zeros(8, 3), "texts": ["a"] * 8, "name": "x"},
        (torch.zeros(2, 1), torch.zeros(2, 2)),  # two parts of two examples, if it is 2
    ],
)
def test_what_is_meant_well_passes(nested: Any) -> None:
    check_form(nested, "targets", 2 if isinstance(nested, tuple) and len(nested) == 2 else 8)
