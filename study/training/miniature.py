"""Runs in miniature: the code of every run, on the first examples of each part, for a few steps.

What can go wrong in a cell, a stage or a family goes wrong here in hundredths of a second, before anything is started.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from study.plan.cells import LEAST_PROBE, Cell, Search, searches, tune_job
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.records import Job, RunRecord
from study.specs.contenders import kinds_read
from study.specs.spec import StudySpec
from study.tasks.examples import Data, examples_of
from study.tasks.loaded import Loaded
from study.tasks.nests import ExamplesError
from study.tasks.streamed import Streamed
from study.tasks.task import Task
from study.training.stand_ins import stand_in
from study.training.trial import Run

FEW = 8  # examples that a loss is looked at on
STILL = 1e-12  # a learning rate at which the weights stay as they are
_SLOW_S = 2.0  # of the CPU, for the first run in miniature; a larger network sees less


Families = dict[str, list[Search]]  # the searches of a cell, by family


class Size(NamedTuple):
    """How much a run in miniature sees: of the training part, of the other parts, a step; and for how many epochs."""

    train: int
    others: int
    batch: int
    epochs: int


SMALL = Size(24, 24, 8, 2)
LIGHT = Size(8, 8, 4, 1)
LARGE = Size(500, 5000, 500, 1)  # where a loss or a metric can't be had of a few examples, such as of a rare class


class MiniatureError(ValueError):
    """A run in miniature that failed: where, and how its error begins and reads in full."""

    def __init__(self, where: str, reason: str, trace: str = "") -> None:
        super().__init__(f"{where} failed: {reason}")
        self.trace = trace


class _Miniature(Run):
    """A run of a task that is built already."""

    def _built(self, data: Any) -> Task:
        task: Task = data
        return task


def _abridged(task: Task, size: Size) -> Task:
    """Return a task of the first examples of each part; the test part stays sealed until a run opens it."""

    def first(data: Data, part: str, count: int) -> Any:  # what `examples_of` returns is data, too
        return examples_of(data, part).first(count)

    return replace(
        task,
        train=first(task.train, "train", size.train),
        val=first(task.val, "val", size.others),
        test=lambda: first(task.test(), "test", size.others),
    )


def first_batch(data: Data, model: nn.Module, loss: Callable[[Any, Any], Any], size: int) -> tuple[Any, Any, Any, Any]:
    """Return inputs, targets, outputs and loss of a few examples, or of a whole batch where a few can't be had."""

    def of(count: int) -> tuple[Any, Any, Any, Any]:
        inputs, targets = next(examples_of(data, "train").batches(count))
        outputs = model(inputs)
        return inputs, targets, outputs, loss(outputs, targets)

    with suppress(Exception):  # whatever a user's code raises; that of the whole batch is told
        return of(min(FEW, size))
    return of(size)


def first_job(spec: StudySpec, search: Search) -> Job:
    """Return the first job of a search as the sampler that nobody has to be asked for proposes it, perturbed."""
    space = spec.search.model_copy(update={"sampler": "qmc", "unperturbed_share": 0.0})
    return tune_job(spec, search, 0, propose(space, search, 0, []))


