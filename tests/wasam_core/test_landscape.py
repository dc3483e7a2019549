"""Lines and planes through weights: closed forms, BatchNorm at every point, nothing left behind."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wasam_core import Cost, WeightAverages, recalibrate_batchnorm
from wasam_core.probes.landscape import Line, line, plane

mse = nn.functional.mse_loss


def classification_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) != targets).float().mean()


def bowl(d: int = 2) -> tuple[nn.Module, dict[str, list[tuple[Tensor, Tensor]]]]:
    """Return a model and batches with loss ||w||² ("train") and ||w - 1||² ("test")."""
    model = nn.Linear(1, d, bias=False, dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    target = torch.zeros(1, d, dtype=torch.float64)
    return model, {"train": [(x, target)], "test": [(x, target + 1)]}


def weights(*values: float) -> list[Tensor]:
    return [torch.tensor(values, dtype=torch.float64)[:, None]]


def squares(out: Tensor, target: Tensor) -> Tensor:
    return mse(out, target, reduction="sum") / len(target)


def make_net() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3))
    x, y = torch.randn(25, 4), torch.randint(3, (25,))
    return model, [(x[:20], y[:20]), (x[20:], y[20:])]


def drifted(model: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: p.detach() + torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def state_of(model: nn.Module) -> list[object]:
    tensors = [*model.parameters(), *model.buffers()]
    modes = [m.training for m in model.modules()]
    grads = [p.grad for p in model.parameters()]
    return [modes, grads, *[(t.data_ptr(), t.detach().clone().numpy().tobytes()) for t in tensors]]


# Lines


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_a_quadratic_is_a_parabola_along_any_line(values, points):
    model, batches = bowl()
    start, end = torch.tensor(values, dtype=torch.float64).view(2, 2)
    found = line(model, squares, weights(*start), weights(*end), batches, points=points)
    assert found.alphas == tuple(sorted(found.alphas))
    assert (found.alphas[0], found.alphas[-1], len(found.alphas)) == (0.0, 1.0, points)
    assert found.distance == pytest.approx((end - start).norm().item())
    for alpha, loss in zip(found.alphas, found.loss["train"], strict=True):
        assert loss == pytest.approx((start + alpha * (end - start)).square().sum().item(), abs=1e-12)
    assert found.barrier("train") == pytest.approx(0.0, abs=1e-12)  # a convex loss has none


def test_train_and_test_have_minima_of_their_own():
    model, batches = bowl()
    found = line(model, squares, weights(-1, -1), weights(1, 1), batches, points=41)
    assert found.argmin("train") == 0.5
    assert found.argmin("test") == 1.0
    assert found.n == {"train": 1, "test": 1}


def test_the_barrier_of_a_double_well():
    model, batches = bowl(1)

    def wells(out: Tensor, _: Tensor) -> Tensor:
        return ((out**2 - 1) ** 2 + 0.5 * out).mean()  # minima near -1 and 1, and a tilt

    found = line(model, wells, weights(-1), weights(1), batches, points=21)
    # On the line w = 2 alpha - 1 the tilt is the interpolation of the ends, and (w² - 1)² peaks at w = 0.
    assert found.barrier("train") == pytest.approx(1.0)


def test_barrier_and_argmin_of_given_numbers():
    found = Line((0.0, 0.5, 1.0), {"a": (1.0, 2.5, 2.0)}, {"a": (0.2, 0.1, 0.1)}, 1.0, {"a": 1})
    assert (found.barrier("a"), found.argmin("a")) == (1.0, 0.0)
    assert (found.barrier("a", of="error"), found.argmin("a", of="error")) == (0.0, 0.5)
    with pytest.raises(KeyError, match="There are: a"):
        found.barrier("b")


def test_errors_are_fractions_of_all_examples():
    model = nn.Linear(1, 2, bias=False)
    x = torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
    y = torch.tensor([0, 0, 0, 0])
    batches = {"train": [(x[:3], y[:3]), (x[3:], y[3:])]}
    start, end = [torch.tensor([[1.0], [0.0]])], [torch.tensor([[0.0], [1.0]])]
    found = line(model, nn.functional.cross_entropy, start, end, batches, points=2, error_fn=classification_error)
    assert found.error["train"] == (0.25, 0.75)
    assert line(model, nn.functional.cross_entropy, start, end, batches, points=2).error == {}


def reference(model: nn.Module, values: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Load the weights, recalibrate, evaluate: on a model of its own."""
    own = make_net()[0]
    own.load_state_dict(model.state_dict() | values)
    recalibrate_batchnorm(own, [x for x, _ in batches])
    own.eval()
    with torch.no_grad():
        out = torch.cat([own(x) for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    return nn.functional.cross_entropy(out, y).item(), (out.argmax(1) != y).double().mean().item()


def test_batchnorm_is_recalibrated_at_every_point():
    model, batches = make_net()
    start, end = drifted(model, 1), drifted(model, 2)
    before = state_of(model)
    cost = Cost()
    found = line(
        model,
        nn.functional.cross_entropy,
        start,
        end,
        {"train": batches},
        points=5,
        recalibrate_with=batches,
        error_fn=classification_error,
        cost=cost,
    )
    for i, alpha in enumerate(found.alphas):
        values = {name: torch.lerp(w, end[name], alpha) for name, w in start.items()}
        loss, error = reference(model, values, batches)
        assert (found.loss["train"][i], found.error["train"][i]) == (
            pytest.approx(loss, rel=1e-5),
            pytest.approx(error),
        )
    assert state_of(model) == before
    assert cost.forward_evaluations == 5 * (25 + 25)
    assert cost.gradient_evaluations == 0


def test_a_line_from_the_last_weights_to_an_average_also_while_that_is_swapped_in():
    model, batches = make_net()
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=2)
    for epoch in (1, 2):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p), alpha=0.3)
        averages.update(epoch)
    last = [p.detach().clone() for p in model.parameters()]
    average = averages.read("swa@0.5")

    def measure() -> Line:
        return line(
            model, nn.functional.cross_entropy, last, average, {"train": batches}, points=3, recalibrate_with=batches
        )

    outside = measure()
    with averages.average_parameters("swa@0.5"):
        assert measure() == outside
        in_state_dict = line(
            model,
            nn.functional.cross_entropy,
            dict(zip(dict(model.named_parameters()), last, strict=True)),
            model.state_dict(),
            {"train": batches},
            points=3,
            recalibrate_with=[x for x, _ in batches],
        )
    assert in_state_dict == outside


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_an_exception_leaves_the_model_as_it_was(calls):
    model, batches = make_net()
    model[3].eval()
    count = 0

    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets)

    before = state_of(model)
    with pytest.raises(KeyboardInterrupt):
        line(model, failing, drifted(model, 1), drifted(model, 2), {"train": batches}, recalibrate_with=batches)
    assert state_of(model) == before


