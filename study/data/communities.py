"""Communities in random graphs: name every node's community from the edges and one known node of each.

Source: Dwivedi et al. 2020, "Benchmarking Graph Neural Networks", arXiv 2003.00982, the data set CLUSTER.
Differs from: the published graphs are larger (up to 190 nodes in six communities), so that a graph here is a dense
matrix and needs no library; the probabilities of an edge are the paper's.
"""

import numpy as np

from study.data.pool import Floats, Labels, Pool, origin_of
from study.streams import stream

NODES, COMMUNITIES = 40, 4
_WITHIN, _BETWEEN = 0.55, 0.25  # chances of an edge
_DEVELOPMENT, _VALIDATION, _TEST = 1000, 200, 500  # graphs; validation ones are of the development part


def make_graphs() -> Pool:
    """Make the graphs of the development part; every replicate's test part is drawn anew.

    Returns:
        A pool whose inputs are two arrays: ``(n, nodes, communities)``, 1 where a node's community is given away, which
        it is for one of each; and ``(n, nodes, nodes)``, the edges, symmetric, 0 or 1, no loops. Labels are
        ``(n, nodes)``: each node's community.
    """
    known, edges, labels = draw_graphs(_DEVELOPMENT, stream(7, "communities"))
    origin = origin_of("made here", known, edges, labels)
    return Pool((known, edges), labels, _VALIDATION, COMMUNITIES, origin=origin, _draw=_unseen)


def _unseen(test_seed: int) -> tuple[tuple[Floats, Floats], Labels]:
    known, edges, labels = draw_graphs(_TEST, stream(test_seed, "communities test part"))
    return (known, edges), labels


def draw_graphs(count: int, rng: np.random.Generator) -> tuple[Floats, Floats, Labels]:
    """Draw graphs of the stochastic block model; return known nodes, edges and labels as `make_graphs` says."""
    labels = rng.integers(COMMUNITIES, size=(count, NODES))
    labels[:, :COMMUNITIES] = np.arange(COMMUNITIES)  # the nodes that are given away
    chance = np.where(labels[:, :, None] == labels[:, None, :], _WITHIN, _BETWEEN)
    upper = np.triu(rng.random((count, NODES, NODES)) < chance, k=1)
    known = np.zeros((count, NODES, COMMUNITIES), np.float32)
    known[:, range(COMMUNITIES), range(COMMUNITIES)] = 1
    edges = (upper | upper.transpose(0, 2, 1)).astype(np.float32)
    return known, edges, labels.astype(np.int64)
