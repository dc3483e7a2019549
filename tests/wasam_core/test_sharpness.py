"""Sharpness and curvature: closed forms first, then convergence, then what must stay untouched."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, hessian

from wasam_core import Cost, WeightAverages, recalibrate_batchnorm
from wasam_core.probes.curvature import Hessian, hutchinson_trace, top_eigenvalues
from wasam_core.probes.rises import average_case_rise, worst_case_rise
from wasam_core.probes.sharpness import measure_sharpness, plan_effort
from wasam_core.probes.surface import LossSurface

# The references use torch.func.jvp, whose first call loads decompositions that torch itself scripts.
JVP_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
NO_DATA = [(torch.zeros(1, 1), torch.zeros(1))]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """1/2 (w - c)ᵀ A (w - c) + gᵀ(w - c), at w = c unless told otherwise."""

    def __init__(self, a: Tensor, g: Tensor | None = None, c: Tensor | None = None) -> None:
        super().__init__()
        self.c = torch.zeros(len(a), dtype=torch.float64) if c is None else c
        self.a, self.g = a, torch.zeros_like(self.c) if g is None else g
        self.w = nn.Parameter(self.c.clone())

    def forward(self, _: Tensor) -> Tensor:
        moved = self.w - self.c
        return moved @ self.a @ moved / 2 + self.g @ moved


def surface_of(*args: Tensor | None) -> LossSurface:
    return LossSurface(Quadratic(*args), lambda value, _: value, NO_DATA)


def symmetric(eigenvalues: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a symmetric matrix with these eigenvalues, and its eigenvectors in columns."""
    d = len(eigenvalues)
    q = torch.linalg.qr(torch.randn(d, d, generator=seeded(seed), dtype=torch.float64)).Q
    return q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ q.T, q


def make_net(norm: bool = True, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a small classifier whose running statistics fit, in training mode, and uneven batches."""
    torch.manual_seed(1)
    middle = [nn.BatchNorm1d(6)] if norm else []
    model = nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)).to(dtype)
    x, y = torch.randn(25, 4, dtype=dtype), torch.randint(3, (25,))
    recalibrate_batchnorm(model, [x])
    return model.train(), [(x[:20], y[:20]), (x[20:], y[20:])]


def dense_hessian(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the Hessian by torch.func, on all examples at once."""
    model.eval()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes.values()])
        tensors = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, tensors, (x,)), y)

    return hessian(loss)(torch.cat([p.detach().flatten() for p in model.parameters()]))


# Closed forms


@given(st.floats(0.0, 2.0), st.floats(0.01, 3.0), st.floats(0.1, 10.0))
@settings(deadline=None, max_examples=30)
def test_worst_case_rise_where_the_slope_is_along_the_top_eigenvector(rho, slope, curvature):
    a, q = symmetric([curvature, curvature / 2, curvature / 7])
    for steps in (1, 4):
        found = worst_case_rise(surface_of(a, slope * q[:, 0]), rho=rho, steps=steps, generator=seeded())
        assert found.rise == pytest.approx(slope * rho + curvature * rho**2 / 2, rel=1e-9, abs=1e-12)


def test_worst_case_rise_at_a_minimum_is_half_the_largest_eigenvalue_times_rho_squared():
    a, _ = symmetric([5.0, 1.0, 0.1, 0.1])
    assert worst_case_rise(surface_of(a), rho=0.3, steps=20, generator=seeded()).rise == pytest.approx(2.5 * 0.3**2)


def test_adaptive_measures_see_the_hessian_scaled_by_the_weights():
    a, _ = symmetric([5.0, 1.0, 0.1, 0.1])
    c = torch.tensor([0.5, -2.0, 1.0, 0.0], dtype=torch.float64)
    scaled = c.abs()[:, None] * a * c.abs()
    surface = surface_of(a, None, c)
    worst = worst_case_rise(surface, rho=0.3, adaptive=True, steps=40, generator=seeded())
    assert worst.rise == pytest.approx(0.3**2 / 2 * torch.linalg.eigvalsh(scaled)[-1].item(), rel=1e-6)
    average = average_case_rise(surface, rho=0.3, adaptive=True, draws=1500, generator=seeded())
    assert abs(average.rise - 0.3**2 / 8 * scaled.trace().item()) < 3 * average.standard_error


