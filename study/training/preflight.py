"""Follow a study of a user's own tasks to its last page before it starts, in miniature and in the driver.

A mistake in a user's code would otherwise be met by every run of the study, far from whoever can mend it; and one that
comes to light after the last run would cost all of them.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from study.data import load_data
from study.data.pool import TaskError
from study.findings.content import ScoreUnit
from study.findings.units import FRACTION, score_units
from study.plan.cells import Cell, cells
from study.plan.replicates import replicate_of
from study.records import RunRecord
from study.specs.factors import factor_of
from study.specs.own_names import is_own_name
from study.specs.spec import StudySpec
from study.specs.tasks import TestPart, is_own_task
from study.tasks import build_task
from study.tasks.examples import examples_of
from study.tasks.loop import is_loop
from study.tasks.means import mean_of
from study.tasks.nests import ExamplesError, leaves, mapped
from study.tasks.own import Handed, build_own_task, check_read, is_told_replicate
from study.tasks.streamed import Streamed
from study.tasks.task import Task
from study.training.brought import own_schedule
from study.training.building import adapted
from study.training.loop_preflight import LoopTrials
from study.training.miniature import FEW, MiniatureError, Rehearsal, first_batch, same_tensors
from study.training.needs import find_needs
from study.training.parts import check_part, shared_inputs
from study.training.stand_ins import rehearsed, shown
from study.training.tracebacks import first_line, user_traceback
from study.training.train import begin_training

_MOST_CELLS = 32  # more are not all tried: then each value of each factor is, in some cell

Conclude = Callable[[StudySpec, Sequence[RunRecord]], object]


class PreflightError(ValueError):
    """A study that can't be made as it is: one sentence, and the traceback where the user's code raised."""

    def __init__(self, sentence: str, trace: str = "") -> None:
        super().__init__(sentence)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found out before the study.

    Attributes:
        spec: The study's, with where each own task's test part comes from, which of them are loops, with the kinds of
            weights that each reports, and what each optimizer that is not built in needs, by family.
        notes: What a user should know, a sentence each.
        scores: What each own task is scored by, a sentence each.
    """

    spec: StudySpec
    notes: tuple[str, ...]
    scores: tuple[str, ...]


