"""A graph network that names the community of every node."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from study.data.communities import COMMUNITIES
from study.data.pool import Pool
from study.records import FactorValue
from study.streams import torch_seed
from study.tasks.pool import draw_split
from study.tasks.task import Metric, Task, accuracy, next_token

_LAYERS = 3


def graph_task(pool: Pool, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return one seed's task: its split, its noisy node labels, its initial weights."""
    split = draw_split(pool, factors, seed, test_seed)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        model = GIN(float(factors["width"]))
    task = next_token(
        model,
        split.train,
        split.val,
        partial(pool.open_test, "confirm", test_seed),
        vocabulary=pool.classes,
    )
    return replace(task, metric=NODE_ACCURACY, clean_targets=split.clean_labels, origin=pool.origin)


NODE_ACCURACY = Metric("node accuracy", accuracy, unit="fraction")


class GIN(nn.Module):
    """A graph isomorphism network of three layers with skip connections and BatchNorm, 32 × ``width`` channels.

    Source: Xu et al. 2019, arXiv 1810.00826, equation 4.1. Differs from: neighbours are averaged, not summed, so that
    the scale of the activations does not grow with the degree.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = max(4, round(32 * width))
        self.enter = nn.Linear(COMMUNITIES, channels)
        self.layers = nn.ModuleList(_Round(channels) for _ in range(_LAYERS))
        self.head = nn.Linear(channels, COMMUNITIES)

    def forward(self, known: Tensor, edges: Tensor) -> Tensor:
        """Return logits ``(n, nodes, communities)``."""
        near = edges / edges.sum(-1, keepdim=True).clamp(min=1)
        nodes = self.enter(known)
        for layer in self.layers:
            nodes = nodes + layer(nodes, near)
        found: Tensor = self.head(nodes)
        return found


class _Round(nn.Module):
    """One exchange of messages: MLP((1 + ε) x + mean of the neighbours)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.hidden, self.out = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, nodes: Tensor, near: Tensor) -> Tensor:
        mixed = self.hidden((1 + self.epsilon) * nodes + near @ nodes)
        normed = self.norm(mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])
        found: Tensor = self.out(torch.relu(normed))
        return found
