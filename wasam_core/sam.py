"""WASAM: sharpness-aware steps round any torch optimizer, and an average of the weights.

A step takes the gradient twice: at the weights (the *clean* pass), and at the weights moved uphill by rho (the
*perturbed* pass). The second gradient drives the base optimizer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from wasam_core.cost import Cost, whole
from wasam_core.groups import BaseOptimizer, Params, check_group
from wasam_core.norms import FiniteCheck
from wasam_core.own_average import OwnAverage
from wasam_core.own_state import Parts, averaged_values, check_fit, pack, shapes_of, unpack
from wasam_core.perturbation import Perturbation, Variant, check_rho
from wasam_core.rng import capture_rng, restore_rng
from wasam_core.snapshots import snapshot
from wasam_core.steps import SharpnessAwareSteps
from wasam_core.two_pass import Closure, Phase, TwoPass


class WASAM(SharpnessAwareSteps):
    """Minimize the loss at the worst point within rho of the weights, and average the weights.

    With g = gradient of the loss L at the weights w, one step is
        e = rho * T² g / ||T g||,    w <- base_optimizer(w, gradient of L at w + e),
    where T = 1 for SAM and the size of each weight for ASAM (see `variant`). Steps with rho = 0, and those that
    `interval` or `start_step` leave unperturbed, are the base optimizer's, bit for bit, and cost one gradient.

    The learning rate and all other options live in `param_groups`, which are the base optimizer's own: a scheduler
    may be built on either. Memory beyond the base optimizer's: one copy of the perturbed parameters.

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
        clip_norm: clip the norm of the final gradient (> 0). Anything else that must happen to it can be done in a
            hook: `register_step_pre_hook`.
        gradient_accumulation_steps: k, for trainers that call backward k - 1 times before `step(closure)`, whose
            closure adds the gradient of the k-th micro-batch (Lightning's accumulate_grad_batches). The ascent goes
            along the sum G of all k; the last one, g_k, is the only one that can be taken again, and stands for all:
            the base optimizer gets G + k * (g_k(w + e) - g_k(w)), of the same mean as with all of them taken again,
            but noisier; a window of fewer micro-batches is taken like one of k. 1: gradients present at `step(closure)`
            are those of the whole clean pass. In a loop of one's own, accumulate before `first_step` and again before
            `second_step`, and leave this at 1.
        local_ascent: with a DistributedDataParallel model, `step(closure)` takes each process's
            own clean gradient (`no_sync`), as in the paper. False: the average of all.
        **base_kwargs: options for a `base_optimizer` given as a class.

    Raises:
        ValueError: for options out of range or in contradiction, an optimizer over other parameters, one whose step
            needs a closure of its own, differentiable=True, or parameters that are split over processes (FSDP).
        TypeError: for something that is not an optimizer, or not parameters.

    Source: Foret et al. 2021 (arXiv 2010.01412), Algorithm 1 and section 4.1 (m); Kwon et al. 2021
        (arXiv 2102.11600), eq. 10; Kaddour et al. 2022 (arXiv 2202.00661).

    Differs from: the public WASAM and SAM codes: weights return bit for bit; the base optimizer's
        state is part of `state_dict`; a non-finite gradient skips the step; BatchNorm sees the
        clean pass only; both passes see the same random numbers; rho = 0 is the base optimizer;
        groups with rho = 0 do not enter the norm.

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
        _check(interval >= 1 and interval % 1 == 0, f"interval = {interval}: perturb every 1, 2, 3 ... steps.")
        _check(start_step >= 0 and start_step % 1 == 0, f"start_step = {start_step}: steps count from 0.")
        _check(m is None or (m >= 1 and m % 1 == 0), f"m = {m}: a micro-batch holds at least one example.")
        _check(clip_norm is None or clip_norm > 0, f"clip_norm = {clip_norm}: must be above 0.")
        _check(
            gradient_accumulation_steps >= 1 and gradient_accumulation_steps % 1 == 0,
            f"gradient_accumulation_steps = {gradient_accumulation_steps}: a step has at least one micro-batch.",
        )
        _check(
            gradient_accumulation_steps == 1 or (m is None and not local_ascent),
            "gradient_accumulation_steps > 1 takes one micro-batch again and synchronizes all of them: it contradicts "
            "m and local_ascent.",
        )
        perturbation = Perturbation(variant or ("asam-common" if adaptive else "sam"), eta)
        super().__init__(params, base_optimizer, {"rho": check_rho(rho)}, base_kwargs)
        self.model = model
        self.m = m
        self.interval = interval
        self.start_step = start_step
        self.rho_schedule = rho_schedule
        self.clip_norm = clip_norm
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.cost = Cost()
        self._attempts = 0
        self._examples: int | None = None
        self._unbilled: list[int | None] = []
        self._updated = False
        self._compared = False
        self._accelerators: set[torch.device] = set()
        self._passes = TwoPass(perturbation, model, self._find_accelerators(), local_ascent)
        self._all_finite = FiniteCheck()
        self._average = OwnAverage()

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
        self._find_accelerators()
        try:
            return self._ascend(self.will_perturb, examples, zero_grad=zero_grad)
        except BaseException:
            self.restore()
            raise

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
        if self._passes.phase is not Phase.ASCENDED:
            raise RuntimeError(
                "second_step() without first_step(): run backward at the weights, first_step(), backward again, "
                "second_step()."
            )
        updated = self._settle(scaler, self._examples if examples is None else whole(examples))
        if zero_grad:
            self.zero_grad()
        return updated

    def restore(self) -> None:
        """Take `first_step` back without an update; nothing happens if there was none.

        Weights and buffers are what they were at the end of the clean pass, bit for bit, and the step does not count.
        Call it if the second pass fails and the loop goes on.
        """
        self._passes.restore()
        self._unbilled.clear()

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
            closure: computes the loss, calls backward and returns the loss. Without gradients
                present it runs twice, as torch's optimizers expect. With gradients of the clean
                pass present it runs once, at the perturbed weights; where nothing is perturbed only
                the first time, to see that they are of its batch. None where nothing is perturbed
                (see `will_perturb`), for one base step with the gradients present.
            scaler: the GradScaler with which the closure scales the loss before backward; the
                closure returns the loss unscaled.
            batch: tensors with the examples along dimension 0; the closure is called with them,
                or with slices of `m` examples.
            examples: how many examples one pass holds, for `cost`; None: the length of `batch`.

        Returns:
            The clean loss; None if the closure ran at the perturbed weights only.

        Raises:
            RuntimeError: without a closure where a second pass is needed, between `first_step` and
                `second_step`, while the weights are swapped, if no pass left a gradient, or if
                gradients are present that are not those of the clean pass, as far as that can be
                seen: those of a Lightning trainer that accumulates, and, if `model` is given, those
                of another batch. Of a closure of your own without `model` it can't be seen.
            ValueError: if `m` is set and `batch` is missing.
            A step that fails counts as none: weights, optimizer state and counters are as before;
            gradients are cleared.
        """
        if closure is None:
            self._finish(scaler, examples)
            return None
        if self._passes.phase is not Phase.CLEAN or self._average.swapped:
            self._require_clean("step")
        if examples is None and batch:
            examples = len(batch[0])
        self._find_accelerators()
        try:
            if self.m is not None and self.will_perturb:
                return self._step_in_parts(closure, batch, scaler)
            return self._step_whole(closure, batch, scaler, examples)
        finally:
            # Also after an exception: half a step must not count as gradients of the next.
            self.restore()
            for p in self.parameters():
                p.grad = None

    def _finish(self, scaler: GradScaler | None, examples: int | None) -> None:
        if self._passes.phase is Phase.READY:
            self._descend()
            return
        if self._passes.phase is Phase.ASCENDED:
            self.second_step(scaler=scaler, examples=examples)
            return
        self._require_clean("step")
        if not self._step_without_closure(scaler, examples):
            raise RuntimeError(
                "step() needs a closure that computes the loss, calls backward and returns the loss, because a "
                "sharpness-aware step takes the gradient twice. Without a closure: first_step(), backward again, "
                "second_step(). Trainers that call step() alone can't take it."
            )

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
        average = self._average.state_dict()
        counters = {
            "attempts": self._attempts,
            "cost": self.cost.state_dict(),
            "averaged": average["count"],
            "shapes": shapes_of(self.param_groups),
            "rng": capture_rng(self._find_accelerators()),
        }
        state: dict[str, Any] = snapshot(pack(self.base_optimizer.state_dict(), counters, average["values"]))
        return self._shown(self._optimizer_state_dict_post_hooks, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, the generators of random numbers included.

        A state dict of a base optimizer that was never in a `WASAM` is understood as well; radii, average and counters
        are left as they are then. Hooks of `register_load_state_dict_pre_hook` and `_post_hook` get this optimizer.

        Raises:
            RuntimeError: while the weights are perturbed or swapped.
            ValueError: if groups, shapes or names differ, if a part is missing, or from the base optimizer. Nothing has
                changed then.
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
        check_fit(parts, self.param_groups)
        counters, average, base = parts.counters, OwnAverage(), self.base_optimizer
        if counters is not None:
            values = averaged_values(parts, self.parameters())
            average.load_state_dict({"count": counters["averaged"], "values": values}, self.parameters())
            Cost().load_state_dict(counters["cost"])
        held, rng = (base.state, base.param_groups), capture_rng(self._find_accelerators())
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


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