def test_average_case_rise_is_half_rho_squared_trace_over_d_whatever_the_slope():
    a, _ = symmetric([5.0, 1.0, 0.1, -0.5])
    slope = torch.full((4,), 100.0, dtype=torch.float64)
    expected, variance = 0.3**2 * 5.6 / 8, 2 * (a @ a).trace().item() * (0.3**2 / 8) ** 2
    found = average_case_rise(surface_of(a, slope), rho=0.3, draws=1500, generator=seeded())
    assert abs(found.rise - expected) < 3 * found.standard_error
    assert found.standard_error == pytest.approx(math.sqrt(variance / 1500), rel=0.1)


def test_a_linear_model_has_the_hessian_of_least_squares():
    model = nn.Linear(5, 1, bias=False, dtype=torch.float64)
    x = torch.randn(30, 5, dtype=torch.float64)
    expected = 2 / 30 * x.T @ x
    batches = list(zip(x.split((7, 20, 3)), torch.randn(30, 1, dtype=torch.float64).split((7, 20, 3)), strict=True))
    operator = Hessian(LossSurface(model, nn.functional.mse_loss, batches))
    torch.testing.assert_close(operator.times_each(torch.eye(5, dtype=torch.float64)), expected)
    top = top_eigenvalues(operator, 2, generator=seeded(), tolerance=1e-8)
    assert top.values == pytest.approx(torch.linalg.eigvalsh(expected).flip(0)[:2].tolist())
    assert top.converged


@pytest.mark.parametrize(
    "eigenvalues", [[3.0, 2.0, -7.0, 0.5, 0.1], [1.0] * 5, [-1.0, -2.0, -3.0, -4.0, -5.0], [0.0] * 5]
)
def test_eigenvalues_are_the_algebraically_largest(eigenvalues):
    operator = Hessian(surface_of(symmetric(eigenvalues)[0]))
    top = top_eigenvalues(operator, 2, generator=seeded(), tolerance=1e-8)
    assert top.values == pytest.approx(sorted(eigenvalues, reverse=True)[:2], abs=1e-9)
    assert top.products == operator.products


def test_a_loss_linear_in_the_weights_has_no_curvature():
    model = nn.Linear(3, 1)
    surface = LossSurface(model, lambda out, _: out.mean(), [(torch.randn(4, 3), torch.zeros(4))])
    operator = Hessian(surface)
    assert top_eigenvalues(operator, generator=seeded()).values == (0.0,)
    assert hutchinson_trace(operator, generator=seeded()).value == 0.0


# References and convergence


@JVP_WARNS
@pytest.mark.parametrize("norm", [False, True])
def test_products_agree_with_the_dense_hessian(norm):
    model, batches = make_net(norm, torch.float64)
    operator = Hessian(LossSurface(model, nn.functional.cross_entropy, batches))
    dense = dense_hessian(model, batches)
    torch.testing.assert_close(operator.times_each(torch.eye(operator.size, dtype=torch.float64)), dense)
    top = top_eigenvalues(operator, 3, generator=seeded(), tolerance=1e-6)
    torch.testing.assert_close(
        torch.tensor(top.values).double(), torch.linalg.eigvalsh(dense).flip(0)[:3], rtol=1e-5, atol=0
    )
    v = top.vectors
    torch.testing.assert_close(v.T @ v, torch.eye(3, dtype=torch.float64))


@JVP_WARNS
def test_products_agree_with_curvlinops():
    curvlinops = pytest.importorskip("curvlinops")
    model, batches = make_net(dtype=torch.float64)
    ours = Hessian(LossSurface(model, nn.functional.cross_entropy, batches))
    model.eval()
    peer = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), batches)
    vector = torch.randn(ours.size, dtype=torch.float64)
    torch.testing.assert_close(ours.times(vector), peer @ vector)


