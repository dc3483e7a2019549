"""Loss and error between sets of weights: along the line through two, over the plane through three.

Weights between two trained ones have other activations than either, so BatchNorm is recalibrated at every point; a
model with BatchNorm is refused without batches to do so. The model's own weights are never written, and its buffers
and modes return as they were.

A set of weights is given as one tensor per parameter, in the order of ``model.named_parameters()`` (which is what
`WeightAverages.read` returns), or as a mapping from parameter names (a state dict).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wasam_core.bare_torch import AnyBatchNorm, AnyInstanceNorm
from wasam_core.batchnorm import recalibrate_batchnorm
from wasam_core.buffers import frozen_batchnorm_statistics
from wasam_core.cost import Cost
from wasam_core.modes import eval_mode
from wasam_core.options import whole
from wasam_core.probes.surface import (
    Batch,
    LossFn,
    check_batches,
    check_scalar,
    count_examples,
    weights_by_name,
)

Weights = Sequence[Tensor] | Mapping[str, Tensor]
Measure = Literal["loss", "error"]
Grid = tuple[tuple[float, ...], ...]
Point = tuple[float, float]

_MARGIN = 0.2  # share of a plane's extent that is added on each side


@dataclass(frozen=True, slots=True)
class Line:
    """Loss and error at start + alpha * (end - start), for each split.

    Attributes:
        alphas: From 0 (start) to 1 (end), evenly spaced.
        loss, error: By split, one value per alpha; errors are fractions, and empty without an `error_fn`.
        distance: Length of end - start.
        n: Examples, by split.
    """

    alphas: tuple[float, ...]
    loss: Mapping[str, tuple[float, ...]]
    error: Mapping[str, tuple[float, ...]]
    distance: float
    n: Mapping[str, int]

    def barrier(self, split: str, of: Measure = "loss") -> float:
        """Return the highest rise over the straight interpolation of the ends, ≥ 0.

        Source: Entezari et al. 2022 (arXiv 2110.06296): the loss barrier.
        """
        values = self._values(split, of)
        pairs = zip(self.alphas, values, strict=True)
        return max(value - ((1 - alpha) * values[0] + alpha * values[-1]) for alpha, value in pairs)

    def argmin(self, split: str, of: Measure = "loss") -> float:
        """Return the alpha of the lowest value, the first if there are several."""
        values = self._values(split, of)
        return self.alphas[values.index(min(values))]

    def _values(self, split: str, of: Measure) -> tuple[float, ...]:
        table: Mapping[str, tuple[float, ...]] = {"loss": self.loss, "error": self.error}[of]
        if split not in table:
            raise KeyError(f"There is no {of} of the split {split!r}. There are: {', '.join(table) or 'none'}.")
        return table[split]


@dataclass(frozen=True, slots=True)
class Plane:
    """Loss and error over the plane through three sets of weights, in units of the weights' own distance.

    Attributes:
        x, y: Coordinates of the grid, ascending; x runs from the origin towards the first corner.
        loss, error: By split, one row per y, one value per x in it.
        corners: Where the origin, the first and the second corner lie.
        trajectory: Where the checkpoints lie when projected.
        off_plane: Their distances from the plane; the loss shown beneath a checkpoint is not its own if this is large.
        captured: Share of the checkpoints' variance that lies in the plane, in [0, 1]; None if they do not vary.
        n: Examples, by split.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    loss: Mapping[str, Grid]
    error: Mapping[str, Grid]
    corners: tuple[Point, Point, Point]
    trajectory: tuple[Point, ...]
    off_plane: tuple[float, ...]
    captured: float | None
    n: Mapping[str, int]