def same_tensors(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Tell whether two lists of tensors are the same to the last bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


class _Remembered:
    """A dataset whose examples are read once: many short runs read the same few."""

    def __init__(self, dataset: Any) -> None:
        self._dataset, self._read = dataset, dict[int, Any]()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        if index not in self._read:
            self._read[index] = self._dataset[index]
        found = self._read[index]
        return dict(found) if isinstance(found, dict) else found  # a collate function may change it


def _remembered(data: Data, part: str) -> Any:
    """Return a part whose examples are read once, in this process."""
    examples = examples_of(data, part)
    if not len(examples):
        raise ExamplesError(f"{part}: no examples were given; at least one is needed")
    if isinstance(examples, Loaded):
        return replace(examples, dataset=_Remembered(examples.dataset), workers=0)
    return examples.in_process() if isinstance(examples, Streamed) else examples


def in_miniature(job: Job, size: Size) -> Job:
    """Return a job of fewer examples, smaller batches and fewer epochs."""
    train = min(int(job.factors["train_size"]), size.train)
    batch = min(int(job.factors["batch_size"]), size.batch, train)
    small = {"train_size": train, "batch_size": batch, "epochs": size.epochs}
    small["ascent_batch"] = max(2, min(int(job.factors["ascent_batch"]), batch // 2))
    return job.model_copy(update={"factors": job.factors | small, "rungs": (), "stop_below": ()})


class Rehearsal:
    """Tries the families of a study in one cell after the other, and remembers what each run measured.

    How much the runs of a task see grows where a metric asks for more, and shrinks where the network is large.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._records: dict[tuple[str, str, str], RunRecord] = {}
        self._sizes: dict[str, Size] = {}  # by task
        self._searches: dict[str, Families] = {}  # by cell
        for search in searches(spec, [replicate_of(spec, 1)]):
            self._searches.setdefault(search.cell.name, {}).setdefault(search.family, []).append(search)

    def families_of(self, cell: Cell) -> Families:
        """Return the searches of a cell in the first replicate."""
        return self._searches[cell.name]

    def add(self, records: Mapping[tuple[str, str, str], RunRecord]) -> None:
        """Take runs in that were made elsewhere, by cell, family and stage."""
        self._records |= records

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """What was measured so far."""
        return tuple(self._records.values())

    def is_slow(self, task: str) -> bool:
        """Tell whether the network of a task has been found to be large for this machine."""
        return self._sizes.get(task) is LIGHT

    def try_cell(self, cell: Cell, task: Task, *, probes: bool) -> None:
        """Train and measure every family of the study in both stages, from the same weights.

        Args:
            cell, task: The cell, and its task as its own code has built it.
            probes: Probe the weights, where the study asks for that.

        Raises:
            MiniatureError: the first run that failed.
        """
        families = self._searches[cell.name]
        parts = {name: _remembered(data, name) for name, data in (("train", task.train), ("val", task.val))}
        opened = task.test
        task = replace(task, **parts, test=cache(lambda: _remembered(opened(), "test")))
        held = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}
        began = time.thread_time()  # others who use the machine would be in any other
        if not self.is_slow(cell.task):
            self._try_as_it_is(task, families)
        if cell.task not in self._sizes and time.thread_time() - began > _SLOW_S:
            self._sizes[cell.task] = LIGHT
        for family, of_family in families.items():
            for job in self._jobs(of_family, probes=probes):
                if job.stage == "confirm" or not self.is_slow(cell.task):  # which does all that the tune stage does
                    task.model.load_state_dict(held)
                    self._records[cell.name, family, job.stage] = self._run(job, task)

    def _try_as_it_is(self, task: Task, families: Families) -> None:
        """Make sure that the losses and the scores of the initial weights are finite."""
        for job in self._jobs(next(iter(families.values())), probes=False):
            record = self._run(job.model_copy(update={"learning_rate": STILL, "rho": 0.0}), task, finite=True)
            if record.status == "diverged":
                raise MiniatureError(
                    f"measuring the initial weights, as in the {job.stage} stage, in the cell {job.cell!r}",
                    "a loss or a score is not finite; mend the data, or scale inputs, targets or weights until it is",
                )
            _check_guess(task, record)

    def _jobs(self, of_family: Sequence[Search], *, probes: bool) -> Iterator[Job]:
        """Yield the jobs of a family in both stages: perturbed where it perturbs, with all weights that are read."""
        search = of_family[0]
        reads = kinds_read(one for each in of_family for one in each.contenders)
        job = first_job(self._spec, search).model_copy(update={"reads": reads})
        yield job
        probed = tuple(kind for kind in reads if kind != "best") if probes and self._spec.probes else ()
        seed = search.replicate.confirm[0]
        confirmed = {"stage": "confirm", "seed": seed, "trial": None, "search": "", "probed": probed}
        described = self._spec.features and search.trajectory.rule is None
        yield job.model_copy(update=confirmed | {"probe_evaluations": LEAST_PROBE, "features": described})

    def _run(self, job: Job, task: Task, *, finite: bool = False) -> RunRecord:
        """Run a job; where that fails, once more on more examples: a metric may need a rare class."""
        bad = {"failed", "diverged"} if finite else {"failed"}
        record = run_in_miniature(job, task, self._sizes.get(job.task, SMALL))
        if record.status in bad and self._sizes.get(job.task) is not LARGE:
            again = run_in_miniature(job, task, LARGE)
            if again.status not in bad:
                self._sizes[job.task], record = LARGE, again
        if record.status == "failed":
            error = (record.error or "").strip()
            methods = [name for name in self._spec.methods if self._spec.table[name].family == job.family]
            where = f"in miniature, the {job.stage} stage of {', '.join(methods)} in the cell {job.cell!r}"
            kind, _, sentence = (reason := reason_of(error)).partition(": ")
            if kind.endswith(("ExamplesError", "TaskError")):  # ours, which say all there is to say
                raise MiniatureError(where, sentence)
            if job.probed:
                self._run(job.model_copy(update={"probed": ()}), task)  # raises, if it is not the probe that fails
                raise _not_probed(job, reason, f"{error}\n")
            raise MiniatureError(where, reason, f"{error}\n")
        if job.probed and record.status == "completed" and not record.probes:
            raise _not_probed(job, "the loss makes nothing of the targets of training")
        return record

    def record_of(self, job: Job, spec_hash: str) -> RunRecord:
        """Return a record of a job of the whole study: that of its cell, family and stage stands for it."""
        found = (self._records.get((job.cell, job.family, stage)) for stage in (job.stage, "confirm"))
        return stand_in(job, spec_hash, next(filter(None, found), None))


def _not_probed(job: Job, reason: str, trace: str = "") -> MiniatureError:
    return MiniatureError(
        f"probes = true was given, and in miniature a probe of task = {job.task!r}",
        f"{reason}; leave probes out, or use layers that can be differentiated twice (a Hugging Face model with "
        'attn_implementation="eager") and a loss that knows the targets of training, too',
        trace,
    )


def _check_guess(task: Task, record: RunRecord) -> None:
    """Refuse a level of guessing with the sign of a metric of which less is better; scores are its negatives.

    Raises:
        MiniatureError: a diverged run would count as better than any.
    """
    scores = [one.val_score for one in record.measurements if one.val_score is not None]
    if not task.metric.higher_is_better and task.guess.score > 0 > max(scores, default=0):
        raise MiniatureError(
            f"the guess of a task that is scored by {task.metric.name}",
            f"of that less is better, so its scores are negative, such as {scores[0]:.4g}, and guess.score = "
            f"{task.guess.score:g} would be better than any: give Guess({task.guess.loss:g}, -{task.guess.score:g})",
        )


def run_in_miniature(job: Job, task: Task, size: Size) -> RunRecord:
    """Train and measure a job on a few examples; ``task`` is built already, and its model is trained in place."""
    with quietly():
        one = _Miniature(in_miniature(job, size), _abridged(task, size), "cpu", "")
        one.advance()
        return one.record()


@contextmanager
def quietly() -> Iterator[None]:
    """Leave the global random state as it is, and the terminal without warnings about few examples."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason_of(error: str) -> str:
    """Return the line of a traceback that says what was raised, which follows the last frame."""
    lines = error.splitlines() or ["no reason was given"]
    frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
    return lines[min(frames[-1] + 1, len(lines) - 1)] if frames else lines[0]