def test_more_steps_find_more_and_end_at_the_maximum():
    a, q = symmetric([4.0, 1.0, 0.5, 0.2])
    slope = 0.1 * q.sum(1)
    # The exact maximum in the ball: (mu I - A) e = g with ||e|| = rho, by bisection on mu above the top eigenvalue.
    low, high = torch.tensor(4.0, dtype=torch.float64), torch.tensor(100.0, dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64)
    for _ in range(100):
        mu = (low + high) / 2
        e = torch.linalg.solve(mu * eye - a, slope)
        low, high = (mu, high) if e.norm() > 0.5 else (low, mu)
    exact = (slope @ e + e @ a @ e / 2).item()
    rises = [worst_case_rise(surface_of(a, slope), rho=0.5, steps=k, generator=seeded()).rise for k in (1, 2, 5, 30)]
    assert rises == sorted(rises)
    assert rises[-1] == pytest.approx(exact)
    assert rises[0] < 0.95 * exact


def test_micro_batches_rise_at_least_as_much_on_average_as_all_together():
    model, batches = make_net()
    surface = LossSurface(model, nn.functional.cross_entropy, batches)
    rises = [
        worst_case_rise(surface, rho=0.1, steps=10, micro_batch=m, generator=seeded()).rise for m in (None, 10, 5, 1)
    ]
    assert rises == sorted(rises)
    singles = [(x[None], y[None]) for batch in batches for x, y in zip(*batch, strict=True)]
    each = [
        worst_case_rise(LossSurface(model, nn.functional.cross_entropy, [b]), rho=0.1, steps=10, generator=seeded())
        for b in singles
    ]
    assert rises[-1] == pytest.approx(math.fsum(found.rise for found in each) / 25, rel=1e-5)


def test_more_draws_come_closer():
    a, _ = symmetric([5.0, 1.0, 0.1, 0.1])
    errors = [
        sum(
            abs(average_case_rise(surface_of(a), rho=1.0, draws=draws, generator=seeded(s)).rise - 6.2 / 8)
            for s in range(10)
        )
        for draws in (2, 20, 150)
    ]
    assert errors == sorted(errors, reverse=True)


def test_the_intervals_of_the_trace_cover_it_as_often_as_they_say():
    eigenvalues = [20.0, 8.0, *[1.0 / k for k in range(1, 39)]]
    operator = Hessian(surface_of(symmetric(eigenvalues)[0]))
    truth = sum(eigenvalues)
    top = top_eigenvalues(operator, 2, generator=seeded(), tolerance=1e-6)
    estimates = {
        "plain": [hutchinson_trace(operator, probes=40, generator=seeded(s)) for s in range(120)],
        "known": [hutchinson_trace(operator, probes=40, generator=seeded(s), known=top) for s in range(120)],
    }
    width = {}
    for name, found in estimates.items():
        # Binomial standard deviation: sqrt(.95 * .05 / 120) = .02.
        assert abs(sum(t.low <= truth <= t.high for t in found) / 120 - 0.95) < 0.06, name
        assert math.fsum(t.value for t in found) / 120 == pytest.approx(truth, rel=0.05)
        width[name] = math.fsum(t.standard_error for t in found) / 120
    assert width["known"] < width["plain"] / 4


def test_the_small_basis_finds_the_eigenvalue_of_a_wide_spectrum_in_few_products():
    eigenvalues = [10.0, 6.0, *[3.0 * 0.97**k for k in range(300)]]
    operator = Hessian(surface_of(torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))))
    for seed in range(5):
        top = top_eigenvalues(operator, generator=seeded(seed))
        assert top.values[0] == pytest.approx(10.0, rel=1e-3)
        assert top.products <= 20


def test_giving_up_is_reported_not_hidden():
    operator = Hessian(surface_of(torch.diag(torch.linspace(1, 1.001, 50, dtype=torch.float64))))
    top = top_eigenvalues(operator, 3, generator=seeded(), tolerance=1e-12, max_products=8)
    assert not top.converged
    assert math.isnan(top.values[-1])
    assert math.isfinite(hutchinson_trace(operator, generator=seeded(), known=top).value)


# What must stay as it was


