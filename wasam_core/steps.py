"""What happens inside a sharpness-aware step: the ascent, the update, the count; and when a step is one."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from wasam_core.groups import Group
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
    _attempts: int
    _examples: int | None
    _names: dict[int, str]
    _passes: TwoPass
    _process_group: dist.ProcessGroup | None
    _all_finite: FiniteCheck

    @property
    def will_perturb(self) -> bool:
        """Whether the coming step perturbs the weights and so needs a second pass."""
        late = self._attempts - self.start_step
        due = late >= 0 and late % self.interval == 0 and self._rho_factor() != 0.0
        return due and any(group["rho"] for group in self.base_optimizer.param_groups)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        if self._passes.phase is Phase.CLEAN:
            self._passes.forget()
        if set_to_none:
            for p in self.parameters():
                p.grad = None
        else:
            self.base_optimizer.zero_grad(set_to_none=False)

    def _step_whole(
        self, closure: Closure, batch: Sequence[Tensor], scaler: GradScaler | None, examples: int | None
    ) -> Tensor | None:
        # zero_grad(set_to_none=False) leaves zeros behind, which are no gradient either.
        given = any(p.grad is not None and p.grad.any() for p in self.parameters())
        loss = None if given else self._passes.clean_pass(closure, batch)
        if not self.will_perturb:
            self._bill(examples)
            self._attempts += 1
            self._passes.finite = True
            self._update(scaler)
            return loss
        moved = self._ascend(True, examples, zero_grad=True)
        # Other processes wait in the second backward, whatever happened in this one.
        if moved or self._process_group is not None:
            self._passes.perturbed_pass(closure, batch)
        self._settle(scaler, examples)
        return loss

    def _step_in_parts(self, closure: Closure, batch: Sequence[Tensor], scaler: GradScaler | None) -> Tensor:
        """Average the perturbed gradients of micro-batches of m examples, and update once."""
        if not batch:
            raise ValueError(f"m = {self.m} splits the batch: call step(closure, batch=(x, y)).")
        attempt, total, finite = self._attempts, len(batch[0]), True
        losses: list[Tensor] = []
        sums: dict[Tensor, Tensor] = {}
        self.zero_grad()
        for part in zip(*(torch.split(t, cast(int, self.m)) for t in batch), strict=True):
            share = len(part[0]) / total
            losses.append(self._passes.clean_pass(closure, part).detach() * share)
            self._attempts = attempt
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

    def _ascend(self, perturb: bool, examples: int | None, *, zero_grad: bool) -> bool:
        targets = self._targets() if perturb else ()
        moved = self._passes.ascend(targets, self.parameters(), zero_grad=zero_grad)
        self._attempts += 1
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
        groups = self.base_optimizer.param_groups
        return [Target(g["params"], self._names_of(g), check_rho(g["rho"] * factor)) for g in groups]

    def _names_of(self, group: Group) -> list[str] | None:
        if self._passes.perturbation.variant != "asam":
            return None
        if "param_names" in group:
            return cast("list[str]", group["param_names"])
        return [self._names.get(id(p), "") for p in group["params"]] if self._names else None

    def _rho_factor(self) -> float:
        return 1.0 if self.rho_schedule is None else self.rho_schedule(self._attempts)

    def _update(self, scaler: GradScaler | None) -> bool:
        """Let the base optimizer step with the gradients present; count what happened."""
        self._passes.phase = Phase.READY
        done = self.cost.steps
        try:
            if scaler is None:
                self._descend()
            else:
                # Calls step() without a closure, unless it finds an overflow.
                scaler.step(self)
        finally:
            self._passes.phase = Phase.CLEAN
        updated = self.cost.steps > done
        self.cost.skipped += not updated
        # What a learning-rate scheduler looks for, to warn if it steps before the optimizer.
        self._opt_called = True
        return updated

    def _descend(self) -> None:
        gradients = self.gradients()
        if not gradients:
            raise RuntimeError(
                "There is no gradient to step with: neither pass left one. Call backward() on the loss in the "
                "closure, or before first_step() and before second_step()."
            )
        if not self._agreed(self._passes.finite and self._all_finite(gradients)):
            return
        if self.clip_norm is not None:
            norm = global_norm(gradients)
            if norm > self.clip_norm:
                torch._foreach_mul_(gradients, self.clip_norm / norm)
        self.take_base_step()
        self.cost.steps += 1

    def _agreed(self, finite: bool) -> bool:
        """Skip in all processes if one of them must, so that their weights stay the same."""
        if self._process_group is None:
            return finite
        flag = torch.tensor(float(finite), device=self.parameters()[0].device)
        dist.all_reduce(flag, dist.ReduceOp.MIN, group=self._process_group)
        return bool(flag)

    def _bill(self, examples: int | None) -> None:
        self.cost.gradient_passes += 1
        if examples is not None:
            self.cost.bill_gradients(examples)

    def _require_clean(self, call: str) -> None:
        super()._require_clean(call)
        if self._passes.phase is not Phase.CLEAN:
            raise RuntimeError(
                f"{call}() {self._passes.phase.value}: the weights are perturbed. Finish the step with second_step(), "
                "or take it back with restore()."
            )
