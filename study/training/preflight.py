"""Follow a study of a user's own tasks to its last page before it starts, in miniature and in the driver.

A mistake in a user's code would otherwise be met by every run of the study, far from whoever can mend it; and one that
comes to light after the last run would cost all of them.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from study.data import load_data
from study.data.pool import TaskError
from study.findings.content import ScoreUnit
from study.findings.units import FRACTION, score_units
from study.plan.cells import Cell, cells
from study.plan.replicates import replicate_of
from study.records import Needs, RunRecord
from study.specs.factors import factor_of
from study.specs.own_names import is_own_name
from study.specs.spec import StudySpec
from study.specs.tasks import TestPart, is_own_task
from study.tasks import build_task
from study.tasks.adapted import by_number, numbered
from study.tasks.examples import Examples, examples_of
from study.tasks.loop import is_loop
from study.tasks.means import mean_of
from study.tasks.nests import ExamplesError, leaves, mapped
from study.tasks.own import Handed, build_own_task, check_read, is_told_replicate
from study.tasks.streamed import Streamed
from study.tasks.task import Task
from study.training.brought import own_schedule
from study.training.building import adapted
from study.training.loop_preflight import check_factors, try_loop
from study.training.miniature import MiniatureError, Rehearsal
from study.training.needs import find_needs
from study.training.stand_ins import rehearsed, shown
from study.training.tracebacks import concerns_user, user_traceback
from study.training.train import begin_training
from wasam_core.probes.surface import LossSurface

_EXAMPLES = 8
_MOST_CELLS = 32  # more are not all tried: then each value of each factor is, in some cell

Conclude = Callable[[StudySpec, Sequence[RunRecord]], object]


class PreflightError(ValueError):
    """A study that can't be made as it is: one sentence, and the traceback where the user's code raised."""

    def __init__(self, sentence: str, trace: str = "") -> None:
        super().__init__(sentence)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a user should know before the study, a sentence each, and what was found out.

    Where each own task's test part comes from, which of them are loops, with the kinds of weights that each reports,
    what each optimizer that is not built in needs, by family, and what each own task is scored by, a sentence each.
    """

    notes: tuple[str, ...] = ()
    test_parts: tuple[tuple[str, TestPart], ...] = ()
    loops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optimizers: Mapping[str, Needs] = field(default_factory=dict)
    scores: tuple[str, ...] = ()


def preflight(spec: StudySpec, conclude: Conclude = lambda spec, records: None) -> Preflight:
    """Try every own task and optimizer of a study, then the study itself.

    Built-in tasks are trained where an optimizer or a schedule is not built in: the first cell of each.

    Of each own task it is checked that it can be built, and that a seed says what is built. Then every family is
    trained and measured in miniature in every cell, tune stage and confirm stage, and the study is followed from its
    agenda to its conclusions with records that hold what these runs have measured. The test data are opened by the
    confirm stage in miniature alone, and to see whether the first examples change with the seed and the replicate;
    nothing of either is kept or shown.

    Args:
        spec: The study.
        conclude: Called with a smaller study and all of its records: whatever is made of a study at its end.

    Raises:
        PreflightError: what is wrong, at the first place where something is.
    """
    spec, remarks = _with_optimizers(spec)
    planned = cells(spec)
    loops = _loops([cell for cell in planned if is_own_task(cell.task)])
    own = [cell for cell in planned if is_own_task(cell.task) and cell.task not in loops]
    first: dict[str, Cell] = {}
    for cell in own:
        first.setdefault(cell.task, cell)
    handed = {name: Handed(cell.factors) for name, cell in first.items()}
    built = {name: _try_seeds(spec, cell, handed[name]) for name, cell in first.items()}
    rehearsal, tried = Rehearsal(spec), 0
    for cell in shown(own, _MOST_CELLS):
        if rehearsal.is_slow(cell.task) and cell not in shown(own, 0):
            continue  # a large network: each value of each factor is tried, and not each of their combinations
        with _told(cell, "building the task"):
            replicate = replicate_of(spec, 1)
            factors = handed[cell.task] if cell is first[cell.task] else cell.factors
            task = build_own_task(cell.task, factors, replicate.tune, replicate.test)
            rehearsal.try_cell(cell, task, probes=cell is first[cell.task])
        tried += 1
    for cell in _built_in_cells(spec, planned):
        with _told(cell, "trying a built-in task with what is not built in"):
            replicate = replicate_of(spec, 1)
            task = build_task(cell.task, load_data(cell.task), cell.factors, replicate.tune, replicate.test)
            rehearsal.try_cell(cell, task, probes=False)
    for name, cell in first.items():
        _check_read(spec, cell, handed[name])
    reported, said = _try_loops(spec, [cell for cell in planned if cell.task in loops], rehearsal)
    spec = spec.model_copy(update={"loops": reported})
    _rehearse(spec, rehearsal, conclude)
    found = {name: _test_part(spec, cell, built[name]) for name, cell in first.items()}
    unpaired = [name for name, cell in first.items() if not _repeats(spec, cell, built[name][0])]
    few = f"{tried} of {len(own)} problems were tried in miniature: each value of each factor, not each combination."
    notes = ((few,) if tried < len(own) else ()) + remarks + tuple(_notes(spec, found))
    notes += tuple(_of_streams(unpaired)) + said
    test_parts: list[tuple[str, TestPart]] = [*found.items(), *((name, "loop") for name in reported)]
    scores = score_units(rehearsal.records, dict.fromkeys(cell.task for cell in planned if is_own_task(cell.task)))
    in_words = tuple(_score_in_words(spec, task, score) for task, score in scores.items())
    return Preflight(notes, tuple(test_parts), reported, spec.optimizers, in_words)