def preflight(spec: StudySpec, conclude: Conclude = lambda spec, records: None) -> Preflight:
    """Try every own task and optimizer of a study, then the study itself.

    Built-in tasks are trained where an optimizer or a schedule is not built in: the first cell of each.

    Of each own task it is checked that it can be built, and that a seed says what is built. Then every family is
    trained and measured in miniature in every cell, tune stage and confirm stage, and the study is followed from its
    agenda to its conclusions with records that hold what these runs have measured. The test data are opened by the
    confirm stage in miniature alone, to see whether the first examples change with the seed and the replicate, and,
    where they are tensors, whether all of them can be measured; no score of theirs is kept or shown.

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
    tasks: dict[str, _OwnTask] = {}
    for cell in own:
        if cell.task not in tasks:
            tasks[cell.task] = _OwnTask(spec, cell)
    for task in tasks.values():
        task.check_seeds()
    rehearsal, replicate, tried = Rehearsal(spec), replicate_of(spec, 1), 0
    for cell in shown(own, _MOST_CELLS):
        if rehearsal.is_slow(cell.task) and cell not in shown(own, 0):
            continue  # a large network: each value of each factor is tried, and not each of their combinations
        first = tasks[cell.task] if tasks[cell.task].cell is cell else None
        with _told(cell, "building the task"):
            factors = first.factors if first else cell.factors
            built = build_own_task(cell.task, factors, replicate.tune, replicate.test)
            rehearsal.try_cell(cell, built, probes=first is not None)
        tried += 1
    for cell in _built_in_cells(spec, planned):
        with _told(cell, "trying a built-in task with what is not built in"):
            built = build_task(cell.task, load_data(cell.task), cell.factors, replicate.tune, replicate.test)
            rehearsal.try_cell(cell, built, probes=False)
    for task in tasks.values():
        task.check_read([cell for cell in own if cell.task == task.cell.task][:_MOST_CELLS])
    reported, said = _try_loops(spec, [cell for cell in planned if cell.task in loops], rehearsal)
    spec = spec.model_copy(update={"loops": reported})
    _rehearse(spec, rehearsal, conclude)
    test_parts: dict[str, TestPart] = {name: task.test_part() for name, task in tasks.items()}
    few = f"{tried} of {len(own)} problems were tried in miniature: each value of each factor, not each combination."
    notes = ((few,) if tried < len(own) else ()) + remarks + tuple(_notes(spec, tasks, test_parts)) + said
    scores = score_units(rehearsal.records, dict.fromkeys(cell.task for cell in planned if is_own_task(cell.task)))
    in_words = tuple(_score_in_words(spec, name, score) for name, score in scores.items())
    test_parts |= dict.fromkeys(reported, "loop")
    return Preflight(spec.model_copy(update={"test_parts": test_parts}), notes, in_words)


def _score_in_words(spec: StudySpec, task: str, score: ScoreUnit) -> str:
    """Say what a task is scored by; who reads that it goes the wrong way can still mend it."""
    delta, share = spec.delta_of(task), score.unit == FRACTION
    unit = "" if share or not score.unit else f" in {score.unit}"
    worth = f", which is {100 * delta:g} percentage points" if share else f" {score.unit}".rstrip()
    way = "" if score.higher_is_better else "; lower is better"
    return f"{task} is scored by {score.name}{unit}, δ = {delta:g}{worth}{way}."


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
        sentence = str(error) if known else f"trying the optimizers and schedules failed: {first_line(error)}"
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
        with _told(of_task[0], "running the loop"):
            loop = LoopTrials(spec, of_task)
            loop.try_cells([(cell, rehearsal.families_of(cell)) for cell in shown(of_task, _MOST_CELLS)])
        reported[task] = loop.kinds
        rehearsal.add(loop.records)
        notes += loop.notes
        if spec.probes:
            notes.append(f"probes = true was given; the weights of the loop {task!r} are its own, and are not probed.")
    return reported, tuple(notes)


def _rehearse(spec: StudySpec, rehearsal: Rehearsal, conclude: Conclude) -> None:
    """Follow a smaller study of the same cells and methods from its agenda to its conclusions."""
    try:
        conclude(*rehearsed(spec, rehearsal.record_of))
    except OSError:  # no room for the findings in miniature
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise PreflightError(
            f"in miniature, the study trained, and its conclusions failed: {first_line(error)} ({place.filename}, line "
            f"{place.lineno}); nothing was started: this is a fault of the program, which a report of it and of the "
            "spec would help to mend"
        ) from error


class _OwnTask:
    """A task of the user's own, in one cell: what is built of it, and what that tells."""

    def __init__(self, spec: StudySpec, cell: Cell) -> None:
        self.cell, self.factors = cell, Handed(cell.factors)
        self.repeats = True  # built again with the same seed, its training part begins with the same examples
        self.shared = ""
        self._spec, self._replicate = spec, replicate_of(spec, 1)

    def _built(
        self, doing: str, *, factors: Mapping[str, Any] | None = None, seed: int | None = None, cell: str = ""
    ) -> Task:
        """Build the task: with the seed of the tune stage, unless another is given."""
        one = self._replicate
        with _told(replace(self.cell, name=cell or self.cell.name), doing):
            return build_own_task(
                self.cell.task, factors or self.cell.factors, one.tune if seed is None else seed, one.test
            )

    def check_seeds(self) -> None:
        """Make sure that it can be built, that its loss is one, and that a seed says what is built."""
        cell, seed, fresh = self.cell, self._replicate.tune, self._replicate.confirm[0]
        self._task = task = self._built("building the task", factors=self.factors)
        with _told(cell, "reading the training examples"):
            examples, weights = _first_examples(task.train, "train"), _weights(task)
        with _told(cell, "a forward pass and its loss"):
            self._check_loss(task)
        self.check_part("train", lambda: task.train)
        self.check_part("val", lambda: task.val)
        again = self._built("building the task a second time")
        with _told(cell, "reading the training examples a second time"):
            self.repeats = same_tensors(examples, _first_examples(again.train, "train"))
        same_weights = same_tensors(weights, _weights(again))
        if not (same_weights and (self.repeats or isinstance(again.train, Streamed))):
            raise PreflightError(
                f"task = {cell.task!r} was built twice with seed {seed}, and the "
                f"{'training examples' if same_weights else 'initial weights'} differ; build the model anew in every "
                "call and draw everything from the seed, because methods are compared on equal data from equal weights"
            )
        if _trained_storage(task) & _trained_storage(again):
            raise PreflightError(
                f"task = {cell.task!r} was built twice, and both have the same model: a run would go on with the "
                "weights of the run before it; build the model anew in every call (what is loaded once may be kept, "
                "and copied: copy.deepcopy)"
            )
        self._other = self._built("building the task with another seed", seed=fresh)
        with _told(cell, "reading the training examples of another seed"):
            alike = same_tensors(examples, _first_examples(self._other.train, "train"))
        if alike and same_tensors(weights, _weights(self._other)):
            raise PreflightError(
                f"task = {cell.task!r} was built with seeds {seed} and {fresh}, and neither the initial "
                "weights nor the training examples differ; draw the weights or the split from the seed (without a "
                "torch.manual_seed of your own), because the spread between seeds is what a verdict is judged by"
            )

    def _check_loss(self, task: Task) -> None:
        factors, table = self.cell.factors, self._spec.table
        loss_of, model = task.training_loss or task.loss, begin_training(adapted(task))
        _, targets, outputs, loss = first_batch(task.train, model, loss_of, int(factors["batch_size"]))
        self._classes = outputs.shape[-1] if task.classifies and isinstance(outputs, Tensor) else None
        if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
            given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise PreflightError(
                f"task = {self.cell.task!r} has a loss that returned {given}"
                f"{' without a gradient' if isinstance(loss, Tensor) and not loss.dim() else ''}; it must return the "
                "mean over the batch, as a scalar tensor that can be differentiated"
            )
        if not math.isfinite(value := float(loss.detach())):
            raise PreflightError(
                f"task = {self.cell.task!r} has a loss of {value:g} at the initial weights; scale the inputs and "
                "the targets, or the initial weights, until it is finite"
            )
        accumulates = int(factor_of(factors, "gradient_accumulation_steps")) > 1
        if accumulates or any(table.family_of(name).micro_batches for name in self._spec.methods):
            # They count by what the loss is a mean over.
            mean_of(loss_of).check(mapped(outputs, torch.Tensor.detach), targets)

    def check_part(self, part: str, data: Callable[[], Any]) -> None:
        """Look through all of a part for what would fail, or diverge, when it is measured."""
        with _told(self.cell, f"reading the {part} examples"):
            check_part(self._task, self.cell.task, part, data(), self._classes)

    def check_read(self, planned: Sequence[Cell]) -> None:
        """Make sure that its factors are read: where it was tried, or where it is built in other cells."""
        task = self.cell.task
        given = [name for problem in self._spec.problems if problem.task == task for name in problem.factors]
        built = {cell.name: Handed(cell.factors) for cell in (self.cell, *planned)}
        for name, factors in built.items():
            self._built("building the task", factors=factors, cell=name)
        late = self.factors.read - built[self.cell.name].read  # by a forward pass, a loss …: seen where it was tried
        for factors in built.values():
            factors.read |= late
        with _told(self.cell, "reading the factors"):
            check_read(task, given, built.items())

    def test_part(self) -> TestPart:
        """Return where its test part comes from, by the first examples with other seeds and another replicate.

        ``shared`` says then whether it has examples that other parts have, too.
        """
        with _told(self.cell, "reading the first test examples of two seeds and of two replicates"):
            task, test = self._task, self._task.test()
            self.check_part("test", lambda: test)
            self.shared = shared_inputs(self.cell.task, {"train": task.train, "validation": task.val, "test": test})
            here, there = (_first_examples(data, "test") for data in (test, self._other.test()))
            if not same_tensors(here, there):
                return "run"
            if is_told_replicate(self.cell.task):
                other = replicate_of(self._spec, 2)
                elsewhere = build_own_task(self.cell.task, self.cell.factors, self._replicate.tune, other.test)
                if not same_tensors(here, _first_examples(elsewhere.test(), "test")):
                    return "anew"
        return "same"


