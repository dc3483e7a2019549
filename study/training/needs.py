"""What an optimizer that is not built in needs of the training loop, found out by letting it take a few steps.

Nothing is declared: whether its step wants a closure, and gradients before that, how many passes it makes, whether it
has modes, whether the learning rate reaches it, and whether its state survives being saved. It happens on a CPU.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from study.data import load_data
from study.data.pool import TaskError
from study.plan.cells import Cell, Search, cells, searches
from study.plan.replicates import replicate_of
from study.records import Job, Needs
from study.specs.factors import factor_of
from study.specs.methods import family_of
from study.specs.spec import StudySpec
from study.specs.tasks import is_own_task
from study.tasks import Task, build_task
from study.tasks.groups import groups_of
from study.tasks.loop import is_loop
from study.training.building import adapted, build_optimizer, switch_mode
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.miniature import first_batch, first_job, same_tensors
from study.training.own_optimizers import OwnSteps, PassCounter, own_optimizer
from study.training.tracebacks import first_line
from study.training.train import begin_training, take_step
from wasam_core import WASAM

_STEPS, _STEPS_S = 20, 3.0  # that passes are counted over: optimizers that perturb now and then do so every 5 or 10
_STUCK = 0.1  # the share of a step that is left at a learning rate of 0, above which it is said not to reach
_SAVED_AFTER = 3  # steps: an odd number, as some do something else every other time
_PLAIN, _BY_CLOSURE, _AFTER_GRADIENTS = _WAYS = (False, False), (True, False), (True, True)  # as in `Needs`
_SHAPING = ("model", "norm")  # factors that say what kinds of weights there are; in other cells they are others


def find_needs(spec: StudySpec) -> tuple[dict[str, Needs], tuple[str, ...]]:
    """Return what every family of a study that brings its optimizer needs, and what the user should know of it.

    Raises:
        TaskError: one can't be used as the spec says.
    """
    found: dict[str, Needs] = {}
    notes: dict[str, None] = {}
    for search, task in _tried(spec):
        name = spec.table.last_of(search.family)
        try:
            with torch.random.fork_rng(devices=[]):
                needs = _Trial(first_job(spec, search), task).needs()
        except TaskError as error:
            raise TaskError(f"methods.{name}: {error}") from error
        _check_switches(spec, search, needs)
        before = found.setdefault(search.family, needs)
        if replace(before, passes=needs.passes) != needs:
            found[search.family] = replace(before, resumable=before.resumable and needs.resumable)
        notes |= dict.fromkeys(_notes(name, search, needs))
    return found, tuple(notes)


def _tried(spec: StudySpec) -> Iterator[tuple[Search, Task]]:
    """Yield searches of the families that bring their optimizer, each with a task of its own, for each network."""
    if not any(spec.table.family_of(name).brings_optimizer for name in spec.methods):
        return
    loops = {task for task in {cell.task for cell in cells(spec)} if is_own_task(task) and is_loop(task)}
    trained = [cell for cell in cells(spec) if cell.task not in loops]  # a loop trains as it likes
    shaped = {(cell.task, *map(cell.factors.get, _SHAPING)): cell for cell in reversed(trained)}
    chosen, replicate = list(shaped.values()), replicate_of(spec, 1)
    data = {task: load_data(task) for task in {cell.task for cell in chosen}}
    seen: set[tuple[str, str]] = set()
    for search in searches(spec, [replicate]):
        key = (search.cell.name, search.family)
        if search.trajectory.brings_optimizer and search.cell in chosen and key not in seen:
            seen.add(key)
            cell: Cell = search.cell
            yield search, build_task(cell.task, data[cell.task], cell.factors, replicate.tune, replicate.test)


def _check_switches(spec: StudySpec, search: Search, needs: Needs) -> None:
    """Refuse what the study wants of an optimizer that takes its passes itself, or moves weights between modes."""
    reading = spec.table.reading(search.family)
    if needs.modes and "ema" in reading:
        raise TaskError(
            f'methods.{reading["ema"]} was given average = "ema", which reads the weights after every step, and '
            f"{search.trajectory.base} has a training and an evaluation mode between which it moves them: take "
            '"swa" or "lawa", which read them at the end of an epoch'
        )
    clip_norm = factor_of(search.cell.factors, "clip_norm")
    if needs.closure and clip_norm:
        raise TaskError(
            f"factors.clip_norm = {clip_norm} was given, and {search.trajectory.base} takes its passes itself, so that "
            "nobody else sees the gradient that it steps with: leave clip_norm out, or this method"
        )


def _notes(name: str, search: Search, needs: Needs) -> Iterator[str]:
    base = search.trajectory.base
    if needs.passes != 1:
        yield f"{name}: {base} makes {needs.passes:g} passes a step, as counted; budget G holds it to that."
    if not needs.resumable:
        yield (
            f"{name}: the state of {base} does not survive being saved and loaded bit for bit; a run that is "
            "interrupted begins anew."
        )
    schedule = search.trajectory.schedule or search.cell.factors["schedule"]
    if needs.modes and schedule != "constant":
        yield (
            f"{name}: {base} has a training and an evaluation mode, as optimizers do that need no schedule, and gets "
            f'schedule = "{schedule}"; methods.{name}.schedule = "constant" gives it its own.'
        )


class _Trial:
    """Lets an optimizer take steps from the same weights with the same random numbers, again and again."""

    def __init__(self, job: Job, task: Task) -> None:
        self._job, self._task = job, task
        self._what = family_of(job)
        self._model = begin_training(adapted(task))
        self._held = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        self._loss = task.training_loss or task.loss
        self._batch = first_batch(task.train, self._model, self._loss, int(job.factors["batch_size"]))[:2]

    def needs(self) -> Needs:
        rho = 0.0 if self._what.rule else self._job.rho
        bare = self._job.model_copy(update={"own_family": replace(self._what, rule=None), "rho": rho})
        way = self._way(bare)
        if way != _PLAIN and self._what.rule:
            raise TaskError(
                f"optimizer = {self._what.base!r} needs a closure and takes its passes itself, so that its gradient "
                "can't be perturbed from outside: leave perturb out"
            )
        if self._what.rule:
            self._reset()
            with self._refused("can't be perturbed"):
                build_optimizer(self._job, self._model, self._task)
        self._check_rate(bare, way)
        modes = switch_mode(self._built(bare), training=True)
        found = Needs(*way, passes=self._passes(bare, way), modes=modes)
        return replace(found, resumable=self._is_resumable(found))

    @contextmanager
    def _refused(self, why: str) -> Iterator[None]:
        """Turn what somebody's code raises inside the block into a sentence."""
        try:
            yield
        except TaskError:
            raise
        except Exception as error:
            raise TaskError(f"optimizer = {self._what.base!r} {why}: {first_line(error)}") from error

    def _reset(self) -> None:
        self._model.load_state_dict(self._held)
        begin_training(self._model)
        for p in self._model.parameters():
            p.grad = None
        torch.manual_seed(0)

    def _built(self, job: Job, rate: float | None = None) -> Optimizer:
        """Return a new optimizer over the initial weights, in training mode where it has one."""
        self._reset()
        with self._refused(f"can't be built over the parameters of task {job.task!r}"):
            made = own_optimizer(job, groups_of(self._task, self._model), self._model)
        for group in made.param_groups:
            if "lr" not in group:
                raise TaskError(
                    f"optimizer = {self._what.base!r} has a group without lr; the schedule sets that at every step, so "
                    "it has to stand in param_groups"
                )
            if rate is not None:
                group["lr"] = rate
        switch_mode(made, training=True)
        return made

    def _gradient(self) -> Tensor:
        with torch.enable_grad():
            for p in self._model.parameters():
                p.grad = None
            loss = self._loss(self._model(self._batch[0]), self._batch[1])
            loss.backward()
        return loss

    def _weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._model.parameters()]

    def _step(self, made: Optimizer, closure: bool, gradients_first: bool) -> None:
        """Take a step in one of `_WAYS`."""
        if gradients_first or not closure:
            self._gradient()
        if gradients_first:
            torch.manual_seed(0)  # the step itself draws what it draws without them
        made.step(*[self._gradient] if closure else [])  # type: ignore[arg-type]  # torch's own pass a tensor, too

    def _after(self, way: tuple[bool, bool], job: Job, rate: float | None = None) -> list[Tensor]:
        """Return the weights after one step of a new optimizer, in the mode in which they are evaluated."""
        made = self._built(job, rate)
        self._step(made, *way)
        switch_mode(made, training=False)
        return self._weights()

    def _way(self, job: Job) -> tuple[bool, bool]:
        """Return whether a step wants a closure, and whether it wants gradients before that."""
        found: dict[tuple[bool, bool], list[Tensor]] = {}
        errors: list[Exception] = []
        for way in _WAYS:
            try:
                found[way] = self._after(way, job)
            except TaskError:
                raise
            except Exception as error:  # whatever somebody's code raises
                errors.append(error)
            if _PLAIN in found:
                return _PLAIN
        if not found:
            raise TaskError(
                f"optimizer = {self._what.base!r} can't step on a CPU, neither by step() ({first_line(errors[0])}) nor "
                f"by step(closure) ({first_line(errors[-1])})"
            ) from errors[-1]
        differ = len({*_WAYS[1:]} & found.keys()) == 1 or not same_tensors(*found.values())
        return _AFTER_GRADIENTS if _AFTER_GRADIENTS in found and differ else _BY_CLOSURE

    def _check_rate(self, job: Job, way: tuple[bool, bool]) -> None:
        """Refuse an optimizer that moves as far at a learning rate of 0: schedule and search would not reach it."""
        self._reset()
        before = self._weights()

        def moved_at(rate: float | None) -> float:
            pairs = zip(before, self._after(way, job, rate), strict=True)
            return max(float((one - other).abs().max()) for one, other in pairs)

        moved, still = moved_at(None), moved_at(0.0)
        if still > _STUCK * moved:
            raise TaskError(
                f"optimizer = {self._what.base!r} moves the weights by {still:.2g} at a learning rate of 0, and by "
                f"{moved:.2g} at {job.learning_rate:.2g}: the rate that the schedule sets in param_groups does not say "
                "how far it goes (it keeps a rate of its own, or leaves a perturbation in the weights); give the "
                "option that makes it follow lr, or leave it out"
            )

    def _passes(self, job: Job, way: tuple[bool, bool]) -> float:
        """Return the passes of a step, counted on the model; a forward without a backward is a third of one."""
        made, counted, taken = self._built(job), 0.0, 0
        began = time.monotonic()
        while taken < _STEPS and (taken < 2 or time.monotonic() - began < _STEPS_S):
            with PassCounter(self._model) as passes:
                self._step(made, *way)
            counted += passes.backwards + max(0, passes.forwards - passes.backwards) / 3
            taken += 1
        return round(counted / taken, 2)

    def _is_resumable(self, needs: Needs) -> bool:
        """Tell whether the steps after a state was saved and loaded are those that follow it."""
        job = self._job.model_copy(update={"own_family": replace(self._what, needs=needs)})
        self._reset()
        made = build_optimizer(job, self._model, self._task)
        self._go_on(made)
        try:
            saved = write_checkpoint("", {"model": self._model.state_dict(), "optimizer": made.state_dict()})
            self._go_on(made)
            straight = self._weights()
            self._reset()
            anew = build_optimizer(job, self._model, self._task)
            held = read_checkpoint("", saved, torch.device("cpu"))
            self._model.load_state_dict(held["model"])
            anew.load_state_dict(held["optimizer"])
            self._go_on(anew)
        except Exception:  # whatever somebody's state_dict raises
            return False
        return same_tensors(straight, self._weights())

    def _go_on(self, made: WASAM | OwnSteps) -> None:
        switch_mode(made.base_optimizer, training=True)
        for _ in range(_SAVED_AFTER):
            take_step(self._model, made, *self._batch, self._loss)
        switch_mode(made.base_optimizer, training=False)