def state_of(model: nn.Module) -> list[object]:
    tensors = [*model.parameters(), *model.buffers()]
    grads = [None if p.grad is None else (p.grad.data_ptr(), p.grad.tolist()) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    versions = [t._version for t in tensors]
    return [modes, versions, grads, *[(t.data_ptr(), t.detach().clone().numpy().tobytes()) for t in tensors]]


def test_measuring_touches_neither_the_model_nor_the_global_random_numbers():
    model, batches = make_net()
    model[1].eval()
    model(batches[0][0]).sum().backward()
    model[0].bias.grad = None
    before, random = state_of(model), torch.get_rng_state()
    measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded())
    worst_case_rise(LossSurface(model, nn.functional.cross_entropy, batches), adaptive=True, generator=seeded())
    assert state_of(model) == before
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("calls", [1, 4, 8, 30])
def test_an_exception_leaves_the_model_as_it_was(calls):
    model, batches = make_net()
    count = 0

    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets)

    before = state_of(model)
    with pytest.raises(KeyboardInterrupt):
        measure_sharpness(model, failing, batches, generator=seeded())
    assert state_of(model) == before


def test_it_runs_inside_an_average_and_measures_that_one():
    model, batches = make_net()
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=4)
    for epoch in range(1, 5):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p), alpha=0.3)
        averages.update(epoch)
    recalibrate_batchnorm(model, batches)
    last = measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded())
    with averages.average_parameters("swa@0.5"):
        recalibrate_batchnorm(model, batches)
        average = measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded())
        model.eval()
        losses = [nn.functional.cross_entropy(model(x), y).item() * len(y) for x, y in batches]
    assert average.loss == pytest.approx(sum(losses) / 25)
    assert average.loss != last.loss
    assert measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded()) == last


def test_frozen_parameters_are_constants():
    model, batches = make_net()
    model[0].requires_grad_(False)
    surface = LossSurface(model, nn.functional.cross_entropy, batches)
    assert surface.size == sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad_"):
        LossSurface(model, nn.functional.cross_entropy, batches)


def test_tied_weights_move_together():
    layer = nn.Linear(2, 2, bias=False)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    surface = LossSurface(model, nn.functional.mse_loss, [(torch.ones(1, 2), torch.zeros(1, 2))])
    moved = surface.loss_at([torch.zeros(2, 2)])
    assert (surface.size, moved) == (4, 0.0)


# Numbers and their evidence


def test_all_measures_in_one_with_their_cost():
    model, batches = make_net()
    cost = Cost(gradient_evaluations=7)
    found = measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded(), cost=cost)
    products = found.eigenvalues.products + found.trace.probes
    assert cost.gradient_evaluations == 7 + 25 * (1 + 2 * products + 5)
    assert cost.forward_evaluations == 25 * (2 + 1 + 16)
    assert found.worst_case.n == found.average_case.n == found.eigenvalues.n == found.trace.n == 25
    assert found.worst_case.rise >= found.average_case.rise > 0
    assert found.trace.low <= found.trace.value <= found.trace.high


def test_all_measures_are_those_of_the_probes_called_one_by_one():
    model, batches = make_net()
    found = measure_sharpness(model, nn.functional.cross_entropy, batches, rho=0.1, generator=seeded())
    surface, generator = LossSurface(model, nn.functional.cross_entropy, batches), seeded()
    hessian = Hessian(surface)
    top = top_eigenvalues(hessian, generator=generator)
    assert found.eigenvalues == top
    assert found.trace == hutchinson_trace(hessian, probes=4, generator=generator, known=top)
    assert found.worst_case == worst_case_rise(surface, rho=0.1, generator=generator)
    assert found.average_case == average_case_rise(surface, rho=0.1, generator=generator)


@settings(max_examples=25, deadline=None)
@given(st.floats(63.0, 3000.0))
def test_a_budget_is_kept(budget):
    model, batches = make_net()
    least = 2 / 3 + 1 + 2 * (25 + 2) + 5 + 1 / 3 + 4 / 3
    cost = Cost()
    found = measure_sharpness(
        model, nn.functional.cross_entropy, batches, budget=budget, generator=seeded(), cost=cost
    )  # fmt: skip
    assert cost.in_gradients <= budget
    assert found.trace.n == min(25, int(budget / least))


@given(st.lists(st.floats(70.0, 1e5), min_size=2, max_size=2), st.integers(1, 300))
def test_a_larger_budget_goes_to_examples_then_probes_then_draws_then_products(budgets, examples):
    small, large = (plan_effort(b, examples) for b in sorted(budgets))
    orders = [(e.examples, e.probes, e.draws, e.products) for e in (small, large)]
    assert orders == sorted(orders)
    assert orders[0] >= (1, 2, 2, 25)
    assert plan_effort(math.inf, examples) == (examples, 8, 4, 300)