def line(
    model: nn.Module,
    loss_fn: LossFn,
    start: Weights,
    end: Weights,
    batches_by_split: Mapping[str, Sequence[Batch]],
    *,
    points: int = 21,
    recalibrate_with: Sequence[Tensor | Batch] | None = None,
    error_fn: LossFn | None = None,
    cost: Cost | None = None,
) -> Line:
    """Evaluate the model along the line through two sets of weights.

    Costs, at each point, one forward evaluation of every example of every split and of the recalibration.

    Args:
        model: The model whose parameters the weights fit.
        loss_fn: Called as ``loss_fn(outputs, targets)``; returns the mean over the batch.
        start, end: The weights at alpha = 0 and 1.
        batches_by_split: Batches by name, such as ``{"train": …, "test": …}``.
        points: Evenly spaced alphas (≥ 2), 0 and 1 among them.
        recalibrate_with: Training batches for the BatchNorm statistics at each point: inputs, or (inputs, targets).
            Needed if the model has BatchNorm, unused if not.
        error_fn: Like `loss_fn`, for the error as a fraction; None leaves errors out.
        cost: Is billed with the forward evaluations.

    Raises:
        TypeError: If batches are no lists of pairs of tensors.
        ValueError: If weights do not fit, for arguments out of range, or BatchNorm without `recalibrate_with`.

    Source: Goodfellow et al. 2015 (arXiv 1412.6544) for the line; Izmailov et al. 2018 (arXiv 1803.05407) for the
        recalibration of BatchNorm.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> batches = {"train": [(torch.ones(2, 1), torch.zeros(2, 1))]}
        >>> weights = torch.tensor([[-1.0]]), torch.tensor([[1.0]])
        >>> found = line(model, nn.functional.mse_loss, *([w] for w in weights), batches, points=3)
        >>> found.alphas, found.loss["train"], found.distance
        ((0.0, 0.5, 1.0), (1.0, 0.0, 1.0), 2.0)
    """
    whole("points", points, least=2)
    probe = _Probe(model, loss_fn, error_fn, batches_by_split, recalibrate_with, cost or Cost())
    first, last = _flat(model, start), _flat(model, end)
    alphas = tuple(i / (points - 1) for i in range(points))
    found = [probe.at(torch.lerp(first, last, alpha)) for alpha in alphas]
    return Line(
        alphas=alphas,
        loss={split: tuple(values[split][0] for values in found) for split in probe.sizes},
        error={split: tuple(values[split][1] for values in found) for split in probe.sizes} if error_fn else {},
        distance=(last - first).norm().item(),
        n=probe.sizes,
    )


def plane(
    model: nn.Module,
    loss_fn: LossFn,
    corners: tuple[Weights, Weights, Weights],
    batches_by_split: Mapping[str, Sequence[Batch]],
    *,
    trajectory: Sequence[Weights] = (),
    points: int = 11,
    recalibrate_with: Sequence[Tensor | Batch] | None = None,
    error_fn: LossFn | None = None,
    cost: Cost | None = None,
) -> Plane:
    """Evaluate the model over the plane through three sets of weights, and project a trajectory on it.

    With corners a, b, c and the basis u = (b - a) / ||b - a||, v = the part of c - a orthogonal to u, normalized, the
    point (x, y) stands for the weights a + x u + y v. The grid covers corners, projected checkpoints and a margin.

    Costs points² times what a point of `line` costs.

    Args:
        model, loss_fn, batches_by_split, recalibrate_with, error_fn, cost: See `line`.
        corners: a, b and c, not on one line.
        trajectory: Checkpoints of a run, in order.
        points: Grid points along each axis (≥ 2).

    Raises:
        TypeError: If batches are no lists of pairs of tensors.
        ValueError: If the corners lie on one line, and as in `line`.

    Source: Garipov et al. 2018 (arXiv 1802.10026) for the plane through three sets of weights; Li et al. 2018 (arXiv
        1712.09913) for projected trajectories and the share of their variance.

    Differs from: Li et al., who take the basis from the trajectory's principal components, so that it captures most
        of the variance by construction.

    Example:
        >>> model = nn.Linear(1, 2, bias=False)
        >>> batches = {"train": [(torch.ones(2, 1), torch.zeros(2, 2))]}
        >>> corners = tuple([torch.tensor(w)] for w in ([[0.0], [0.0]], [[2.0], [0.0]], [[1.0], [2.0]]))
        >>> found = plane(model, nn.functional.mse_loss, corners, batches, points=2)
        >>> found.corners, [round(x, 1) for x in found.x]
        (((0.0, 0.0), (2.0, 0.0), (1.0, 2.0)), [-0.4, 2.4])
    """
    whole("points", points, least=2)
    probe = _Probe(model, loss_fn, error_fn, batches_by_split, recalibrate_with, cost or Cost())
    origin, first, second = (_flat(model, corner) for corner in corners)
    basis = _basis(first - origin, second - origin)
    checkpoints = [_flat(model, weights) - origin for weights in trajectory]
    shown = torch.stack([torch.zeros_like(origin), first - origin, second - origin, *checkpoints]) @ basis.T
    x, y = (_axis(shown[:, axis], points) for axis in (0, 1))
    rows = [[probe.at(origin + a * basis[0] + b * basis[1]) for a in x] for b in y]

    def grids(index: int) -> dict[str, Grid]:
        return {split: tuple(tuple(found[split][index] for found in row) for row in rows) for split in probe.sizes}

    places = [(a, b) for a, b in shown.tolist()]
    return Plane(
        x=x,
        y=y,
        loss=grids(0),
        error=grids(1) if error_fn else {},
        corners=(places[0], places[1], places[2]),
        trajectory=tuple(places[3:]),
        off_plane=tuple((w - w @ basis.T @ basis).norm().item() for w in checkpoints),
        captured=_captured(checkpoints, basis),
        n=probe.sizes,
    )