def _notes(spec: StudySpec, tasks: Mapping[str, _OwnTask], test_parts: Mapping[str, TestPart]) -> Iterator[str]:
    """Say what a test part leaves a verdict to speak of, where that may not be what is meant, and what streams do."""
    for task, found in test_parts.items():
        if tasks[task].shared:
            yield tasks[task].shared
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
        if not tasks[task].repeats:
            yield (
                f"task = {task!r} streams other examples whenever it is built with the same seed: methods are not "
                "compared on equal data, so more replicates are needed, and an interrupted run does not end as it "
                "would have; draw what it yields from the seed."
            )


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
            f"{doing} failed for task = {cell.task!r} in the cell {cell.name!r}: {first_line(error)}; nothing was "
            "started, mend it and give the command again",
            user_traceback(error, cell.task),
        ) from error


def _first_examples(data: Any, part: str) -> list[Tensor]:
    """Return the tensors of the first examples of a part, read with equal random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs, targets = next(examples_of(data, part).first(FEW).batches(FEW))
    return [tensor.clone() for tensor in leaves((inputs, targets))]


def _trained_storage(task: Task) -> set[int]:
    """Return where the weights that are trained lie."""
    return {p.untyped_storage().data_ptr() for p in task.model.parameters() if p.requires_grad and p.numel()}


def _weights(task: Task) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in task.model.state_dict().values()]