def test_a_large_budget_changes_nothing_and_an_equal_one_asks_the_same_of_all_weights():
    model, batches = make_net()
    free = measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded())
    rich = measure_sharpness(model, nn.functional.cross_entropy, batches, budget=1e9, generator=seeded())
    assert rich == free
    efforts = []
    for scale in (1.0, 3.0):
        with torch.no_grad():
            model[0].weight.mul_(scale)
        poor = measure_sharpness(model, nn.functional.cross_entropy, batches, budget=700.0, generator=seeded())
        again = measure_sharpness(model, nn.functional.cross_entropy, batches, budget=700.0, generator=seeded())
        assert poor == again
        efforts.append((poor.trace.n, poor.trace.probes, poor.average_case.draws, poor.worst_case.steps))
    assert efforts == [(11, 2, 3, 5)] * 2


def test_no_radius_no_rise():
    model, batches = make_net()
    found = measure_sharpness(model, nn.functional.cross_entropy, batches, rho=0.0, generator=seeded())
    assert found.worst_case.rise == pytest.approx(0.0, abs=1e-7)  # passes with and without a graph may round apart
    assert found.average_case.rise == found.average_case.standard_error == 0.0


def test_an_infinite_loss_in_the_ball_is_an_infinite_rise():
    model = Quadratic(torch.eye(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    surface = LossSurface(model, lambda value, _: torch.exp(2000 * value), NO_DATA)
    assert worst_case_rise(surface, rho=1.0, generator=seeded()).rise == math.inf


# Errors that teach


def test_a_random_loss_is_refused():
    model, batches = make_net()
    with pytest.raises(ValueError, match="bit for bit"):
        LossSurface(model, lambda out, _: out.mean() + torch.rand(()), batches)
    with pytest.raises(ValueError, match="The loss at the model's weights is nan"):
        LossSurface(model, lambda out, _: out.mean() * math.nan, batches)


@pytest.mark.parametrize(
    ("batches", "error", "match"),
    [
        (iter([]), TypeError, r"list\(loader\)"),
        ([], ValueError, "batches is empty"),
        ([torch.zeros(2, 4)], TypeError, r"\(inputs, targets\)"),
        ([(torch.zeros(2, 4), torch.zeros(3))], ValueError, "2 inputs and 3 targets"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batches, error, match):
    with pytest.raises(error, match=match):
        LossSurface(make_net()[0], nn.functional.cross_entropy, batches)


def test_a_loss_per_example_is_refused():
    model, batches = make_net()
    with pytest.raises(ValueError, match='reduction="mean"'):
        LossSurface(model, nn.CrossEntropyLoss(reduction="none"), batches)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"rho": -1.0}, "rho = -1.0"),
        ({"budget": 10.0}, "one example alone takes 62.3"),
        ({"budget": math.nan}, "budget = nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, match):
    model, batches = make_net()
    with pytest.raises(ValueError, match=match):
        measure_sharpness(model, nn.functional.cross_entropy, batches, generator=seeded(), **arguments)


def test_options_of_the_probes_out_of_range_are_refused():
    operator = Hessian(surface_of(symmetric([2.0, 1.0, 0.5])[0]))
    for probe, options, match in (
        (top_eigenvalues, {"tolerance": 0}, "tolerance = 0"),
        (top_eigenvalues, {"count": 3}, "from 1 to d - 1"),
        (top_eigenvalues, {"count": True}, "count = True"),
        (top_eigenvalues, {"max_products": 0}, "max_products = 0"),
        (hutchinson_trace, {"probes": 1}, "probes = 1"),
        (hutchinson_trace, {"probes": 2.5}, r"probes = 2\.5"),
        (worst_case_rise, {"steps": 0}, "steps = 0"),
        (worst_case_rise, {"micro_batch": 0}, "micro_batch = 0"),
        (worst_case_rise, {"rho": math.nan}, "rho = nan"),
        (average_case_rise, {"draws": 1}, "draws = 1"),
        (average_case_rise, {"rho": math.inf}, "rho = inf"),
    ):
        of = operator if probe in (top_eigenvalues, hutchinson_trace) else operator.surface
        with pytest.raises(ValueError, match=match):
            probe(of, generator=seeded(), **options)