@dataclass(frozen=True)
class _Probe:
    """Evaluate all splits at given weights, under BatchNorm statistics of their own."""

    model: nn.Module
    loss_fn: LossFn
    error_fn: LossFn | None
    batches_by_split: Mapping[str, Sequence[Batch]]
    recalibrate_with: Sequence[Tensor | Batch] | None
    cost: Cost

    def __post_init__(self) -> None:
        if not self.batches_by_split:
            raise ValueError('batches_by_split is empty: give batches by name, such as {"train": …, "test": …}.')
        for batches in self.batches_by_split.values():
            check_batches(batches)
        if self.recalibrate_with is None and any(
            isinstance(m, AnyBatchNorm | AnyInstanceNorm) and m.track_running_stats for m in self.model.modules()
        ):
            raise ValueError(
                f"{type(self.model).__name__} has normalization layers whose statistics fit one set of weights only: "
                "give recalibrate_with = training batches, so that they are computed at every point."
            )

    @property
    def sizes(self) -> dict[str, int]:
        return {split: count_examples(batches) for split, batches in self.batches_by_split.items()}

    @torch.no_grad()
    def at(self, weights: Tensor) -> dict[str, Point]:
        """Return (loss, error) by split at flattened weights; the error is nan without an `error_fn`."""
        named = dict(self.model.named_parameters())
        parts = weights.split([p.numel() for p in named.values()])
        own = {name: part.view_as(p).to(p.detach()) for (name, p), part in zip(named.items(), parts, strict=True)}

        def forward(model: nn.Module, batch: Tensor | Batch) -> Any:
            return functional_call(model, own, (batch if isinstance(batch, Tensor) else batch[0],))

        with frozen_batchnorm_statistics(self.model):
            if self.recalibrate_with is not None:
                self.cost.bill_forwards(recalibrate_batchnorm(self.model, self.recalibrate_with, forward_fn=forward))
            with eval_mode(self.model):
                return {split: self._mean(forward, batches) for split, batches in self.batches_by_split.items()}

    def _mean(self, forward: Callable[[nn.Module, Batch], Any], batches: Sequence[Batch]) -> Point:
        losses: list[float] = []
        errors: list[float] = []
        for batch in batches:
            targets = batch[1]
            outputs = forward(self.model, batch)
            losses.append(check_scalar(self.loss_fn(outputs, targets), "loss_fn").item() * len(targets))
            if self.error_fn is not None:
                errors.append(check_scalar(self.error_fn(outputs, targets), "error_fn").item() * len(targets))
        examples = count_examples(batches)
        self.cost.bill_forwards(examples)
        return math.fsum(losses) / examples, math.fsum(errors) / examples if errors else math.nan


def _flat(model: nn.Module, weights: Weights) -> Tensor:
    return torch.cat([w.flatten().double() for w in weights_by_name(model, weights).values()])


def _basis(first: Tensor, second: Tensor) -> Tensor:
    """Return the orthonormal basis ``(2, d)`` of the plane that two vectors span, the first along the first."""
    x = first / first.norm().clamp_min(torch.finfo(first.dtype).tiny)
    rest = second - (second @ x) * x
    # What rounding of float32 weights leaves of a vector on the line is far below this.
    if not rest.norm() > 1e-6 * second.norm() or not first.norm():
        raise ValueError(
            f"The corners lie on one line (distances from the first: {first.norm():.4g} and {second.norm():.4g}), and "
            "no plane is defined: give three sets of weights that differ in direction, or use line()."
        )
    rest = rest - (rest @ x) * x
    return torch.stack([x, rest / rest.norm()])


def _axis(values: Tensor, points: int) -> tuple[float, ...]:
    low, high = values.min().item(), values.max().item()
    low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
    return tuple(low + (high - low) * i / (points - 1) for i in range(points))


def _captured(checkpoints: Sequence[Tensor], basis: Tensor) -> float | None:
    if not checkpoints:
        return None
    stacked = torch.stack(list(checkpoints))
    centred = stacked - stacked.mean(0)
    total = centred.square().sum().item()
    return None if total == 0.0 else (centred @ basis.T).square().sum().item() / total
