"""How often does the interval of a trace cover it? As its docstring says, whatever the matrix; with known traces."""

import math

import pytest
import torch
from scipy.stats import t
from torch import Tensor, nn
from torch.func import functional_call, hessian

from wasam_core.probes.curvature import Eigenvalues, Hessian, hutchinson_trace
from wasam_core.probes.surface import LossSurface

PROBES, REPETITIONS = (5, 12, 30), 500
SLACK = 0.025  # 2.5 binomial standard deviations of a share of 95 %
_NOTHING = LossSurface(nn.Linear(1, 1), nn.functional.mse_loss, [(torch.zeros(1, 1), torch.zeros(1, 1))])


class Dense(Hessian):
    """A symmetric matrix in the place of a Hessian."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(_NOTHING)
        self.matrix, self.size = matrix, len(matrix)

    def times_each(self, vectors: Tensor) -> Tensor:
        return self.matrix @ vectors


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(1), dtype=torch.float64)


def with_eigenvalues(values: Tensor) -> Tensor:
    q = torch.linalg.qr(normal(len(values), len(values))).Q
    return q @ torch.diag(values) @ q.T


def near_diagonal() -> Tensor:
    noise = 0.05 * normal(60, 60)
    return torch.diag(1 + 2 * torch.rand(60, generator=seeded(), dtype=torch.float64)) + (noise + noise.T) / 2


def wishart() -> Tensor:
    x = normal(60, 15)
    return x @ x.T / 15


def of_a_net() -> Tensor:
    """Return the Hessian of a small classifier after a few steps; one eigenvalue leads, some are below 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = normal(40, 4)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    shapes = {name: w.shape for name, w in net.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes.values()])
        weights = {name: w.view(shape) for (name, shape), w in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(net, weights, (x,)), y)

    found = hessian(loss)(torch.cat([w.detach().flatten() for w in net.parameters()]))
    return (found + found.T) / 2


MATRICES = {
    "near to diagonal": near_diagonal,
    "Wishart": wishart,
    "rank one": lambda: with_eigenvalues(torch.tensor([5.0, *[0.0] * 59], dtype=torch.float64)),
    "1/k²": lambda: with_eigenvalues(torch.arange(1, 61, dtype=torch.float64) ** -2),
    "indefinite": lambda: with_eigenvalues(torch.tensor([5.0, -4.0, *[0.02] * 58], dtype=torch.float64)),
    "net": of_a_net,
}


def leading(matrix: Tensor) -> Eigenvalues:
    values, vectors = torch.linalg.eigh(matrix)
    return Eigenvalues((values[-1].item(),), 0.0, True, 0, 1, vectors[:, -1:])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_the_interval_covers_at_least_as_often_as_it_says(name: str, known: bool) -> None:
    matrix = MATRICES[name]()
    operator, truth = Dense(matrix), matrix.trace().item()
    top = leading(matrix) if known else None
    for probes in PROBES:
        found = [hutchinson_trace(operator, probes=probes, generator=seeded(s), known=top) for s in range(REPETITIONS)]
        rounding = 1e-9 * matrix.abs().max().item()
        covered = sum(one.low - rounding <= truth <= one.high + rounding for one in found) / REPETITIONS
        assert covered >= 0.95 - SLACK, (probes, covered)
        # It is not bought by width: the true standard error, times what Student's t asks of so few probes.
        rest = matrix if top is None else matrix - top.values[0] * top.vectors @ top.vectors.T
        error = math.sqrt(2 * ((rest**2).sum() - (rest.diag() ** 2).sum()).clamp(0).item() / probes)
        half = sum(one.high - one.low for one in found) / 2 / REPETITIONS
        assert half <= 1.05 * t.isf(0.025, probes - 1) * error + rounding, probes


@pytest.mark.parametrize("probes", [2, 12])
def test_the_squared_standard_error_is_the_variance_in_the_mean(probes: int) -> None:
    matrix = wishart()
    variance = 2 * ((matrix**2).sum() - (matrix.diag() ** 2).sum()).item() / probes
    found = [hutchinson_trace(Dense(matrix), probes=probes, generator=seeded(s)) for s in range(2000)]
    assert sum(one.standard_error**2 for one in found) / 2000 == pytest.approx(variance, rel=0.03)
    mean = sum(one.value for one in found) / 2000
    assert mean == pytest.approx(matrix.trace().item(), abs=4 * math.sqrt(variance / 2000))


def test_signs_know_the_trace_of_a_diagonal_matrix() -> None:
    found = hutchinson_trace(Dense(torch.diag(torch.tensor([3.0, -1.0, 5.0]).double())), generator=seeded())
    assert (found.low, found.value, found.high, found.standard_error) == (7.0, 7.0, 7.0, 0.0)