# Planes


def test_a_quadratic_over_a_plane_and_its_corners():
    model, batches = bowl(3)
    a, b, c = weights(1, 0, 0), weights(1, 2, 0), weights(1, 3, 4)
    found = plane(model, squares, (a, b, c), batches, points=5)
    assert [pytest.approx(corner) for corner in found.corners] == [(0, 0), (2, 0), (3, 4)]
    assert (found.x[0], found.x[-1]) == (pytest.approx(-0.6), pytest.approx(3.6))
    assert (found.y[0], found.y[-1]) == (pytest.approx(-0.8), pytest.approx(4.8))
    for y, row in zip(found.y, found.loss["train"], strict=True):
        for x, loss in zip(found.x, row, strict=True):
            assert loss == pytest.approx(1 + x**2 + y**2)
    assert (found.captured, found.trajectory, found.error) == (None, (), {})


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=2, max_size=6, unique=True))
@settings(deadline=None, max_examples=30)
def test_a_planar_trajectory_is_captured_whole(places):
    model, batches = bowl(3)
    corners = (weights(0, 0, 1), weights(1, 1, 1), weights(0, 2, 1))
    u, v = torch.tensor([1.0, 1.0, 0.0]) / math.sqrt(2), torch.tensor([-1.0, 1.0, 0.0]) / math.sqrt(2)
    trajectory = [weights(*(torch.tensor([0.0, 0.0, 1.0]) + a * u + b * v).tolist()) for a, b in places]
    found = plane(model, squares, corners, batches, trajectory=trajectory, points=2)
    if found.captured is not None:  # it is None if all places are one in float32
        assert found.captured == pytest.approx(1.0, abs=1e-6)
    assert found.off_plane == pytest.approx([0.0] * len(places), abs=1e-6)
    for got, want in zip(found.trajectory, places, strict=True):
        assert got == pytest.approx(want, abs=1e-5)


