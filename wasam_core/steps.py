"""What happens inside a sharpness-aware step: the ascent, the update, the count; and when a step is one."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from wasam_core.accumulation import any_entry, refuse_another_batch, refuse_trainer, with_difference
from wasam_core.agreement import agreed, refuse_local_ascent
from wasam_core.cost import whole
from wasam_core.groups import Group, names_of, refuse_replaced
from wasam_core.norms import FiniteCheck, global_norm
from wasam_core.own_average import SwaFace
from wasam_core.perturbation import Target, check_rho
from wasam_core.two_pass import Closure, Phase, TwoPass


class SharpnessAwareSteps(SwaFace):
    """An optimizer whose steps take the gradient twice; `WASAM` is its public face and says what the options mean."""

    m: int | None
    interval: int
    start_step: int
    rho_schedule: Callable[[int], float] | None
    clip_norm: float | None
    gradient_accumulation_steps: int
    _accelerators: set[torch.device]
    _attempts: int
    _examples: int | None
    _unbilled: list[int | None]
    _updated: bool
    _compared: bool
    _passes: TwoPass
    _all_finite: FiniteCheck

    @property
    def will_perturb(self) -> bool:
        """Whether the coming step perturbs the weights and so needs a second pass."""
        late = self._attempts - self.start_step
        due = late >= 0 and late % self.interval == 0 and self._rho_factor() != 0.0
        return due and any(map(_radius, self.base_optimizer.param_groups))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        if self._passes.phase is Phase.CLEAN:
            self._passes.forget()
        if set_to_none:
            for p in self.parameters():
                p.grad = None
        else:
            self.base_optimizer.zero_grad(set_to_none=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies are made of.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
        """
        self._require_clean("copy")
        return super().__getstate__()

    def _step_whole(
        self, closure: Closure, batch: Sequence[Tensor], scaler: GradScaler | None, examples: int | None
    ) -> Tensor | None:
        given = any_entry(self.parameters())
        count = self.gradient_accumulation_steps
        earlier: list[tuple[Tensor, Tensor]] = []
        if given and count > 1:
            given = False
            self._unbilled += [None if examples is None else whole(examples)] * (count - 1)
            if self.will_perturb:
                # The closure adds to these where they lie.
                earlier = [(p, p.grad.clone()) for p in self.parameters() if p.grad is not None]
        elif given:
            refuse_trainer(closure)
        loss = None if given else self._passes.clean_pass(closure, batch)
        if not self.will_perturb:
            if given and self.model is not None and not self._compared:
                self._compare(closure, batch, examples)
            self._bill(examples)
            self._passes.finite = True
            self._update(scaler)
            return loss
        # DistributedDataParallel may write the next pass's gradients where these lie.
        clean = [(p, p.grad.clone()) for p in self.parameters() if p.grad is not None] if earlier else []
        moved = self._ascend(True, examples, zero_grad=True)
        # Other processes wait in the second backward, whatever happened in this one.
        if moved or self._process_group is not None:
            for p, grad in earlier:
                p.grad = grad
            self._passes.perturbed_pass(closure, batch)
        if given:
            refuse_another_batch(self._passes)
        if moved:
            for p, whole_sum in clean:
                p.grad = with_difference(whole_sum, p.grad, count)
        self._settle(scaler, examples)
        return loss

    def _compare(self, closure: Closure, batch: Sequence[Tensor], examples: int | None) -> None:
        """Run the closure once, without effect, where no step would: are the gradients present those of its batch?"""
        present = [(p, None if p.grad is None else p.grad.clone()) for p in self.parameters()]
        self._ascend(False, examples, zero_grad=True)
        self._passes.perturbed_pass(closure, batch)
        refuse_another_batch(self._passes)
        self._passes.restore()
        for p, grad in present:
            p.grad = grad
        self._compared = True

    def _step_in_parts(self, closure: Closure, batch: Sequence[Tensor], scaler: GradScaler | None) -> Tensor:
        """Average the perturbed gradients of micro-batches of m examples, and update once."""
        if not batch:
            raise ValueError(f"m = {self.m} splits the batch: call step(closure, batch=(x, y)).")
        if any_entry(self.parameters()):
            raise RuntimeError(
                f"step(closure, batch=...) with m = {self.m} takes both passes itself, and gradients are present that "
                "would be lost: clear them before; to accumulate, give the whole batch."
            )
        total, finite = len(batch[0]), True
        losses: list[Tensor] = []
        sums: dict[Tensor, Tensor] = {}
        self.zero_grad()
        for part in zip(*(torch.split(t, cast(int, self.m)) for t in batch), strict=True):
            share = len(part[0]) / total
            losses.append(self._passes.clean_pass(closure, part).detach() * share)
            moved = self._ascend(True, len(part[0]), zero_grad=True)
            finite = finite and self._passes.finite
            # Other processes wait in the second backward, whatever happened in this one.
            if moved or self._process_group is not None:
                self._passes.perturbed_pass(closure, part)
                self._bill(len(part[0]))
            # The gradients of a clean pass that failed make the sum fail, for a GradScaler to see.
            pairs = self._passes.set_aside or [(p, p.grad) for p in self.parameters() if p.grad is not None]
            self._passes.restore()
            for p, grad in pairs:
                weighted = grad if share == 1.0 else grad * share
                sums[p] = sums[p].add_(weighted) if p in sums else weighted
                p.grad = None
        for p, grad in sums.items():
            p.grad = grad
        self._passes.finite = finite
        self._update(scaler)
        return torch.stack(losses).sum()

    def _step_without_closure(self, scaler: GradScaler | None, examples: int | None) -> bool:
        """Take the coming step with the gradients present if it needs no second pass; return whether it does not.

        Needless is a second pass if nothing is perturbed: by `rho`, `interval`, `start_step`, or by gradients that are
        all zero, which name no direction.
        """
        zero = bool(self.gradients()) and not any_entry(self.parameters())
        if self.will_perturb and not zero:
            return False
        if zero and not any(group.get("lr") for group in self.param_groups):
            # So torch.distributed.checkpoint lets an optimizer take memory for its state: no step of a training.
            self.take_base_step()
            return True
        self._bill(examples)
        self._passes.finite = True
        self._update(scaler)
        return True

    def _ascend(self, perturb: bool, examples: int | None, *, zero_grad: bool) -> bool:
        refuse_local_ascent(self.model)
        examples = None if examples is None else whole(examples)
        targets = self._targets() if perturb else ()
        moved = self._passes.ascend(targets, self.parameters(), zero_grad=zero_grad)
        self._examples = examples
        self._bill(examples)
        return moved

    def _settle(self, scaler: GradScaler | None, examples: int | None) -> bool:
        """Leave the perturbed weights, and update with the gradients present, or with those set aside."""
        aside = self._passes.set_aside
        self._passes.restore()
        second_pass = not aside or any(p.grad is not None for p in self.parameters())
        if second_pass:
            self._bill(examples)
        if not (second_pass and self._passes.finite):
            # A first pass that failed has failed the step, and a GradScaler must see why.
            for p, grad in aside:
                p.grad = grad
        return self._update(scaler)

    def _targets(self) -> list[Target]:
        factor = self._rho_factor()
        targets = []
        for group in self.base_optimizer.param_groups:
            rho = check_rho(_radius(group) * factor)
            if rho:
                # Where the base optimizer goes uphill, the worse points lie downhill.
                uphill = -rho if group.get("maximize") else rho
                targets.append(Target(group["params"], self._names_of(group), uphill))
        return targets

    def _names_of(self, group: Group) -> list[str] | None:
        if not self._passes.perturbation.rule.needs_names:
            return None
        if "param_names" in group:
            return cast("list[str]", group["param_names"])
        return None if self.model is None else names_of(group["params"], self.model)

    def _rho_factor(self) -> float:
        return 1.0 if self.rho_schedule is None else self.rho_schedule(self._attempts)

    def _update(self, scaler: GradScaler | None) -> bool:
        """Let the base optimizer step with the gradients present; then count what happened."""
        self._passes.phase = Phase.READY
        self._updated = False
        try:
            if scaler is None:
                self._descend()
            else:
                # Calls step() without a closure, unless it finds an overflow.
                scaler.step(self)
            self._attempts += 1
            self.cost.steps += self._updated
            self.cost.skipped += not self._updated
            self.cost.gradient_passes += len(self._unbilled)
            self.cost.bill_gradients(sum(examples or 0 for examples in self._unbilled))
        finally:
            self._passes.phase = Phase.CLEAN
            self._unbilled.clear()
        # What a learning-rate scheduler looks for, to warn if it steps before the optimizer.
        self._opt_called = True
        return self._updated

    def _descend(self) -> None:
        parameters = self.parameters()
        gradients = [p.grad for p in parameters if p.grad is not None]
        if len(gradients) < len(parameters):
            refuse_replaced(self.model, parameters)
        if not gradients:
            raise RuntimeError(
                "There is no gradient to step with: neither pass left one. Call backward() on the loss in the "
                "closure, or before first_step() and before second_step(); and build the optimizer after the model's "
                "parameters have been replaced."
            )
        if not agreed(self._passes.finite and self._all_finite(gradients), self.model):
            return
        if self.clip_norm is not None:
            norm = global_norm(gradients)
            if norm > self.clip_norm:
                torch._foreach_mul_(gradients, self.clip_norm / norm)
        self.take_base_step()
        self._updated = True

    def _find_accelerators(self) -> set[torch.device]:
        """Return the devices whose generators count beside the CPU's; parameters may have been moved."""
        self._accelerators.update(p.device for p in self.parameters() if not p.is_cpu)
        return self._accelerators

    @property
    def _process_group(self) -> dist.ProcessGroup | None:
        return self.model.process_group if isinstance(self.model, DistributedDataParallel) else None

    def _bill(self, examples: int | None) -> None:
        self._unbilled.append(None if examples is None else whole(examples))

    def _require_clean(self, call: str) -> None:
        super()._require_clean(call)
        if self._passes.phase is not Phase.CLEAN:
            raise RuntimeError(
                f"{call}() {self._passes.phase.value}: the weights are perturbed. Finish the step with second_step(), "
                "or take it back with restore()."
            )


def _radius(group: Group) -> float:
    try:
        return cast("float", group["rho"])
    except KeyError:
        raise RuntimeError(
            "A parameter group has no rho: it was added to the base optimizer, or loaded into it, behind the WASAM's "
            "back. Call add_param_group() and load_state_dict() of the WASAM itself."
        ) from None