def _score_in_words(spec: StudySpec, task: str, score: ScoreUnit) -> str:
    """Say what a task is scored by; who reads that it goes the wrong way can still mend it."""
    delta, share = spec.delta_of(task), score.unit == FRACTION
    unit = "" if share or not score.unit else f" in {score.unit}"
    worth = f", which is {100 * delta:g} percentage points" if share else f" {score.unit}".rstrip()
    way = "" if score.higher_is_better else "; lower is better"
    return f"{task} is scored by {score.name}{unit}, δ = {delta:g}{worth}{way}."


def _loops(planned: Sequence[Cell]) -> set[str]:
    """Return the names of those tasks that are loops."""
    found = set()
    for cell in {cell.task: cell for cell in planned}.values():
        with _told(cell, "importing it"):
            if is_loop(cell.task):
                found.add(cell.task)
    return found


def _try_loops(
    spec: StudySpec, of_loops: Sequence[Cell], rehearsal: Rehearsal
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Try the loops; return the kinds of weights that each reports, and what the user should know."""
    if of_loops and "T" in spec.budgets and not spec.reference_times:
        raise PreflightError(
            f"budget T was given with the loop {of_loops[0].task!r}, whose steps nobody else can time; give "
            "reference_times = { sam = 2.0, … }, the time of a step of each family in those of base, or leave T out"
        )
    reported: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for task in dict.fromkeys(cell.task for cell in of_loops):
        of_task = [cell for cell in of_loops if cell.task == task]
        factors = {cell.name: Handed(cell.factors) for cell in of_task}
        some = shown(of_task, _MOST_CELLS)
        with _told(of_task[0], "running the loop"):
            found = try_loop(spec, [(cell, rehearsal.searches_of(cell)) for cell in some], factors)
            given = [name for problem in spec.problems if problem.task == task for name in problem.factors]
            check_factors(task, given, list(factors.items()))
        reported[task] = found.kinds
        rehearsal.add(found.records)
        notes += found.notes
        if spec.probes:
            notes.append(f"probes = true was given; the weights of the loop {task!r} are its own, and are not probed.")
    return reported, tuple(notes)


def _with_optimizers(spec: StudySpec) -> tuple[StudySpec, tuple[str, ...]]:
    """Return the spec with what its optimizers need, and what the user should know; own schedules are looked at."""
    try:
        families = [spec.table.family_of(name) for name in spec.methods]
        schedules = {str(cell.factors["schedule"]) for cell in cells(spec)} | {one.schedule for one in families}
        for name in filter(is_own_name, sorted(schedules)):
            own_schedule(name)
        needs, remarks = find_needs(spec)
        found = spec.model_copy(update={"optimizers": needs})
        found.check_costs()
    except (Exception, SystemExit) as error:  # whatever somebody's code raises
        known = isinstance(error, TaskError | ValueError) and not isinstance(error, UnicodeError)
        sentence = str(error) if known else f"trying the optimizers and schedules failed: {_last_line(error)}"
        trace = "" if known else "".join(traceback.format_exception(error))
        raise PreflightError(f"{sentence}; nothing was started", trace) from error
    return found, remarks


def _built_in_cells(spec: StudySpec, planned: Sequence[Cell]) -> list[Cell]:
    """Return the first cell of each built-in task that is trained with an optimizer or a schedule that is not."""
    brought = any(spec.table.family_of(name).brings_optimizer for name in spec.methods)
    found: dict[str, Cell] = {}
    for cell in planned:
        if not is_own_task(cell.task) and (brought or is_own_name(str(cell.factors["schedule"]))):
            found.setdefault(cell.task, cell)
    return list(found.values())


def _rehearse(spec: StudySpec, rehearsal: Rehearsal, conclude: Conclude) -> None:
    """Follow a smaller study of the same cells and methods from its agenda to its conclusions."""
    try:
        conclude(*rehearsed(spec, rehearsal.record_of))
    except OSError:  # no room for the findings in miniature
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise PreflightError(
            f"in miniature, the study trained, and its conclusions failed: {_last_line(error)} ({place.filename}, line "
            f"{place.lineno}); nothing was started: this is a fault of the program, which a report of it and of the "
            "spec would help to mend"
        ) from error


def _try_seeds(spec: StudySpec, cell: Cell, handed: Handed) -> tuple[Task, Task]:
    """Make sure that a task can be built, that its loss is one, and that a seed says what is built.

    Returns:
        The task as it is built with the first replicate's seed of the tune stage, and with one of the confirm stage.
    """
    replicate = replicate_of(spec, 1)
    seed, fresh = replicate.tune, replicate.confirm[0]
    with _told(cell, "building the task"):
        task = build_own_task(cell.task, handed, seed, replicate.test)
    with _told(cell, "reading the training examples"):
        examples, weights = _first_examples(task.train, "train"), _weights(task)
    with _told(cell, "a forward pass and its loss"):
        loss, outputs, targets = _training_loss(task, int(cell.factors["batch_size"]))
        _check_loss(cell, loss)
        accumulates = int(factor_of(cell.factors, "gradient_accumulation_steps")) > 1
        if accumulates or any(spec.table.family_of(name).micro_batches for name in spec.methods):
            # They count by what the loss is a mean over.
            mean_of(task.training_loss or task.loss).check(mapped(outputs, torch.Tensor.detach), targets)
    if spec.probes:
        _try_probe(cell, task)
    with _told(cell, "building the task a second time"):
        again = build_own_task(cell.task, cell.factors, seed, replicate.test)
        same = (
            _equal(weights, _weights(again)),
            isinstance(again.train, Streamed) or _equal(examples, _first_examples(again.train, "train")),
        )
    if not all(same):
        raise PreflightError(
            f"task = {cell.task!r} was built twice with seed {seed}, and the "
            f"{'training examples' if same[0] else 'initial weights'} differ; build the model anew in every call and "
            "draw everything from the seed, because methods are compared on equal data from equal weights"
        )
    with _told(cell, "building the task with another seed"):
        other = build_own_task(cell.task, cell.factors, fresh, replicate.test)
        alike = _equal(weights, _weights(other)) and _equal(examples, _first_examples(other.train, "train"))
    if alike:
        raise PreflightError(
            f"task = {cell.task!r} was built with seeds {seed} and {fresh}, and neither the initial "
            "weights nor the training examples differ; draw the weights or the split from the seed (without a "
            "torch.manual_seed of your own), because the spread between seeds is what a verdict is judged by"
        )
    return task, other


def _repeats(spec: StudySpec, cell: Cell, task: Task) -> bool:
    """Tell whether a training part that is built again with the same seed begins with the same examples."""
    if not isinstance(task.train, Streamed):
        return True  # or it would have been refused
    replicate = replicate_of(spec, 1)
    with _told(cell, "reading the stream a second time"):
        again = build_own_task(cell.task, cell.factors, replicate.tune, replicate.test)
        return _equal(_first_examples(task.train, "train"), _first_examples(again.train, "train"))


def _check_read(spec: StudySpec, tried: Cell, handed: Handed) -> None:
    """Make sure that the factors of a task are read: in the cell that was tried, or where others are built."""
    given = [name for problem in spec.problems if problem.task == tried.task for name in problem.factors]
    planned = [cell for cell in cells(spec) if cell.task == tried.task][:_MOST_CELLS]
    built = {cell.name: Handed(cell.factors) for cell in (tried, *planned)}
    replicate = replicate_of(spec, 1)
    for name, factors in built.items():
        with _told(replace(tried, name=name), "building the task"):
            build_own_task(tried.task, factors, replicate.tune, replicate.test)
    late = handed.read - built[tried.name].read  # by a forward pass, a loss …: seen where these were tried
    for factors in built.values():
        factors.read |= late
    with _told(tried, "reading the factors"):
        check_read(tried.task, given, built.items())


def _test_part(spec: StudySpec, cell: Cell, built: tuple[Task, Task]) -> TestPart:
    """Return where the test part of a task comes from, by its first examples with other seeds and another replicate."""
    one, other = replicate_of(spec, 1), replicate_of(spec, 2)
    with _told(cell, "reading the first test examples of two seeds and of two replicates"):
        here, there = (_first_examples(task.test(), "test") for task in built)
        if not _equal(here, there):
            return "run"
        if is_told_replicate(cell.task):
            elsewhere = build_own_task(cell.task, cell.factors, one.tune, other.test)
            if not _equal(here, _first_examples(elsewhere.test(), "test")):
                return "anew"
    return "same"


def _notes(spec: StudySpec, test_parts: Mapping[str, TestPart]) -> Iterator[str]:
    """Say what a test part leaves a verdict to speak of, where that may not be what is meant."""
    for task, found in test_parts.items():
        if found == "run":
            yield (
                f"task = {task!r} has other first test examples with another seed: a run may be tested on what another "
                "of its replicate was tuned on; draw the test part from the argument replicate, or from no seed at all."
            )
        if found == "same" and not spec.one_tuning and is_told_replicate(task):
            yield (
                f"task = {task!r} takes replicate, and its first test examples are the same in two replicates: "
                "verdicts speak of that test part alone; draw it from the replicate, or leave the argument out."
            )


def _of_streams(unpaired: Sequence[str]) -> Iterator[str]:
    for task in unpaired:
        yield (
            f"task = {task!r} streams other examples whenever it is built with the same seed: methods are not compared "
            "on equal data, so more replicates are needed, and an interrupted run does not end as it would have; draw "
            "what it yields from the seed."
        )


def _training_loss(task: Task, batch_size: int) -> tuple[object, Any, Any]:
    """Return loss, outputs and targets of a few examples, or of a whole batch where a loss can't be had of a few."""

    def loss_of(count: int) -> tuple[object, Any, Any]:
        inputs, targets = next(examples_of(task.train, "train").batches(count))
        outputs = begin_training(adapted(task))(inputs)
        return (task.training_loss or task.loss)(outputs, targets), outputs, targets

    with suppress(Exception):
        return loss_of(_EXAMPLES)
    return loss_of(batch_size)


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


def _try_probe(cell: Cell, task: Task) -> None:
    """Differentiate the loss twice, which some fused kernels refuse."""
    model = adapted(task)
    batches = list(_few(task.train, "train").batches(_EXAMPLES))
    try:
        with numbered(model, batches, targets_too=True) as (tensors,):
            surface = LossSurface(model, by_number(task.loss, batches), tensors)
            weights = [weight.clone().requires_grad_() for weight in surface.weights]
            _, gradient = surface.gradient_at(weights, create_graph=True)
            norm = torch.stack([part.square().sum() for part in gradient]).sum()
            torch.autograd.grad(norm, weights, allow_unused=True)
    except Exception as error:
        raise PreflightError(
            f"probes = true was given, and the loss of task = {cell.task!r} can't be probed: {_last_line(error)}; "
            "leave probes out, or use layers that can be differentiated twice (a Hugging Face model with "
            'attn_implementation="eager") and a loss that knows the targets of training, too',
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
    except MiniatureError as error:
        raise PreflightError(
            f"{error}; nothing was started, mend it and give the command again", error.trace
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        raise PreflightError(
            f"{doing} failed for task = {cell.task!r} in the cell {cell.name!r}: {_last_line(error)}; nothing was "
            "started, mend it and give the command again",
            user_traceback(error, cell.task),
        ) from error


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _few(data: Any, part: str) -> Examples:
    return examples_of(data, part).first(_EXAMPLES)


def _first_examples(data: Any, part: str) -> list[Tensor]:
    """Return the tensors of the first examples of a part, read with equal random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs, targets = next(_few(data, part).batches(_EXAMPLES))
    return [tensor.clone() for tensor in leaves((inputs, targets))]


def _weights(task: Task) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in task.model.state_dict().values()]


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