def test_the_share_of_variance_and_the_distance_off_the_plane():
    model, batches = bowl(3)
    corners = (weights(0, 0, 0), weights(1, 0, 0), weights(0, 1, 0))
    trajectory = [weights(3, 0, 4), weights(-3, 0, -4)]
    found = plane(model, squares, corners, batches, trajectory=trajectory, points=2)
    assert found.captured == pytest.approx(9 / 25)
    assert found.off_plane == (4.0, 4.0)
    still = plane(model, squares, corners, batches, trajectory=trajectory[:1] * 2, points=2)
    assert still.captured is None


def test_a_plane_recalibrates_batchnorm_and_leaves_the_model_as_it_was():
    model, batches = make_net()
    corners = tuple(drifted(model, seed) for seed in (1, 2, 3))
    before, cost = state_of(model), Cost()
    found = plane(
        model,
        nn.functional.cross_entropy,
        corners,
        {"train": batches},
        points=8,
        recalibrate_with=batches,
        error_fn=classification_error,
        cost=cost,
    )
    assert state_of(model) == before
    assert cost.forward_evaluations == 8**2 * 50
    # A fifth is added on each side: if the others lie to its right and above, the first corner is a point of the grid.
    assert (found.x[1], found.y[1]) == pytest.approx((0.0, 0.0), abs=1e-6)
    loss, error = reference(model, corners[0], batches)
    assert (found.loss["train"][1][1], found.error["train"][1][1]) == (
        pytest.approx(loss, rel=1e-4),
        pytest.approx(error),
    )


# Errors that teach


def test_weights_that_do_not_fit_are_refused():
    model, batches = make_net()
    good = drifted(model, 1)
    for bad, match in (
        ({**good, "other": torch.zeros(1)}, "other is new"),
        ({name: w for name, w in good.items() if name != "0.bias"}, r"0\.bias is missing"),
        (list(good.values())[:-1], r"4\.bias is missing"),
        ([*good.values(), torch.zeros(1)], "tensor 6 is new"),
        (good | {"0.bias": torch.zeros(7)}, r"0\.bias has shape \(7,\)"),
    ):
        with pytest.raises(ValueError, match=match):
            line(model, nn.functional.cross_entropy, good, bad, {"train": batches}, recalibrate_with=batches)


def test_batchnorm_without_batches_is_refused():
    model, batches = make_net()
    with pytest.raises(ValueError, match="recalibrate_with"):
        line(model, nn.functional.cross_entropy, drifted(model, 1), drifted(model, 2), {"train": batches})


def test_no_split_no_points_no_plane():
    model, batches = bowl()
    corners = (weights(0, 0), weights(1, 1), weights(2, 2))
    with pytest.raises(ValueError, match="batches_by_split is empty"):
        line(model, squares, *corners[:2], {})
    with pytest.raises(ValueError, match="on one line"):
        plane(model, squares, corners, batches)
    with pytest.raises(ValueError, match="on one line"):
        plane(model, squares, (corners[0], corners[0], corners[1]), batches)
    for of, some in ((line, corners[:2]), (plane, [(corners[0], weights(1, 0), weights(0, 1))])):
        with pytest.raises(ValueError, match="points = 1"):
            of(model, squares, *some, batches, points=1)
