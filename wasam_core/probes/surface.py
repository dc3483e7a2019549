"""The loss as a function of the weights alone: same batches, eval mode, nothing of the model touched.

Every probe asks for the loss at weights that are not the model's. The model's structure is called with those weights
in place of its own (`torch.func.functional_call`), so its parameters, buffers and gradients are never written and there
is nothing to restore after an exception. That also lets probes run inside `WeightAverages.average_parameters`, which
refuses blocks that write to the parameters.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wasam_core.cost import Cost
from wasam_core.lookup import differences, forms_of
from wasam_core.modes import eval_mode
from wasam_core.moved import weights_moved

Batch = tuple[Tensor, Tensor]
LossFn = Callable[[Any, Tensor], Tensor]


class LossSurface:
    """Evaluate the mean loss over fixed batches, and its gradient, at any weights.

    With examples (x_i, y_i), i = 1..n, and the model f in eval mode,
        L(w) = 1/n * sum_i loss(f(w, x_i), y_i).
    Weights and buffers (BatchNorm statistics) are copied at birth, so the surface stays what it was when the model
    moves on; recalibrate BatchNorm before. Birth checks that two evaluations agree bit for bit, at the cost of 2 n
    forward evaluations.

    Args:
        model: The model, uncompiled, in any mode. Parameters that require no gradient are constants.
        loss_fn: Called as ``loss_fn(outputs, targets)``; returns the *mean* over the batch, a scalar.
        batches: A list of (inputs, targets) tensors on the model's device, equally long in their first dimension.
        cost: Where evaluations are billed.

    Attributes:
        weights: The copied weights that require a gradient, in the order of ``model.named_parameters()``.
        size: Their number of entries, d.
        examples: n.
        loss: L at the copied weights.

    Raises:
        TypeError: If `batches` is no list of pairs of tensors.
        ValueError: If there is nothing to evaluate, if the loss is no scalar, not finite, or another one the second
            time.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(2.0)
        >>> surface = LossSurface(model, nn.functional.mse_loss, [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> surface.loss, surface.loss_at([torch.tensor([[3.0]])])
        (4.0, 9.0)
    """

    def __init__(
        self, model: nn.Module, loss_fn: LossFn, batches: Sequence[Batch], *, cost: Cost | None = None
    ) -> None:
        self.batches = check_batches(batches)
        self.examples = count_examples(self.batches)
        self.cost = Cost() if cost is None else cost
        self._model = model
        self._loss_fn = loss_fn
        copies = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        if not copies:
            raise ValueError(
                f"{type(model).__name__} has no parameter that requires a gradient, so there is nothing to move. "
                "Call requires_grad_() on the parameters to be probed."
            )
        self._names = tuple(copies)
        self.weights: tuple[Tensor, ...] = tuple(copies.values())
        self.size = sum(w.numel() for w in self.weights)
        constants = (*model.named_parameters(), *model.named_buffers())
        self._constants = {name: t.detach().clone() for name, t in constants if name not in copies}
        self.loss = self._check_deterministic()

    def loss_at(self, weights: Sequence[Tensor], batches: Sequence[Batch] | None = None) -> float:
        """Return L at `weights`; costs n forward evaluations.

        Args:
            weights: One tensor per entry of `self.weights`, of its shape, dtype and device.
            batches: Other batches to average over; None takes those given at birth.
        """
        batches = self.batches if batches is None else batches
        with torch.no_grad(), eval_mode(self._model):
            losses = [self._batch_loss(weights, batch).item() for batch in batches]
        self.cost.bill_forwards(count_examples(batches))
        return math.fsum(share * loss for share, loss in zip(_shares(batches), losses, strict=True))

    def gradient_at(
        self, weights: Sequence[Tensor], batches: Sequence[Batch] | None = None, *, create_graph: bool = False
    ) -> tuple[float, list[Tensor]]:
        """Return L and its gradient at `weights`; costs n gradient evaluations.

        Args:
            weights: As in `loss_at`; they must require a gradient if `create_graph`.
            batches: As in `loss_at`.
            create_graph: Let the gradient be differentiated again.
        """
        batches = self.batches if batches is None else batches
        leaves = weights if create_graph else [w.detach().requires_grad_() for w in weights]
        losses: list[float] = []
        gradient: list[Tensor] = []
        with torch.enable_grad(), eval_mode(self._model):
            for share, batch in zip(_shares(batches), batches, strict=True):
                loss = self._batch_loss(leaves, batch)
                part = torch.autograd.grad(share * loss, leaves, create_graph=create_graph, materialize_grads=True)
                gradient = [a + b for a, b in zip(gradient, part, strict=True)] if gradient else list(part)
                losses.append(share * loss.item())
        self.cost.bill_gradients(count_examples(batches))
        return math.fsum(losses), gradient

    def _batch_loss(self, weights: Sequence[Tensor], batch: Batch) -> Tensor:
        inputs, targets = batch
        tensors = dict(zip(self._names, weights, strict=True)) | self._constants
        outputs = functional_call(self._model, tensors, (inputs,))
        # An autocast block round all of it would keep its copies of these weights until it ends, and let the gradients
        # of all batches meet in them, in low precision.
        weights_moved()
        return check_scalar(self._loss_fn(outputs, targets), "loss_fn")

    def _check_deterministic(self) -> float:
        first, second = self.loss_at(self.weights), self.loss_at(self.weights)
        if not math.isfinite(first):
            raise ValueError(
                f"The loss at the model's weights is {first}: a rise or a curvature has no meaning there. "
                "Probe weights whose loss is finite."
            )
        if first != second:
            raise ValueError(
                f"Two evaluations of the same weights on the same batches gave {first!r} and {second!r}; they must "
                "agree bit for bit. Remove what is random or stateful in eval mode (noise in forward or in loss_fn, "
                "functional dropout without training=self.training), or call torch.use_deterministic_algorithms(True)."
            )
        return first


def check_batches(batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """Return the batches as a tuple, or say what they must be."""
    if not isinstance(batches, Sequence):
        raise TypeError(
            f"batches is a {type(batches).__name__}, which may yield other batches each time: make a list of it once, "
            "batches = list(loader), and use the same list for all weights that are compared."
        )
    for batch in batches:
        if not (isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)):
            raise TypeError(
                f"A batch is a {type(batch).__name__}, and a pair of tensors (inputs, targets) is needed. Wrap a "
                "model of several inputs in a module that takes them as one tensor."
            )
        if len(batch[0]) != len(batch[1]):
            raise ValueError(f"A batch holds {len(batch[0])} inputs and {len(batch[1])} targets: give one for each.")
    if not count_examples(batches):
        raise ValueError("There is no example to evaluate: batches is empty.")
    return tuple((inputs, targets) for inputs, targets in batches)


def check_scalar(value: Tensor, name: str) -> Tensor:
    """Return `value`, what the function `name` returned, or say that it must be a scalar."""
    if value.dim():
        raise ValueError(
            f"{name} returned a tensor of shape {tuple(value.shape)}: return the mean over the batch, a scalar "
            '(reduction="mean").'
        )
    return value


def count_examples(batches: Iterable[Batch]) -> int:
    """Return the number of examples in the batches."""
    return sum(len(targets) for _, targets in batches)


def first_examples(batches: Sequence[Batch], count: int) -> tuple[Batch, ...]:
    """Return the first `count` (≥ 1) examples of the batches, in batches; all of them if there are fewer.

    Example:
        >>> batch = (torch.ones(3, 2), torch.zeros(3))
        >>> [len(targets) for _, targets in first_examples([batch, batch], 4)]
        [3, 1]
    """
    kept: list[Batch] = []
    for inputs, targets in batches:
        if count > 0:
            kept.append((inputs[:count], targets[:count]))
            count -= len(targets)
    return tuple(kept)


def weights_by_name(model: nn.Module, weights: Sequence[Tensor] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Match a weight vector with the model's parameters, in their shape, dtype and device.

    Args:
        model: The model; all its parameters count, frozen ones too.
        weights: One tensor per parameter, in the order of ``model.named_parameters()``, or a mapping from parameter
            names, such as a state dict; its entries for buffers are left out.

    Raises:
        ValueError: If parameters are missing, unknown or of another shape.
    """
    own = dict(model.named_parameters())
    if isinstance(weights, Mapping):
        # A state dict lists buffers as well, and a shared tensor under each of its names.
        left_out = model.state_dict().keys() - own.keys()
        given = {name: w for name, w in weights.items() if name not in left_out}
    else:
        names = [*own, *(f"tensor {number}" for number in range(len(own), len(weights)))]
        given = dict(zip(names, weights, strict=False))
    in_order = {name: given[name] for name in own if name in given} | given
    found = differences(forms_of(own), forms_of(in_order))
    if found:
        raise ValueError(
            f"The weights do not fit {type(model).__name__}: {found}. Give one tensor for each parameter, by its name "
            "or in the order of model.named_parameters(); leave averaged buffers out."
        )
    return {name: given[name].detach().to(p.detach()) for name, p in own.items()}


def _shares(batches: Sequence[Batch]) -> list[float]:
    total = count_examples(batches)
    return [len(targets) / total for _, targets in batches]
