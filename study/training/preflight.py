"""Try a study's own tasks before it starts: one step and one evaluation on a few examples, in the driver.

A mistake in a user's code would otherwise be met by every run of the study, far from whoever can mend it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from study.data.pool import TaskError
from study.plan.cells import (
    Cell,
    cells,
    searches,
    tune_job,
)
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.specs.spec import StudySpec
from study.specs.tasks import is_own_task
from study.tasks.adapted import numbered
from study.tasks.examples import Examples, ExamplesError, examples_of, leaves
from study.tasks.own import build_own_task, is_told_replicate
from study.tasks.task import Task
from study.training.building import adapted, build_optimizer
from study.training.measure import evaluate, reliability_of
from study.training.tracebacks import concerns_user, user_traceback
from study.training.train import begin_training, take_step
from wasam_core.probes.surface import LossSurface

_EXAMPLES = 8


class PreflightError(ValueError):
    """A user's own task that can't be studied as it is: one sentence, and the traceback where their code raised."""

    def __init__(self, sentence: str, trace: str = "") -> None:
        super().__init__(sentence)
        self.trace = trace


def preflight(spec: StudySpec) -> tuple[str, ...]:
    """Try every own task of a study, in the first cell that has it; built-in tasks are left alone.

    Checked are that it can be built, that a seed says what is built, that every family of the study can take a step,
    and that the validation examples can be scored. The test data stays sealed, except where a task is told the
    replicate: then the first test examples of two replicates are compared, and nothing else is looked at.

    Returns:
        What its user should know, a sentence each.

    Raises:
        PreflightError: what is wrong, in the first task where something is.
    """
    first: dict[str, Cell] = {}
    for cell in cells(spec):
        if is_own_task(cell.task):
            first.setdefault(cell.task, cell)
    for cell in first.values():
        _try(spec, cell)
    return tuple(note for cell in first.values() for note in _test_part_notes(spec, cell))


def _try(spec: StudySpec, cell: Cell) -> None:
    replicate = replicate_of(spec, 1)
    seed, fresh = replicate.tune, replicate.confirm[0]
    with _told(cell, "building the task"):
        task = build_own_task(cell.task, cell.factors, seed, replicate.test)
    with _told(cell, "reading the training examples"):
        shown, weights = _first_examples(task.train, "train"), _weights(task)
    _try_steps(spec, cell, task)
    _try_evaluation(cell, task)
    if spec.probes:
        _try_probe(cell, task)
    with _told(cell, "building the task a second time"):
        again = build_own_task(cell.task, cell.factors, seed, replicate.test)
        same = _equal(weights, _weights(again)), _equal(shown, _first_examples(again.train, "train"))
    if not all(same):
        raise PreflightError(
            f"task = {cell.task!r} was built twice with seed {seed}, and the "
            f"{'training examples' if same[0] else 'initial weights'} differ; build the model anew in every call and "
            "draw everything from the seed, because methods are compared on equal data from equal weights"
        )
    with _told(cell, "building the task with another seed"):
        other = build_own_task(cell.task, cell.factors, fresh, replicate.test)
        alike = _equal(weights, _weights(other)) and _equal(shown, _first_examples(other.train, "train"))
    if alike:
        raise PreflightError(
            f"task = {cell.task!r} was built with seeds {seed} and {fresh}, and neither the initial "
            "weights nor the training examples differ; draw the weights or the split from the seed (without a "
            "torch.manual_seed of your own), because the spread between seeds is what a verdict is judged by"
        )


def _test_part_notes(spec: StudySpec, cell: Cell) -> Iterator[str]:
    """Say so where a task is told the replicate, and its test part stays the same nevertheless."""
    if spec.one_tuning or not is_told_replicate(cell.task):
        return
    one, other = replicate_of(spec, 1), replicate_of(spec, 2)
    with _told(cell, "reading the first test examples of two replicates"):
        firsts = [
            _first_examples(build_own_task(cell.task, cell.factors, one.confirm[0], root).test(), "test")
            for root in (one.test, other.test)
        ]
    if _equal(*firsts):
        yield (
            f"task = {cell.task!r} takes replicate, and its first test examples are the same in two replicates: "
            "verdicts speak of that test part alone; draw it from the replicate, or leave the argument out."
        )


def _try_steps(spec: StudySpec, cell: Cell, task: Task) -> None:
    """Take one step of every family of the study, perturbed wherever the family perturbs."""
    space = spec.search.model_copy(update={"sampler": "qmc", "unperturbed_share": 0.0})
    planned = searches(spec, [replicate_of(spec, 1)])
    families = {search.family: search for search in planned if search.cell.name == cell.name}
    loss_of = task.training_loss or task.loss
    for family, search in families.items():
        with _told(cell, f"a training step of {family}"):
            model = begin_training(adapted(task))
            inputs, targets = next(_few(task.train, "train").batches(_EXAMPLES))
            _check_loss(cell, loss_of(model(inputs), targets))
            take_step(model, build_optimizer(tune_job(spec, search, 0, propose(space, search, 0, [])), model),
                      inputs, targets, loss_of)  # fmt: skip


def _check_loss(cell: Cell, loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
        given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise PreflightError(
            f"task = {cell.task!r} has a loss that returned {given}"
            f"{' without a gradient' if isinstance(loss, Tensor) and not loss.dim() else ''}; it must return the mean "
            "over the batch, as a scalar tensor that can be differentiated"
        )
    value = float(loss.detach())
    if not math.isfinite(value):
        raise PreflightError(
            f"task = {cell.task!r} has a loss of {value:g} at the initial weights; scale the inputs and the "
            "targets, or the initial weights, until it is finite"
        )


def _try_evaluation(cell: Cell, task: Task) -> None:
    with _told(cell, "evaluating on the validation examples"):
        outputs, targets, loss = evaluate(adapted(task), _few(task.val, "val"), task)
        score = task.metric.score(outputs, targets)
        if task.classifies:
            reliability_of("last", outputs, targets)
    if not (math.isfinite(loss) and math.isfinite(score)):
        raise PreflightError(
            f"task = {cell.task!r} has a validation loss of {loss:g} and a score ({task.metric.name}) of {score:g} "
            "after a step; both must be finite"
        )


def _try_probe(cell: Cell, task: Task) -> None:
    """Differentiate the loss twice, which some fused kernels refuse."""
    model = adapted(task)
    batches = list(_few(task.train, "train").batches(_EXAMPLES))
    try:
        with numbered(model, batches) as (tensors,):
            surface = LossSurface(model, task.loss, tensors)
            weights = [weight.clone().requires_grad_() for weight in surface.weights]
            _, gradient = surface.gradient_at(weights, create_graph=True)
            norm = torch.stack([part.square().sum() for part in gradient]).sum()
            torch.autograd.grad(norm, weights, allow_unused=True)
    except Exception as error:
        raise PreflightError(
            f"probes = true was given, and the loss of task = {cell.task!r} can't be probed: {_last_line(error)}; "
            "leave probes out, or use layers that can be differentiated twice (a Hugging Face model with "
            'attn_implementation="eager")',
            user_traceback(error, cell.task) if concerns_user(error.__traceback__, cell.task) else "",
        ) from error


@contextmanager
def _told(cell: Cell, doing: str) -> Iterator[None]:
    """Turn what goes wrong inside the block into a sentence, with the traceback where the user's code raised."""
    try:
        yield
    except PreflightError:
        raise
    except (TaskError, ExamplesError) as error:
        raise PreflightError(str(error)) from error
    except Exception as error:  # whatever a user's code raises
        raise PreflightError(
            f"{doing} failed for task = {cell.task!r} in the cell {cell.name!r}: {_last_line(error)}; nothing was "
            "started, mend it and give the command again",
            user_traceback(error, cell.task),
        ) from error


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _few(data: Any, part: str) -> Examples:
    return examples_of(data, part).first(_EXAMPLES)


def _first_examples(data: Any, part: str) -> list[Tensor]:
    """Return the tensors of the first examples of a part, read with equal random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs, targets = next(_few(data, part).batches(_EXAMPLES))
    return [tensor.clone() for tensor in (*leaves(inputs), targets)]


def _weights(task: Task) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in task.model.state_dict().values()]


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
