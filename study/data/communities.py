"""Communities in random graphs: name every node's community from the edges and one known node of each.

Source: Dwivedi et al. 2020, "Benchmarking Graph Neural Networks", arXiv 2003.00982, the data set CLUSTER.
Differs from: the published graphs are larger (up to 190 nodes in six communities), so that a graph here is a dense
matrix and needs no library; the probabilities of an edge are the paper's.
"""

from dataclasses import dataclass

import numpy as np

from study.data.pool import Floats, Labels, check_unsealed, origin_of
from study.streams import stream

NODES, COMMUNITIES = 40, 4
_WITHIN, _BETWEEN = 0.55, 0.25  # chances of an edge

Inputs = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Graphs:
    """Graphs of one size.

    Attributes:
        known: ``(n, nodes, communities)``: 1 where a node's community is given away, which it is for one of each.
        edges: ``(n, nodes, nodes)``: symmetric, 0 or 1, no loops.
        labels: ``(n, nodes)``: each node's community, from 0.
        validation_size: How many graphs every split sets aside for validation.
        test_size: How many graphs a test part has.
        origin: See `study.data.pool.origin_of`.
    """

    known: Floats
    edges: Floats
    labels: Labels
    validation_size: int
    test_size: int
    origin: str

    def open_test(self, stage: str, test_seed: int) -> tuple[Inputs, Labels]:
        """Return the test inputs and labels of a replicate, which are drawn for it.

        Raises:
            SealedTestError: in any stage but ``confirm``.
        """
        check_unsealed(stage)
        known, edges, labels = draw_graphs(self.test_size, stream(test_seed, "communities test part"))
        return (known, edges), labels


def make_graphs(development: int = 1000, test: int = 500, validation: int = 200) -> Graphs:
    """Make the graphs of the development part; every replicate's test part is drawn anew."""
    drawn = draw_graphs(development, stream(7, "communities"))
    return Graphs(*drawn, validation, test, origin_of("made here", *drawn))


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
