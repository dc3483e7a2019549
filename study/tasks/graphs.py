"""Communities in random graphs: name every node's community from the edges and one known node of each.

Source: Dwivedi et al. 2020, "Benchmarking Graph Neural Networks", arXiv 2003.00982, the data set CLUSTER.
Differs from: the published graphs are larger (up to 190 nodes in six communities), so that a graph here is a dense
matrix and needs no library; the probabilities of an edge are the paper's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from study.records import FactorValue
from study.streams import stream, torch_seed
from study.tasks.pool import Floats, Labels, with_noise
from study.tasks.task import Metric, Task, accuracy, next_token

NODES, COMMUNITIES = 40, 4
_WITHIN, _BETWEEN = 0.55, 0.25  # chances of an edge
_LAYERS = 3

Inputs = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Graphs:
    """Graphs of one size.

    Attributes:
        known: ``(n, nodes, communities)``: 1 where a node's community is given away, which it is for one of each.
        edges: ``(n, nodes, nodes)``: symmetric, 0 or 1, no loops.
        labels: ``(n, nodes)``: each node's community, from 0.
        validation_size: How many graphs every split sets aside for validation.
    """

    known: Floats
    edges: Floats
    labels: Labels
    validation_size: int
    _test: tuple[Inputs, Labels] = field(repr=False)

    def open_test(self) -> tuple[Inputs, Labels]:
        """Return the test inputs and labels; a task calls it in the confirm stage alone."""
        return self._test


def make_graphs(development: int = 1000, test: int = 500, validation: int = 200) -> Graphs:
    """Make the graphs; development and test come from one draw."""
    known, edges, labels = draw_graphs(development + test, stream(7, "communities"))
    unseen = (known[development:], edges[development:]), labels[development:]
    return Graphs(known[:development], edges[:development], labels[:development], validation, unseen)


def draw_graphs(count: int, rng: np.random.Generator) -> tuple[Floats, Floats, Labels]:
    """Draw graphs of the stochastic block model; return known nodes, edges and labels as in `Graphs`."""
    labels = rng.integers(COMMUNITIES, size=(count, NODES))
    labels[:, :COMMUNITIES] = np.arange(COMMUNITIES)  # the nodes that are given away
    chance = np.where(labels[:, :, None] == labels[:, None, :], _WITHIN, _BETWEEN)
    upper = np.triu(rng.random((count, NODES, NODES)) < chance, k=1)
    known = np.zeros((count, NODES, COMMUNITIES), np.float32)
    known[:, range(COMMUNITIES), range(COMMUNITIES)] = 1
    edges = (upper | upper.transpose(0, 2, 1)).astype(np.float32)
    return known, edges, labels.astype(np.int64)


def graph_task(graphs: Graphs, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return one seed's task: its split, its noisy node labels, its initial weights."""
    order = stream(seed, "split").permutation(len(graphs.labels))
    val, rest = order[: graphs.validation_size], order[graphs.validation_size :]
    train = rest[: int(factors["train_size"])]
    clean = graphs.labels[train]
    noisy = with_noise(clean.ravel(), float(factors["label_noise"]), COMMUNITIES, seed).reshape(clean.shape)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        model = GIN(float(factors["width"]))
    task = next_token(
        model,
        ((graphs.known[train], graphs.edges[train]), noisy),
        ((graphs.known[val], graphs.edges[val]), graphs.labels[val]),
        graphs.open_test,
        vocabulary=COMMUNITIES,
    )
    return replace(task, metric=NODE_ACCURACY)


NODE_ACCURACY = Metric("node accuracy", accuracy)


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
