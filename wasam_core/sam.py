"""WASAM: sharpness-aware steps round any torch optimizer, and an average of the weights.

A step takes the gradient twice: at the weights (the *clean* pass), and at the weights moved uphill
by rho (the *perturbed* pass). The second gradient drives the base optimizer. Between the passes
nothing but the weights differs: the same random numbers, the same BatchNorm statistics.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from wasam_core.averaging import OwnAverage
from wasam_core.base_step import bare_step, take_step
from wasam_core.batchnorm import BufferGuard, ForwardFn, recalibrate_batchnorm
from wasam_core.cost import Cost
from wasam_core.groups import BaseOptimizer, Group, Params, as_groups, build_base, merge_into
from wasam_core.norms import FiniteCheck, global_norm
from wasam_core.perturbation import Perturbation, Target, Variant, check_rho, grad_off
from wasam_core.replay import ForwardReplay
from wasam_core.rng import RngState, capture_rng, restore_rng

Closure = Callable[..., Tensor]


class _Phase(Enum):
    """Where a step stands."""

    CLEAN = "before a step"
    ASCENDED = "between first_step() and second_step()"
    READY = "before the final update"


class WASAM(Optimizer):
    """Minimize the loss at the worst point within rho of the weights, and average the weights.

    With g = gradient of the loss L at the weights w, one step is
        e = rho * g / ||g||,    w <- base_optimizer(w, gradient of L at w + e).
    See the `variant` for ASAM. Steps with rho = 0, and those that `interval` or `start_step` leave
    unperturbed, are the base optimizer's, bit for bit, and cost one gradient.

    The learning rate and all other options live in `param_groups`, which are the base optimizer's
    own: a scheduler may be built on either.

    Args:
        params: parameters, (name, parameter) pairs, or groups of either. A group may have its own
            `rho`; 0 leaves its parameters where they are, and out of the norm.
        base_optimizer: a torch optimizer over the same parameters, or a class (or callable), which
            is called with the groups and `base_kwargs`.
        rho: radius of the perturbation, ≥ 0.
        adaptive: True is short for variant="asam-common", the meaning it has in public code.
        variant: "sam"; "asam", the authors' adaptive rule, T = |w| + eta on parameters named
            "weight", which needs names (named parameters, or `model`); "asam-common", the rule of
            the common port, T = |w| on every parameter. rho is not comparable between them.
        eta: the offset in "asam", ≥ 0; None is 0.01.
        model: the module that is called in the loop, compiled or wrapped as it is. With it, its
            buffers keep the values of the clean pass, dropout masks agree in both passes, and
            swaps cover buffers. Without it, the running statistics of normalization layers are
            still protected, and random numbers agree in `step(closure)` if it runs both passes.
        m: take the ascent on micro-batches of m examples and average the gradients
            ("m-sharpness"); `step(closure, batch=...)` then. None: on the whole batch.
        interval: perturb every so many steps (≥ 1), beginning with the first.
        start_step: perturb from this step on (≥ 0, counting from 0).
        rho_schedule: called with the step number from 0; its value multiplies every group's rho.
            It is not part of the state dict.
        clip_norm: clip the norm of the final gradient (> 0). For anything else that must happen to
            it, use `base_optimizer.register_step_pre_hook`.
        local_ascent: with a DistributedDataParallel model, `step(closure)` takes each process's
            own clean gradient (`no_sync`), as in the paper. False: the average of all.
        **base_kwargs: options for a `base_optimizer` given as a class.

    Raises:
        ValueError: for options out of range, or an optimizer over other parameters.
        TypeError: for something that is not an optimizer, or not parameters.

    Source: Foret et al. 2021 (arXiv 2010.01412), Algorithm 1 and section 4.1 (m); Kwon et al. 2021
        (arXiv 2102.11600), eq. 10; Kaddour et al. 2022 (arXiv 2202.00661).

    Differs from: the public WASAM and SAM codes: weights return bit for bit; the base optimizer's
        state is part of `state_dict`; a non-finite gradient skips the step; BatchNorm sees the
        clean pass only; both passes see the same random numbers; rho = 0 is the base optimizer;
        groups with rho = 0 do not enter the norm.

    Example:
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

    base_optimizer: Optimizer

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
        **base_kwargs: Any,
    ) -> None:
        if adaptive and variant not in (None, "asam-common"):
            raise ValueError(f'adaptive=True means variant="asam-common"; it contradicts variant="{variant}".')
        _check(interval >= 1, f"interval = {interval}: perturb every 1, 2, 3 ... steps.")
        _check(start_step >= 0, f"start_step = {start_step}: steps count from 0.")
        _check(m is None or m >= 1, f"m = {m}: a micro-batch holds at least one example.")
        _check(clip_norm is None or clip_norm > 0, f"clip_norm = {clip_norm}: must be above 0.")
        self._perturbation = Perturbation(variant or ("asam-common" if adaptive else "sam"), eta)
        groups = as_groups(params)
        if isinstance(base_optimizer, Optimizer):
            merge_into(base_optimizer, groups, base_kwargs)
            groups = base_optimizer.param_groups
        self._groups_in_the_making: list[Group] = []
        super().__init__(groups, {"rho": check_rho(rho)})
        base = build_base(base_optimizer, self._groups_in_the_making, base_kwargs)
        self.defaults = {**base.defaults, **self.defaults}
        self.base_optimizer = base
        self._bare_step = bare_step(base)
        for group in self.param_groups:
            check_rho(group["rho"])
        self.model = model
        self.m = m
        self.interval = interval
        self.start_step = start_step
        self.rho_schedule = rho_schedule
        self.clip_norm = clip_norm
        self.local_ascent = local_ascent
        self.cost = Cost()
        self._names = {} if model is None else {id(p): n for n, p in model.named_parameters()}
        self._accelerators = self._find_accelerators()
        self._guard = BufferGuard(model)
        self._replay = None if model is None else ForwardReplay(model, self._accelerators)
        is_ddp = isinstance(model, DistributedDataParallel)
        self._process_group = cast(DistributedDataParallel, model).process_group if is_ddp else None
        self._all_finite = FiniteCheck()
        self._average = OwnAverage()
        self._phase = _Phase.CLEAN
        self._attempts = 0
        self._finite = True
        self._examples: int | None = None
        self._set_aside: list[tuple[Tensor, Tensor]] = []
        self._rng_after: RngState | None = None

    # One set of groups and one state: the base optimizer's.

    @property
    def param_groups(self) -> list[Group]:
        """The parameter groups: the base optimizer's own dicts."""
        try:
            return self.base_optimizer.param_groups
        except AttributeError:
            return self._groups_in_the_making

    @param_groups.setter
    def param_groups(self, groups: list[Group]) -> None:
        base = self.__dict__.get("base_optimizer")
        if base is None:
            self._groups_in_the_making = groups
        else:
            base.param_groups = groups

    @property
    def state(self) -> Any:
        """The state of each parameter: the base optimizer's own."""
        base = self.__dict__.get("base_optimizer")
        return {} if base is None else base.state

    @state.setter
    def state(self, state: Any) -> None:
        base = self.__dict__.get("base_optimizer")
        if base is not None:
            base.state = state

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the base optimizer; without a `rho` of its own it gets the default.

        Raises:
            ValueError: for a negative rho, or from the base optimizer.
        """
        base = self.__dict__.get("base_optimizer")
        if base is None:
            super().add_param_group(param_group)
            return
        param_group.setdefault("rho", self.defaults["rho"])
        check_rho(param_group["rho"])
        base.add_param_group(param_group)
        self._accelerators |= self._find_accelerators()

    def _patch_step_function(self) -> None:
        # The base optimizer's step is profiled and runs the hooks; once is enough.
        pass

    def register_step_pre_hook(self, hook: Any) -> RemovableHandle:
        """Run `hook` just before the base optimizer's step, when the final gradient is present.

        It is called as `hook(base_optimizer, args, kwargs)`: the place to clip or to log.
        """
        return self.base_optimizer.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Any) -> RemovableHandle:
        """Run `hook(base_optimizer, args, kwargs)` just after the base optimizer's step."""
        return self.base_optimizer.register_step_post_hook(hook)

    @property
    def will_perturb(self) -> bool:
        """Whether the coming step perturbs the weights and so needs a second pass."""
        late = self._attempts - self.start_step
        if late < 0 or late % self.interval or self._rho_factor() == 0.0:
            return False
        return any(group["rho"] for group in self.base_optimizer.param_groups)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        if self._phase is _Phase.CLEAN and self._replay is not None:
            self._replay.reset()
        if not set_to_none:
            self.base_optimizer.zero_grad(set_to_none=False)
            return
        for group in self.base_optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    def first_step(self, zero_grad: bool = False, *, examples: int | None = None) -> bool:
        """Move the weights uphill along the gradients of the clean pass.

        Args:
            zero_grad: clear those gradients, so that the second pass does not add to them.
            examples: how many the clean pass held, for `cost`.

        Returns:
            Whether the weights moved, so that a second pass is needed. If not (rho = 0, a step
            that `interval` or `start_step` leave out, a gradient that is not finite), the second
            pass may be left out: `second_step` then uses the gradients of the first.

        Raises:
            RuntimeError: between the two steps, or while the weights are swapped.
        """
        self._require_clean("first_step")
        return self._ascend(self.will_perturb, zero_grad, examples)

    def second_step(
        self,
        zero_grad: bool = False,
        *,
        scaler: GradScaler | None = None,
        examples: int | None = None,
    ) -> bool:
        """Put the weights back and let the base optimizer use the gradients now present.

        Args:
            zero_grad: clear the gradients afterwards.
            scaler: the GradScaler that scaled both losses. It unscales the gradients, unless
                `scaler.unscale_(optimizer)` has been called; call `scaler.update()` afterwards.
            examples: how many the second pass held, for `cost`; None: as many as the first.

        Returns:
            Whether the weights were updated; False if a gradient of either pass was not finite.

        Raises:
            RuntimeError: without a `first_step` before, or if there is no gradient at all.
        """
        if self._phase is not _Phase.ASCENDED:
            raise RuntimeError(
                "second_step() without first_step(): run backward at the weights, first_step(), "
                "backward again, second_step()."
            )
        updated = self._settle(scaler, self._examples if examples is None else examples)
        if zero_grad:
            self.zero_grad()
        return updated

    def restore(self) -> None:
        """Take `first_step` back without an update; nothing happens if there was none.

        Weights and buffers are what they were at the end of the clean pass, bit for bit. Call it
        if the second pass fails and the loop goes on.
        """
        if self._phase is _Phase.CLEAN:
            return
        with grad_off():
            self._perturbation.undo()
        self._guard.release()
        if self._rng_after is not None:
            restore_rng(self._rng_after)
            self._rng_after = None
        if self._replay is not None:
            self._replay.reset()
        self._set_aside = []
        self._phase = _Phase.CLEAN

    def step(  # type: ignore[override]
        self,
        closure: Closure | None = None,
        *,
        scaler: GradScaler | None = None,
        batch: Sequence[Tensor] = (),
        examples: int | None = None,
    ) -> Tensor | None:
        """Take one whole step, and clear the gradients.

        Args:
            closure: computes the loss, calls backward and returns the loss. Without gradients
                present it runs twice, as torch's optimizers expect. With gradients of the clean
                pass present it runs once, at the perturbed weights.
            scaler: the GradScaler with which the closure scales the loss before backward; the
                closure returns the loss unscaled.
            batch: tensors with the examples along dimension 0; the closure is called with them,
                or with slices of `m` examples.
            examples: how many examples one pass holds, for `cost`; None: the length of `batch`.

        Returns:
            The clean loss; None if the closure ran at the perturbed weights only.

        Raises:
            RuntimeError: if there is nothing to do without a closure, between `first_step` and
                `second_step`, while the weights are swapped, or if no pass left a gradient.
            ValueError: if `m` is set and `batch` is missing.
        """
        if closure is None:
            self._finish()
            return None
        self._require_clean("step")
        if examples is None and batch:
            examples = len(batch[0])
        perturb = self.will_perturb
        try:
            if perturb and self.m is not None:
                return self._step_in_parts(closure, batch, scaler)
            return self._step_whole(closure, batch, scaler, examples, perturb)
        finally:
            # Also after an exception: half a step must not count as gradients of the next.
            self.restore()
            self.zero_grad()

    def _step_whole(
        self,
        closure: Closure,
        batch: Sequence[Tensor],
        scaler: GradScaler | None,
        examples: int | None,
        perturb: bool,
    ) -> Tensor | None:
        loss = None
        before = None
        if not self._has_gradient():
            before = capture_rng(self._accelerators)
            loss = self._clean_pass(closure, batch)
        if not perturb:
            self._bill(examples)
            self._attempts += 1
            self._finite = True
            self._update(scaler)
            return loss
        moved = self._ascend(True, True, examples)
        # Other processes wait in the second backward, whatever happened in this one.
        if moved or self._process_group is not None:
            self._perturbed_pass(closure, batch, before)
        self._settle(scaler, examples)
        return loss

    def _step_in_parts(self, closure: Closure, batch: Sequence[Tensor], scaler: GradScaler | None) -> Tensor:
        """Average the perturbed gradients of micro-batches of m examples, and update once."""
        _check(bool(batch), f"m = {self.m} splits the batch: call step(closure, batch=(x, y)).")
        attempt = self._attempts
        total = len(batch[0])
        self.zero_grad()
        losses: list[Tensor] = []
        sums: dict[Tensor, Tensor] = {}
        finite = True
        for part in zip(*(torch.split(t, cast(int, self.m)) for t in batch), strict=True):
            share = len(part[0]) / total
            before = capture_rng(self._accelerators)
            losses.append(self._clean_pass(closure, part).detach() * share)
            self._attempts = attempt
            moved = self._ascend(True, True, len(part[0]))
            finite = finite and self._finite
            # Other processes wait in the second backward, whatever happened in this one.
            if moved or self._process_group is not None:
                self._perturbed_pass(closure, part, before)
                self._bill(len(part[0]))
            # The gradients of a clean pass that failed make the sum fail, for a GradScaler to see.
            pairs = self._set_aside or [(p, p.grad) for p in self._parameters() if p.grad is not None]
            self.restore()
            for p, grad in pairs:
                part_grad = grad if share == 1.0 else grad * share
                sums[p] = sums[p].add_(part_grad) if p in sums else part_grad
                p.grad = None
        for p, total_grad in sums.items():
            p.grad = total_grad
        self._finite = finite
        self._update(scaler)
        return torch.stack(losses).sum()

    def _clean_pass(self, closure: Closure, batch: Sequence[Tensor]) -> Tensor:
        if self._replay is not None:
            # The generator is set before the whole perturbed pass, not before each forward.
            self._replay.pause()
        if self.local_ascent and isinstance(self.model, DistributedDataParallel):
            with self.model.no_sync():
                return _with_grad(closure, batch)
        return _with_grad(closure, batch)

    def _perturbed_pass(self, closure: Closure, batch: Sequence[Tensor], rng: RngState | None) -> None:
        if rng is not None:
            restore_rng(rng)
        _with_grad(closure, batch)

    def _ascend(self, perturb: bool, zero_grad: bool, examples: int | None) -> bool:
        self._bill(examples)
        self._examples = examples
        with grad_off():
            ascent = self._perturbation.apply(self._targets() if perturb else ())
        self._attempts += 1
        self._finite = ascent.finite
        self._phase = _Phase.ASCENDED
        moved = perturb and ascent.finite
        if not moved:
            self._set_aside = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        if zero_grad:
            self.zero_grad()
        self._guard.hold()
        if self._replay is not None and not self._replay.paused:
            self._rng_after = capture_rng(self._accelerators)
            self._replay.start()
        return moved

    def _settle(self, scaler: GradScaler | None, examples: int | None) -> bool:
        aside = self._set_aside
        self.restore()
        second_pass = not aside or any(p.grad is not None for p in self._parameters())
        if second_pass:
            self._bill(examples)
        if not (second_pass and self._finite):
            # A first pass that failed has failed the step, and a GradScaler must see why.
            for p, grad in aside:
                p.grad = grad
        return self._update(scaler)

    def _targets(self) -> list[Target]:
        factor = self._rho_factor()
        groups = self.base_optimizer.param_groups
        return [Target(g["params"], self._names_of(g), check_rho(g["rho"] * factor)) for g in groups]

    def _names_of(self, group: Group) -> list[str] | None:
        if self._perturbation.variant != "asam":
            return None
        if "param_names" in group:
            return cast("list[str]", group["param_names"])
        return [self._names.get(id(p), "") for p in group["params"]] if self._names else None

    def _rho_factor(self) -> float:
        return 1.0 if self.rho_schedule is None else self.rho_schedule(self._attempts)

    def _update(self, scaler: GradScaler | None) -> bool:
        """Let the base optimizer step with the gradients present; count what happened."""
        self._phase = _Phase.READY
        done = self.cost.steps
        try:
            if scaler is None:
                self._descend()
            else:
                # Calls step() without a closure, unless it finds an overflow.
                scaler.step(self)
        finally:
            self._phase = _Phase.CLEAN
        updated = self.cost.steps > done
        self.cost.skipped += not updated
        # What a learning-rate scheduler looks for, to warn if it steps before the optimizer.
        self._opt_called = True
        return updated

    def _descend(self) -> None:
        gradients = self._gradients()
        if not gradients:
            raise RuntimeError(
                "There is no gradient to step with: neither pass left one. Call backward() on the "
                "loss in the closure, or before first_step() and before second_step()."
            )
        if not self._agreed(self._finite and self._all_finite(gradients)):
            return
        if self.clip_norm is not None:
            norm = global_norm(gradients)
            if norm > self.clip_norm:
                torch._foreach_mul_(gradients, self.clip_norm / norm)
        take_step(self.base_optimizer, self._bare_step)
        self.cost.steps += 1

    def _finish(self) -> None:
        if self._phase is _Phase.READY:
            self._descend()
        elif self._phase is _Phase.ASCENDED:
            self.second_step()
        else:
            raise RuntimeError(
                "step() needs a closure that computes the loss, calls backward and returns the "
                "loss, because a sharpness-aware step takes the gradient twice. Without a closure: "
                "first_step(), backward again, second_step()."
            )

    def _agreed(self, finite: bool) -> bool:
        """Skip in all processes if one of them must, so that their weights stay the same."""
        if self._process_group is None:
            return finite
        flag = torch.tensor(float(finite), device=self._parameters()[0].device)
        dist.all_reduce(flag, dist.ReduceOp.MIN, group=self._process_group)
        return bool(flag)

    def _find_accelerators(self) -> set[torch.device]:
        return {p.device for p in self._parameters() if p.device.type != "cpu"}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.base_optimizer.param_groups for p in group["params"]]

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters() if p.grad is not None]

    def _has_gradient(self) -> bool:
        # zero_grad(set_to_none=False) leaves zeros behind, which are no gradient either.
        return any(bool(grad.any()) for grad in self._gradients())

    def _bill(self, examples: int | None) -> None:
        self.cost.gradient_passes += 1
        if examples is not None:
            self.cost.bill_gradients(examples)

    def _require_clean(self, call: str) -> None:
        self._average.refuse_swapped(call)
        if self._phase is not _Phase.CLEAN:
            raise RuntimeError(
                f"{call}() {self._phase.value}: the weights are perturbed. Finish the step with "
                "second_step(), or take it back with restore()."
            )

    # The average of the weights.

    def update_swa(self) -> None:
        """Take the present weights into the average, a plain mean kept in float32.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
        """
        self._require_clean("update_swa")
        self._average.update(self._parameters())

    def swap_swa_sgd(self) -> None:
        """Exchange the weights for their average; the next call puts them back, bit for bit.

        Buffers return too: the model's, and those of any model that `bn_update` has changed in
        between. Before the first `update_swa` there is no average, and the weights stay.

        Raises:
            RuntimeError: while the weights are perturbed, or if they were changed while swapped.
        """
        if self._average.swapped:
            self._average.swap_out()
            return
        self._require_clean("swap_swa_sgd")
        buffers = [] if self.model is None else list(self.model.buffers())
        self._average.swap_in(self._parameters(), buffers)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Put the average into the model for the length of the block.

        Raises:
            RuntimeError: before the first `update_swa`, while perturbed or swapped, or if the
                block changed the parameters (the change is undone).
        """
        self._require_clean("average_parameters")
        if not self._average.count:
            raise RuntimeError("The average is empty: call update_swa() at the end of an epoch.")
        self.swap_swa_sgd()
        try:
            yield
        finally:
            self.swap_swa_sgd()

    def bn_update(
        self,
        loader: Any,
        model: nn.Module,
        device: torch.device | str | None = None,
        *,
        forward_fn: ForwardFn | None = None,
        limit: int | None = None,
    ) -> None:
        """Set the BatchNorm statistics of `model` to the population's over `loader`.

        While swapped, the statistics of the trained weights are kept and return with them. See
        `recalibrate_batchnorm` for the arguments.
        """
        self._average.keep_buffers(model.buffers())
        examples = recalibrate_batchnorm(model, loader, forward_fn=forward_fn, limit=limit, device=device)
        self.cost.bill_forwards(examples)

    # Saving and copying.

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to one process and one model object."""
        return {k: v for k, v in self.__dict__.items() if k not in ("step", "_replay", "_bare_step")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make what `__getstate__` left out anew, for the copy's own model."""
        self.__dict__.update(state)
        self._bare_step = bare_step(self.base_optimizer)
        self._replay = None if self.model is None else ForwardReplay(self.model, self._accelerators)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a run needs to go on with identical bits.

        The base optimizer's state dict, and under "wasam" the average, the counters and the
        generators of random numbers. `torch.load(weights_only=True)` can read it.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
        """
        self._require_clean("state_dict")
        state = self.base_optimizer.state_dict()
        state["wasam"] = {
            "attempts": self._attempts,
            "cost": self.cost.state_dict(),
            "average": self._average.state_dict(),
            "rng": capture_rng(self._accelerators),
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, the generators of random numbers included.

        A state dict of the base optimizer alone is understood as well; the average and the
        counters are left as they are then.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
            ValueError: from the base optimizer, if the groups differ.
        """
        self._require_clean("load_state_dict")
        base = {key: value for key, value in state_dict.items() if key != "wasam"}
        self.base_optimizer.load_state_dict(base)
        for group in self.param_groups:
            group.setdefault("rho", self.defaults["rho"])
        own = state_dict.get("wasam")
        if own is None:
            return
        self._attempts = own["attempts"]
        self.cost.load_state_dict(own["cost"])
        self._average.load_state_dict(own["average"], self._parameters())
        here = {"cpu", *map(str, self._accelerators)}
        restore_rng({name: value for name, value in own["rng"].items() if name in here})


def _with_grad(closure: Closure, batch: Sequence[Tensor]) -> Tensor:
    if torch.is_grad_enabled():
        return closure(*batch)
    with torch.enable_grad():
        return closure(*batch)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
