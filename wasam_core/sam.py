"""WASAM: sharpness-aware steps round any torch optimizer, and an average of the weights.

A step takes the gradient twice: at the weights (the *clean* pass), and at the weights moved uphill by rho (the
*perturbed* pass). The second gradient drives the base optimizer.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from wasam_core.agreement import agreed, check_static_graph, refuse_local_ascent
from wasam_core.bare_torch import grad_off
from wasam_core.buffers import BufferGuard
from wasam_core.cost import Cost
from wasam_core.groups import BaseOptimizer, Params, check_group, names_of, refuse_replaced
from wasam_core.memory import snapshot
from wasam_core.moved import refuse_away
from wasam_core.norms import FiniteCheck, any_entry, global_norm, is_finite
from wasam_core.options import check_rho, whole
from wasam_core.own_state import Parts, averaged_values, check_fit, pack, shapes_of, unpack
from wasam_core.perturbation import Perturbation, Target, Variant
from wasam_core.rng import ForwardReplay, RngState, capture_rng, restore_rng
from wasam_core.running_means import RunningMeans
from wasam_core.verdicts import Rollback, Verdict, both, is_far
from wasam_core.wrapped import WrappedOptimizer

Closure = Callable[..., Tensor]
_is_on_cpu = attrgetter("is_cpu")

# Trainers whose closures hold one micro-batch: with gradients present, those are of the micro-batches before it.
TRAINERS = {"lightning", "pytorch_lightning"}


class Phase(Enum):
    """Where a step stands."""

    CLEAN = "before a step"
    ASCENDED = "between first_step() and second_step()"
    READY = "before the final update"


class WASAM(WrappedOptimizer):
    """Minimize the loss at the worst point within rho of the weights, and average the weights.

    With g = gradient of the loss L at the weights w, one step is
        e = rho * T² g / ||T g||,    w <- base_optimizer(w, gradient of L at w + e),
    where T = 1 for SAM and the size of each weight for ASAM (see `variant`). Steps with rho = 0, and those that
    `interval` or `start_step` leave unperturbed, are the base optimizer's, bit for bit, and cost one gradient.

    The learning rate and all other options live in `param_groups`, which are the base optimizer's own: a scheduler
    may be built on either. Memory beyond the base optimizer's: one copy of the perturbed parameters.

    Args:
        params: parameters, (name, parameter) pairs, or groups of either. A group may have its own `rho`; 0 leaves its
            parameters where they are, and out of the norm.
        base_optimizer: a torch optimizer over the same parameters, or a class (or callable), which is called with the
            groups and `base_kwargs`.
        rho: radius of the perturbation, ≥ 0.
        adaptive: True is short for variant="asam-common", the meaning it has in public code.
        variant: "sam"; "asam", the authors' adaptive rule, T = |w| + eta on parameters named "weight", which needs
            names (named parameters, or `model`); "asam-common", the rule of the common port, T = |w| on every
            parameter. rho is not comparable between them.
        eta: the offset in "asam", ≥ 0; None is 0.01.
        model: the module that is called in the loop, compiled or wrapped as it is. With it, its buffers keep the values
            of the clean pass, dropout masks agree in both passes, and swaps cover buffers. Without it, the running
            statistics of normalization layers are still protected, and random numbers agree in `step(closure)` if it
            runs both passes.
        m: take the ascent on micro-batches of m examples and average the gradients ("m-sharpness");
            `step(closure, batch=...)` then. None: on the whole batch.
        interval: perturb every so many steps (≥ 1), beginning with the first.
        start_step: perturb from this step on (≥ 0, counting from 0).
        rho_schedule: called with the step number from 0; its value multiplies every group's rho. It is not part of the
            state dict.
        clip_norm: clip the norm of the final gradient (> 0). Whatever else it needs, `register_step_pre_hook` does.
        gradient_accumulation_steps: k, for trainers that call backward k - 1 times before `step(closure)`, whose
            closure adds the gradient of the k-th micro-batch (Lightning's accumulate_grad_batches). The ascent goes
            along the sum G of all k; the last one, g_k, is the only one that can be taken again, and stands for all:
            the base optimizer gets G + k * (g_k(w + e) - g_k(w)), of the same mean as with all of them taken again,
            but noisier; a window of fewer micro-batches is taken like one of k. 1: gradients present at `step(closure)`
            are those of the whole clean pass. In a loop of one's own, leave this at 1, and accumulate before
            `first_step` and again before `second_step`.
        local_ascent: with a DistributedDataParallel model, `step(closure)` takes each process's own clean gradient
            (`no_sync`), as in the paper. False: the average of all.
        **base_kwargs: options for a `base_optimizer` given as a class.

    Raises:
        ValueError: for options out of range or in contradiction, an optimizer over other parameters, one whose step
            needs a closure of its own, differentiable=True, or parameters that are split over processes (FSDP).
        TypeError: for something that is not an optimizer, or not parameters.

    Source: Foret et al. 2021 (arXiv 2010.01412), Algorithm 1 and section 4.1 (m); Kwon et al. 2021
        (arXiv 2102.11600), eq. 10; Kaddour et al. 2022 (arXiv 2202.00661).

    Differs from: the public WASAM and SAM codes: weights return bit for bit; the base optimizer's state is part of
        `state_dict`; a non-finite gradient skips the step; BatchNorm sees the clean pass only; both passes see the same
        random numbers; rho = 0 is the base optimizer; groups with rho = 0 do not enter the norm.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, model=model)
        >>> x = torch.ones(4, 2)
        >>> def closure():
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> before = model(x).square().mean()
        >>> torch.equal(optimizer.step(closure), before)
        True
        >>> optimizer.cost.steps, optimizer.cost.gradient_passes
        (1, 2)
    """

    def __init__(
        self,
        params: Params,
        base_optimizer: BaseOptimizer,
        rho: float = 0.05,
        adaptive: bool = False,
        *,
        variant: Variant | None = None,
        eta: float | None = None,
        model: nn.Module | None = None,
        m: int | None = None,
        interval: int = 1,
        start_step: int = 0,
        rho_schedule: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        local_ascent: bool = False,
        gradient_accumulation_steps: int = 1,
        **base_kwargs: Any,
    ) -> None:
        if adaptive and variant not in (None, "asam-common"):
            raise ValueError(f'adaptive=True means variant="asam-common"; it contradicts variant="{variant}".')
        self.interval = whole("interval", interval, least=1)
        self.start_step = whole("start_step", start_step, least=0)
        self.m = None if m is None else whole("m", m, least=1)
        self.rho_schedule = rho_schedule
        if not (clip_norm is None or clip_norm > 0):
            raise ValueError(f"clip_norm = {clip_norm}: must be above 0.")
        self.clip_norm = clip_norm
        self.gradient_accumulation_steps = whole("gradient_accumulation_steps", gradient_accumulation_steps, least=1)
        if gradient_accumulation_steps > 1 and (m is not None or local_ascent):
            raise ValueError(
                "gradient_accumulation_steps > 1 takes one micro-batch again and synchronizes all of them: it "
                "contradicts m and local_ascent."
            )
        check_static_graph(model, local_ascent)
        self._perturbation = Perturbation(variant or ("asam-common" if adaptive else "sam"), eta)
        super().__init__(params, base_optimizer, {"rho": check_rho(rho)}, base_kwargs, model)
        self.found_inf: Tensor
        self.grad_scale: Tensor | None
        self.updated: Verdict = False
        self._ddp = model if isinstance(model, DistributedDataParallel) else None
        self._local_ascent = local_ascent
        self._attempts = 0
        self._compared = False
        self._zeroed: list[tuple[Tensor, int]] = []
        self._all_finite = FiniteCheck()
        self._rollback = Rollback()
        # Of the step that is being taken.
        self._phase = Phase.CLEAN
        self._norm: float | Tensor = 0.0  # of the gradient of the clean pass
        self._finite: Verdict = True  # whether it is
        self._set_aside: list[tuple[Tensor, Tensor]] = []  # the clean gradients, if the weights did not move
        self._unbilled: list[int] = []  # the examples of each pass, 0 where nobody has told
        # What returns after the perturbed pass: buffers, and the generators of random numbers.
        self._buffers = BufferGuard(model)
        self._accelerators: set[torch.device] = set()
        self._before: RngState | None = None
        self._after: RngState | None = None
        self._replay = None if model is None else ForwardReplay(model, self._accelerators)

    @property
    def will_perturb(self) -> bool:
        """Whether the coming step perturbs the weights and so needs a second pass."""
        return bool(self._targets())

    def first_step(self, zero_grad: bool = False, *, examples: int | None = None) -> bool:
        """Move the weights uphill along the gradients of the clean pass.

        Args:
            zero_grad: clear those gradients, so that the second pass does not add to them.
            examples: how many the clean pass held, for `cost`.

        Returns:
            Whether the weights moved, so that a second pass is needed. If not (rho = 0, a step that `interval` or
            `start_step` leave out, a gradient that is not finite), the second pass may be left out: `second_step` then
            uses the gradients of the first. On an accelerator the host does not look whether the gradient is finite,
            and a second pass is needed in any case.

        Raises:
            RuntimeError: between the two steps, or while the weights are perturbed or swapped, by whomever.
        """
        self._require_clean("first_step")
        params = self._note_devices()
        refuse_away("first_step", params)
        try:
            return self._ascend(params, self._targets(), _told(examples), zero_grad=zero_grad)
        except BaseException:
            self.restore()
            raise

    def second_step(
        self, zero_grad: bool = False, *, scaler: GradScaler | None = None, examples: int | None = None
    ) -> Verdict:
        """Put the weights back and let the base optimizer use the gradients now present.

        Args:
            zero_grad: clear the gradients afterwards.
            scaler: the GradScaler that scaled both losses. It unscales the gradients, unless
                `scaler.unscale_(optimizer)` has been called; call `scaler.update()` afterwards.
            examples: how many the second pass held, for `cost`; None: as many as the first.

        Returns:
            `updated`: whether the weights were updated; False if a gradient of either pass was not finite.

        Raises:
            RuntimeError: without a `first_step` before, or if there is no gradient at all.
        """
        if self._phase is not Phase.ASCENDED:
            raise RuntimeError(
                "second_step() without first_step(): run backward at the weights, first_step(), backward again, "
                "second_step()."
            )
        self._descend(scaler, self._unbilled[-1] if examples is None else _told(examples))
        if zero_grad:
            self.zero_grad()
        return self.updated

    def step(  # type: ignore[override]
        self,
        closure: Closure | None = None,
        *,
        scaler: GradScaler | None = None,
        batch: Sequence[Tensor] = (),
        examples: int | None = None,
    ) -> Tensor | None:
        """Take one whole step, and clear the gradients if there is a closure.

        Args:
            closure: computes the loss, calls backward and returns the loss. Without gradients present it runs twice, as
                torch's optimizers expect. With gradients of the clean pass present it runs once, at the perturbed
                weights; where nothing is perturbed only the first time, to see that they are of its batch. None where
                nothing is perturbed (see `will_perturb`), for one base step with the gradients present.
            scaler: the GradScaler with which the closure scales the loss before backward; it returns the loss unscaled.
            batch: tensors with the examples along dimension 0; the closure is called with them, or with slices of `m`.
            examples: how many examples one pass holds, for `cost`; None: the length of `batch`.

        Returns:
            The clean loss; None if the closure ran at the perturbed weights only.

        Raises:
            RuntimeError: without a closure where a second pass is needed, between `first_step` and `second_step`, while
                the weights are swapped, if no pass left a gradient, or if gradients are present that are not those of
                the clean pass, as far as that can be seen: those of a Lightning trainer that accumulates, and, if
                `model` is given, those of another batch. Of a closure of your own without `model` it can't be seen.
            ValueError: if `m` is set and `batch` is missing.
            A step that fails counts as none: weights, optimizer state and counters are as before;
            gradients are cleared.
        """
        if closure is None:
            self._step_without_closure(scaler, examples)
            return None
        if self._phase is not Phase.CLEAN or self._swap is not None:
            self._require_clean("step")
        if examples is None and batch:
            examples = len(batch[0])
        params = self._note_devices()
        refuse_away("step", params)
        try:
            targets = self._targets()
            if self.m is not None and targets:
                return self._step_in_parts(params, targets, closure, batch, scaler)
            return self._step_whole(params, targets, closure, batch, scaler, 0 if examples is None else _told(examples))
        except BaseException:
            self.restore()
            raise
        finally:
            # Also after an exception: half a step must not count as gradients of the next.
            for p in params:
                p.grad = None

    def restore(self) -> None:
        """Take `first_step` back without an update; nothing happens if there was none.

        Weights and buffers are what they were at the end of the clean pass, bit for bit, and the step does not count.
        Call it if the second pass fails and the loop goes on.
        """
        self._return()
        self._forget()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        if self._phase is Phase.CLEAN and self._before is None and self._replay is not None:
            self._replay.reset()
        if set_to_none:
            for p in self.parameters():
                p.grad = None
        else:
            self.base_optimizer.zero_grad(set_to_none=False)
            self._zeroed = [(p.grad, p.grad._version) for p in self.parameters() if p.grad is not None]

    def _step_whole(
        self,
        params: list[Tensor],
        targets: Sequence[Target],
        closure: Closure,
        batch: Sequence[Tensor],
        scaler: GradScaler | None,
        examples: int,
    ) -> Tensor | None:
        given = any_entry(params, self._zeroed)
        count = self.gradient_accumulation_steps
        earlier: list[tuple[Tensor, Tensor]] = []
        if given and count > 1:
            given = False
            self._unbilled += [examples] * (count - 1)
            if targets:
                # The closure adds to these where they lie.
                earlier = _gradients(params, copied=True)
        elif given:
            _refuse_trainer(closure)
        loss = None if given else self._clean_pass(closure, batch)
        if not targets:
            if given and self.model is not None and not self._compared:
                self._compare(params, closure, batch, examples)
            self._update_unperturbed(scaler, examples)
            return loss
        # DistributedDataParallel may write the next pass's gradients where these lie.
        clean = _gradients(params, copied=True) if earlier else []
        moved = self._ascend(params, targets, examples, zero_grad=True)
        # Other processes wait in the second backward, whatever happened in this one.
        if moved or self._ddp is not None:
            for p, grad in earlier:
                p.grad = grad
            self._perturbed_pass(closure, batch)
        if given:
            self._refuse_another_batch()
            if isinstance(self._norm, Tensor):
                # Had they been zero, the closure should have run twice, and nobody has looked.
                self._finite = both(self._finite, self._norm > 0)
        if moved:
            for p, whole_sum in clean:
                if p.grad is not None:
                    p.grad = whole_sum.add(p.grad - whole_sum, alpha=count)
        self._descend(scaler, examples)
        return loss

    def _step_in_parts(
        self,
        params: list[Tensor],
        targets: Sequence[Target],
        closure: Closure,
        batch: Sequence[Tensor],
        scaler: GradScaler | None,
    ) -> Tensor:
        """Average the perturbed gradients of micro-batches of m examples, and update once."""
        if not batch:
            raise ValueError(f"m = {self.m} splits the batch: call step(closure, batch=(x, y)).")
        if any_entry(params, self._zeroed):
            raise RuntimeError(
                f"step(closure, batch=...) with m = {self.m} takes both passes itself, and gradients are present that "
                "would be lost: clear them before; to accumulate, give the whole batch."
            )
        total, finite = len(batch[0]), cast(Verdict, True)
        losses: list[Tensor] = []
        sums: dict[Tensor, Tensor] = {}
        self.zero_grad()
        for part in zip(*(torch.split(t, cast(int, self.m)) for t in batch), strict=True):
            share = len(part[0]) / total
            losses.append(self._clean_pass(closure, part).detach() * share)
            moved = self._ascend(params, targets, len(part[0]), zero_grad=True)
            finite = both(finite, self._finite)
            if moved or self._ddp is not None:
                self._perturbed_pass(closure, part)
                self._unbilled.append(len(part[0]))
            # The gradients of a clean pass that failed make the sum fail, for a GradScaler to see.
            pairs = self._set_aside or _gradients(params)
            self._return()
            for p, grad in pairs:
                weighted = grad if share == 1.0 else grad * share
                sums[p] = sums[p].add_(weighted) if p in sums else weighted
                p.grad = None
        for p, grad in sums.items():
            p.grad = grad
        self._finite = finite
        self._update(scaler)
        return torch.stack(losses).sum()

    def _step_without_closure(self, scaler: GradScaler | None, examples: int | None) -> None:
        """Do what `step()` of other optimizers does, if no second pass is needed.

        Needless is a second pass if nothing is perturbed: by `rho`, `interval`, `start_step`, or by gradients that are
        all zero, which name no direction.
        """
        if self._phase is Phase.READY:
            self._let_base_step()
            return
        if self._phase is Phase.ASCENDED:
            self.second_step(scaler=scaler, examples=examples)
            return
        self._require_clean("step")
        params = self._note_devices()
        perturb = self.will_perturb
        # torch.distributed.checkpoint lets an optimizer take memory for its state so: no step of a training.
        taking_memory = not self.state and all(_is_zero(group.get("lr", 0.0)) for group in self.param_groups)
        grads = [p.grad for p in params if p.grad is not None]
        zero = (perturb or taking_memory) and bool(grads) and not any_entry(params, look=taking_memory)
        if zero and taking_memory:
            self.take_base_step()
        elif perturb and not zero:
            raise RuntimeError(
                "step() needs a closure that computes the loss, calls backward and returns the loss, because a "
                "sharpness-aware step takes the gradient twice. Without a closure: first_step(), backward again, "
                "second_step(). Trainers that call step() alone can't take it."
            )
        else:
            self._update_unperturbed(scaler, _told(examples))

    def _clean_pass(self, closure: Closure, batch: Sequence[Tensor]) -> Tensor:
        """Run the closure at the weights, and remember the random numbers it gets."""
        if self._replay is not None:
            # The generator is set before the whole perturbed pass, not before each forward.
            self._replay.pause()
        self._before = capture_rng(self._accelerators)
        if self._ddp is None or not self._local_ascent:
            return _with_grad(closure, batch)
        with self._ddp.no_sync():
            return _with_grad(closure, batch)

    def _perturbed_pass(self, closure: Closure, batch: Sequence[Tensor]) -> None:
        """Run the closure again, with the random numbers of the clean pass."""
        if self._before is not None:
            restore_rng(self._before)
        _with_grad(closure, batch)

    def _ascend(self, params: list[Tensor], targets: Sequence[Target], examples: int, *, zero_grad: bool) -> bool:
        """Move the weights along the gradients present, and return whether they moved; if not, set those aside."""
        if self._ddp is not None:
            refuse_local_ascent(self._ddp)
        with grad_off():
            self._norm, self._finite = self._perturbation.apply(targets)
        self._phase = Phase.ASCENDED
        moved = self._perturbation.active
        if not moved:
            # Where DistributedDataParallel keeps gradients in its buckets, the next pass writes over them.
            in_buckets = self._ddp is not None and self._ddp.gradient_as_bucket_view
            self._set_aside = _gradients(params, copied=in_buckets)
        self._buffers.hold()
        if zero_grad:
            for p in params:
                p.grad = None
        if self._before is None and self._replay is not None:
            self._after = capture_rng(self._accelerators)
            self._replay.start()
        self._unbilled.append(examples)
        return moved

    def _return(self) -> None:
        """Put weights, buffers and generators back to what they were at the end of the clean pass."""
        if self._phase is not Phase.CLEAN:
            with grad_off():
                self._perturbation.undo()
            self._buffers.release()
            if self._after is not None:
                restore_rng(self._after)
                self._after = None
            self._set_aside = []
            self._phase = Phase.CLEAN

    def _forget(self) -> None:
        """Forget what was counted and recorded for this step: the next one begins."""
        self._phase = Phase.CLEAN
        self._unbilled.clear()
        self._before = None
        if self._replay is not None:
            self._replay.reset()

    def _descend(self, scaler: GradScaler | None, examples: int) -> None:
        """Leave the perturbed weights, and update with the gradients present, or with those set aside."""
        aside = self._set_aside
        self._return()
        second_pass = not aside or any(p.grad is not None for p in self.parameters())
        if second_pass:
            self._unbilled.append(examples)
        if not (second_pass and self._finite is not False):
            # A first pass that failed has failed the step, and a GradScaler must see why.
            for p, grad in aside:
                p.grad = grad
        self._update(scaler)

    def _update_unperturbed(self, scaler: GradScaler | None, examples: int) -> None:
        self._unbilled.append(examples)
        self._finite = True
        self._update(scaler)

    def _update(self, scaler: GradScaler | None) -> None:
        """Let the base optimizer step with the gradients present; then count what happened."""
        self._phase = Phase.READY
        self.updated = False
        try:
            if scaler is None:
                self._let_base_step()
            else:
                if isinstance(self._finite, Tensor):  # a first pass that failed is to be seen here as well
                    torch._foreach_mul_(self.gradients(), torch.where(self._finite, 1.0, torch.nan))
                # Calls step() without a closure; where the host looks, unless it finds an overflow.
                scaler.step(self)
            self._attempts += 1
            self.cost.bill_step(self.updated)
            self.cost.gradient_passes += len(self._unbilled)
            self.cost.gradient_evaluations += sum(self._unbilled)
        finally:
            self._forget()
        # What a learning-rate scheduler looks for, to warn if it steps before the optimizer.
        self._opt_called = True

    def _let_base_step(self) -> None:
        """Let the base optimizer step, unless a gradient of either pass is not finite; clip first."""
        params = self.parameters()
        gradients = [p.grad for p in params if p.grad is not None]
        if len(gradients) < len(params):
            refuse_replaced(self.model, params)
        if not gradients:
            raise RuntimeError(
                "There is no gradient to step with: neither pass left one. Call backward() on the loss in the "
                "closure, or before first_step() and before second_step(); and build the optimizer after the model's "
                "parameters have been replaced."
            )
        finite = self._finite
        if "found_inf" in self.__dict__:  # set by a GradScaler, which leaves both to optimizers on accelerators
            finite = both(finite, self.found_inf == 0)
            if self.grad_scale is not None:
                torch._foreach_mul_(gradients, 1.0 / self.grad_scale)
        norm = None if self.clip_norm is None and not is_far(gradients) else global_norm(gradients)
        if finite is not False:
            checked = self._all_finite(gradients) if norm is None else is_finite(norm)
            finite = checked if finite is True else both(finite, checked)
        if self._ddp is not None:
            finite = agreed(finite, self._ddp)
        if finite is False:
            return
        if norm is not None and self.clip_norm is not None:
            if isinstance(norm, Tensor):
                torch._foreach_mul_(gradients, (self.clip_norm / norm).clamp(max=1.0))
            elif norm > self.clip_norm:
                torch._foreach_mul_(gradients, self.clip_norm / norm)
        if finite is True:
            self.take_base_step()
            self.updated = True
        else:
            self.updated = self._rollback.take(self.base_optimizer, self.take_base_step, finite)

    def _compare(self, params: list[Tensor], closure: Closure, batch: Sequence[Tensor], examples: int) -> None:
        """Run the closure once, without effect, where no step would: are the gradients present those of its batch?"""
        present = [(p, None if p.grad is None else p.grad.clone()) for p in params]
        self._ascend(params, (), examples, zero_grad=True)
        self._perturbed_pass(closure, batch)
        self._refuse_another_batch()
        self._return()
        for p, grad in present:
            p.grad = grad
        self._compared = True

    def _refuse_another_batch(self) -> None:
        if self._replay is not None and not self._replay.same_inputs:
            raise RuntimeError(
                "step(closure) found gradients of another batch than its closure's: gradients that are present are "
                "taken for the whole first pass. Clear them before, or say gradient_accumulation_steps=k if they are "
                "those of earlier micro-batches."
            )

    def _targets(self) -> list[Target]:
        """Return what the coming step moves uphill, and how far; nothing where it is not due."""
        late = self._attempts - self.start_step
        if late < 0 or late % self.interval:
            return []
        factor = 1.0 if self.rho_schedule is None else self.rho_schedule(self._attempts)
        targets = []
        for group in self.base_optimizer.param_groups:
            if "rho" not in group:
                raise RuntimeError(
                    "A parameter group has no rho: it was added to the base optimizer, or loaded into it, behind the "
                    "WASAM's back. Call add_param_group() and load_state_dict() of the WASAM itself."
                )
            rho = check_rho(group["rho"] * factor)
            if rho:
                # Where the base optimizer goes uphill, the worse points lie downhill.
                uphill = -rho if group.get("maximize") else rho
                names = group.get("param_names") if self._perturbation.needs_names else ()
                if names is None and self.model is not None:
                    names = names_of(group["params"], self.model)
                targets.append(Target(group["params"], names, uphill))
        return targets

    def _note_devices(self) -> list[Tensor]:
        """Return the parameters, and note on which accelerators they are now: their generators count."""
        params = self.parameters()
        if not all(map(_is_on_cpu, params)):
            self._accelerators.update(p.device for p in params if not p.is_cpu)
        return params

    def _require_clean(self, call: str) -> None:
        super()._require_clean(call)
        if self._phase is not Phase.CLEAN:
            raise RuntimeError(
                f"{call}() {self._phase.value}: the weights are perturbed. Finish the step with second_step(), "
                "or take it back with restore()."
            )

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether a GradScaler shall leave it to this optimizer to skip a step: it then does not wait, either."""
        return is_far(self.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies are made of; the hook on the model stays out, because a copy has a model of its own.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
        """
        self._require_clean("copy")
        return {key: value for key, value in super().__getstate__().items() if key != "_replay"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the hook on the copy's model."""
        super().__setstate__(state)
        self._replay = None if self.model is None else ForwardReplay(self.model, self._accelerators)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a run needs to go on with identical bits: a copy, which later steps leave alone.

        It is the base optimizer's state dict, with the average in the `state` of each parameter ("wasam_average"), and
        the counters and the generators of random numbers in each of `param_groups` ("wasam"), because these two keys
        are what other tools keep, torch.distributed.checkpoint among them. `torch.load(weights_only=True)` can read it.
        Hooks of `register_state_dict_pre_hook` and `_post_hook` get this optimizer, and the whole of it.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
        """
        self._require_clean("state_dict")
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        (average,) = self._average.state_dicts()
        counters = {
            "attempts": self._attempts,
            "variant": self._perturbation.variant,
            "cost": self.cost.state_dict(),
            "averaged": average["count"],
            "shapes": shapes_of(self.param_groups),
            "rng": capture_rng(self._accelerators),
        }
        state: dict[str, Any] = snapshot(pack(self.base_optimizer.state_dict(), counters, average["values"]))
        return self._shown(self._optimizer_state_dict_post_hooks, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, the generators of random numbers included.

        A state dict of a base optimizer that was never in a `WASAM` is understood as well; radii, average and counters
        are left as they are then. Hooks of `register_load_state_dict_pre_hook` and `_post_hook` get this optimizer.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
            ValueError: if groups, shapes, names or variants differ, if a part is missing, or from the base optimizer.
                Nothing has changed then.
        """
        self._require_clean("load_state_dict")
        state_dict = self._shown(self._optimizer_load_state_dict_pre_hooks, dict(state_dict))
        # What is loaded in a hook that runs in inference mode is trained with outside of it.
        with torch.inference_mode(mode=False):
            self._take_over(unpack(snapshot(state_dict)))
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _shown(self, hooks: dict[int, Any], state: dict[str, Any]) -> dict[str, Any]:
        """Return what the hooks make of a state dict, one after the other."""
        for hook in hooks.values():
            changed = hook(self, state)
            state = state if changed is None else changed
        return state

    def _take_over(self, parts: Parts) -> None:
        """Take over all of a state, or nothing."""
        check_fit(parts, self.param_groups, self._perturbation.variant)
        counters, average, base = parts.counters, RunningMeans(), self.base_optimizer
        if counters is not None:
            values = averaged_values(parts, self.parameters())
            average.load_state_dicts([{"count": counters["averaged"], "values": values}], self.parameters())
            Cost().load_state_dict(counters["cost"])
        held, rng = (base.state, base.param_groups), capture_rng(self._accelerators)
        try:
            base.load_state_dict(parts.base)
            for group, before in zip(base.param_groups, held[1], strict=True):
                group.setdefault("rho", before["rho"])
                # The saved names may come in another order.
                if "param_names" in before:
                    group["param_names"] = before["param_names"]
                else:
                    group.pop("param_names", None)
                check_group(group)
            if counters is not None:
                restore_rng({name: value for name, value in counters["rng"].items() if name in rng})
        except BaseException:
            base.state, base.param_groups = held
            restore_rng(rng)
            raise
        if counters is not None:
            self._attempts = counters["attempts"]
            self.cost.load_state_dict(counters["cost"])
            self._average = average


def _told(examples: int | None) -> int:
    return 0 if examples is None else whole("examples", examples, least=0)


def _gradients(params: list[Tensor], *, copied: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Return the gradients that are present, each beside its parameter."""
    return [(p, p.grad.clone() if copied else p.grad) for p in params if p.grad is not None]


def _refuse_trainer(closure: Closure) -> None:
    """Refuse a closure of a trainer that accumulates, though nobody has said so."""
    inner: object = closure
    while isinstance(inner, partial):
        inner = inner.args[-1] if inner.args and callable(inner.args[-1]) else inner.func
    trainer = type(inner).__module__.partition(".")[0]
    if trainer in TRAINERS:
        raise RuntimeError(
            f"{trainer} called step(closure) with gradients of earlier micro-batches, and they would be taken for the "
            "whole first pass: say how many make a step, WASAM(..., gradient_accumulation_steps=k) with k = "
            "accumulate_grad_batches, or use manual optimization with first_step() and second_step()."
        )


def _is_zero(rate: float | Tensor) -> bool:
    return not (isinstance(rate, Tensor) and is_far([rate])) and not rate


def _with_grad(closure: Closure, batch: Sequence[Tensor]) -> Tensor:
    if torch.is_grad_enabled():
        return closure(*batch)
    with torch.enable_grad():
        return closure(*batch)
