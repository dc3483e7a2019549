"""Toys that several test files share: a small net, its batches, and the ways to compare models."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]


class Toys:
    """Build small nets and batches; always the same ones."""

    def net(self, dropout: float = 0.3) -> nn.Module:
        """Return a net with what makes two passes differ: BatchNorm and dropout."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)
            )  # fmt: skip

    def batches(self, count: int = 6, size: int = 8) -> list[Batch]:
        g = torch.Generator().manual_seed(2)
        return [
            (torch.randn(size, 6, generator=g), torch.randint(3, (size,), generator=g)) for _ in range(count)
        ]  # fmt: skip

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    def closure(self, model: nn.Module, batch: Batch) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            loss = self.loss(model, batch)
            loss.backward()
            return loss

        return closure

    def snapshot(self, model: nn.Module) -> dict[str, tuple[int, Tensor]]:
        """Return address and value of every parameter and buffer."""
        return {name: (t.data_ptr(), t.detach().clone()) for name, t in model.state_dict().items()}

    def assert_untouched(self, model: nn.Module, before: dict[str, tuple[int, Tensor]]) -> None:
        """Same bits, same address."""
        for name, t in model.state_dict().items():
            address, value = before[name]
            assert t.data_ptr() == address, name
            assert torch.equal(t.nan_to_num(), value.nan_to_num()), name

    def assert_same_bits(self, a: nn.Module, b: nn.Module) -> None:
        for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(x, y), name


@pytest.fixture(scope="session")
def toys() -> Toys:
    return Toys()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)
