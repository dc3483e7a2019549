"""Examples are the same whatever they come from, and what can't be examples says so."""

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from study.tasks.examples import examples_of
from study.tasks.nests import ExamplesError, leaves, mapped

COUNT = 23
INPUTS = torch.arange(COUNT * 3, dtype=torch.float32).reshape(COUNT, 3)
TARGETS = torch.arange(COUNT)


class Pairs(Dataset[Any]):
    """The examples one by one, as tensors or as a dict."""

    def __init__(self, key: str = "") -> None:
        self.key = key

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return {"x": INPUTS[index], self.key: TARGETS[index]} if self.key else (INPUTS[index], TARGETS[index])


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*items, strict=True)
    return torch.stack(inputs), torch.stack(targets)


FORMS: dict[str, Any] = {
    "tensors": (INPUTS, TARGETS),
    "arrays": (INPUTS.numpy(), TARGETS.numpy()),
    "tuple of inputs": ((INPUTS,), TARGETS),
    "dict of inputs": ({"x": INPUTS}, TARGETS),
    "dataset": Pairs(),
    "dataset of dicts": Pairs("labels"),
    "dataset of dicts, singular": Pairs("label"),
    "loader that shuffles": DataLoader(Pairs(), batch_size=5, shuffle=True, drop_last=True),
    "loader that collates": DataLoader(Pairs(), collate_fn=collate),
    "loader with a worker": DataLoader(Pairs(), num_workers=1),
}


def rows(form: Any, *arguments: Any, **options: Any) -> list[tuple[list[float], list[int]]]:
    found = examples_of(form, "train").batches(*arguments, **options)
    return [(leaves(inputs)[0].tolist(), targets.tolist()) for inputs, targets in found]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_yields_the_same_batches(name: str) -> None:
    order = np.random.default_rng(0).permutation(COUNT)
    for arguments, options in (((5,), {}), ((5, order), {}), ((5, order), {"whole": True}), ((100,), {"whole": True})):
        assert rows(FORMS[name], *arguments, **options) == rows(FORMS["tensors"], *arguments, **options)
    assert len(examples_of(FORMS[name], "train")) == COUNT
    few = examples_of(FORMS[name], "train").first(4).to(torch.device("cpu"))
    assert rows(few, 10) == rows(FORMS["tensors"], 4)[:1]
    assert len(few) == len(few.first(9)) == 4


@given(st.integers(1, 40), st.booleans(), st.integers(0, 5))
def test_batches_are_the_order_cut_in_parts(size: int, whole: bool, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(COUNT)
    found = [targets for _, targets in rows(FORMS["tensors"], size, order, whole=whole)]
    seen = [index for part in found for index in part]
    assert seen == order[: COUNT // size * size if whole else COUNT].tolist()
    assert all(len(part) == size for part in (found if whole else found[:-1]))


def test_read_only_arrays_are_used_as_they_are_and_without_a_warning() -> None:
    """Ray shares them between workers. PyTorch warns once per process unless it is told to warn always."""
    inputs = np.ones((COUNT, 3), np.float32)
    inputs.flags.writeable = False
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        held, _ = next(examples_of((inputs, np.arange(COUNT)), "test").batches(COUNT))
    finally:
        torch.set_warn_always(before)
    assert held.numpy().base is not None
    assert np.shares_memory(held.numpy(), inputs)


def test_a_mapping_of_any_class_counts_as_a_dict() -> None:
    assert type(mapped(UserDict(a=INPUTS), lambda tensor: tensor)) is dict


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((INPUTS, TARGETS[:5]), "inputs of 23 and targets of 5"),
        (((INPUTS, TARGETS[:5]), TARGETS), "inputs of 5 and targets of 23"),
        ((3.0, 1.0), "a single number"),
        (Stream(), "Stream was given; allowed are"),
        (DataLoader(Stream()), "Stream was given; allowed are"),
        ([(INPUTS[0], TARGETS[0], TARGETS[0])], "must be a pair"),
        (Pairs("answer"), "'labels'"),
    ],
)
def test_what_cannot_be_examples_says_so(data: Any, message: str) -> None:
    with pytest.raises(ExamplesError, match=message):
        rows(data, 5)
