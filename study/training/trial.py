"""From a `Job` to its `RunRecord`: one run, in whatever process it is called. Needs no Ray.

Everything random is seeded from the job at the top, so an actor that has run other jobs before gives the same
numbers as a new process; and everything that a run knows between two epochs goes through `Run.state` and `Run.restore`,
so a run that was interrupted ends with the same bits.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save

from study.plan.halving import stopped
from study.plan.selection import preferred_at, preferred_of_two
from study.records import Job, Measurement, RunRecord
from study.specs.factors import factor_of
from study.specs.methods import family_of
from study.streams import torch_seed
from study.tasks import build_task
from study.tasks.examples import Examples, examples_of
from study.tasks.streamed import Streamed
from study.tasks.task import Guess, Task
from study.training.brought import schedule_for
from study.training.building import adapted, build_averages, build_optimizer, switch_mode
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.features import features_at_end, noise_of_gradients
from study.training.history import History, dumped, loaded
from study.training.loops import LoopRun
from study.training.measure import DivergedError, Evaluator
from study.training.runs import AnyRun, at_chance_level
from study.training.train import Draws, Recipe, train
from wasam_core import Cost, recalibrate_batchnorm
from wasam_core.moved import weights_moved

_CURVE_POINTS = 10  # epochs at which validation sees the last weights: the learning curve, and what may be the best
TRACE = "epoch@"  # weights kept along the way are named "epoch@7"
_TRACED_PARAMETERS = 2_000_000  # above, ten snapshots would be more than a picture is worth
TRAIN_METRICS_SIZE = 500  # training metrics describe, they decide nothing: a fixed subset is enough


class _PrunedError(Exception):
    """The run is stopped at a rung."""


class Run(AnyRun):
    """One run that can be interrupted between any two epochs.

    Args:
        job: What to run.
        data: What `study.data.load_data` returned for its task.
        device, spec_hash, device_ids: As for `AnyRun`.
    """

    def __init__(self, job: Job, data: Any, device: str, spec_hash: str, *, device_ids: tuple[str, ...] = ()) -> None:
        super().__init__(job, device, spec_hash, device_ids=device_ids)
        self._cost, self._history = Cost(), History()
        self._epoch = 0
        self._guess, self._origins = Guess(math.nan, math.nan), dict[str, str]()
        self._stream_hash = ""  # of the cell's epochs
        self._streamed: Streamed | None = None  # the training part, where it is a stream
        # The epoch that validation prefers so far: how it scored there, and in the confirm stage its weights.
        self._best: Measurement | None = None
        self._best_state: dict[str, torch.Tensor] = {}
        # Buffers under averages as the confirm stage validated them, BatchNorm's statistics among them, by epoch: test
        # needs the same, and they cost a pass over the training examples.
        self._buffers: dict[tuple[int, str | int], list[torch.Tensor]] = {}
        with self._watched():
            self._build(data)

    def _build(self, data: Any) -> None:
        job = self._job
        torch.manual_seed(torch_seed(job.seed, "torch"))
        self._task = self._built(data)
        self._guess = self._task.guess
        self._origins = {job.task: self._task.origin} if self._task.origin else {}
        self._sets: dict[str, Examples] = {
            name: examples_of(part, name).to(self._device)
            for name, part in (("train", self._task.train), ("val", self._task.val))
        }
        train_part = self._sets["train"]
        self._streamed = train_part if isinstance(train_part, Streamed) else None
        self._tell(self._task.metric, val_examples=len(self._sets["val"]))
        self._batch_size = int(job.factors["batch_size"])
        precision = str(factor_of(job.factors, "precision"))
        self._model = adapted(self._task).to(self._device)
        self._evaluator = Evaluator(self._model, self._task, precision, self._batch_size)
        self._optimizer = build_optimizer(job, self._model, self._task)
        self._optimizer.cost = self._cost
        self._averages = build_averages(job, self._model)
        self._draws = Draws(job.seed)
        self._recipe = Recipe(
            epochs=job.epochs,
            batch_size=self._batch_size,
            learning_rate=job.learning_rate,
            schedule=schedule_for(job),
            loss=self._task.training_loss or self._task.loss,
            augment=self._task.augment,
            precision=precision,
            micro_batches=int(factor_of(job.factors, "gradient_accumulation_steps")),
        )
        # A curve that is read by nobody is measured where it is looked at: in the confirm stage.
        wanted = job.stage == "confirm" or "best" in job.reads
        self._curve = curve_epochs(job.epochs) if wanted else frozenset()
        self._halfway = math.ceil(job.epochs / 2) if job.features else 0

    def _built(self, data: Any) -> Task:
        """Build the task; a run in miniature has one that is built already."""
        return build_task(self._job.task, data, self._job.factors, self._job.seed, self._job.test_seed)

    def advance(self, seconds: float = math.inf) -> bool:
        """Train whole epochs until about ``seconds`` have passed; return whether the run has ended."""
        began = time.perf_counter()
        with self._watched():
            if self._status == "running":
                losses = train(
                    self._model, self._optimizer, self._averages, self._sets["train"], self._recipe, self._draws,
                    done=self._epoch,
                )  # fmt: skip
                for loss in losses:
                    self._take(self._epoch + 1, loss)
                    if self._epoch < self._job.epochs and time.perf_counter() - began >= seconds:
                        return False
                self._measure_final()
                self._status = "completed"
        return True

    def _take(self, epoch: int, train_loss: float) -> None:
        """Take in the end of an epoch; measure the last weights on validation where the learning curve has a point.

        At a rung all weights are measured, and the run may end there.
        """
        self._epoch = epoch
        if self._streamed and epoch == int(self._job.factors["epochs"]):
            self._stream_hash = self._streamed.digest
        if not math.isfinite(train_loss):
            raise DivergedError
        if epoch in self._job.rungs:
            with self._history.measuring():
                self._validate()
            if stopped(self._job, epoch, self._history.measurements):
                raise _PrunedError
        elif epoch in self._curve and epoch < self._job.epochs:
            with self._history.measuring():
                self._validate_last()
                if self._traced:
                    self._history.snapshot(f"{TRACE}{epoch}", self._model)
                if epoch == self._halfway:
                    found = noise_of_gradients(self._evaluator, self._sets["train"], self._history.probing)
                    self._history.features |= {f"halfway_{name}": value for name, value in found.items()}

    def _validate_last(self) -> None:
        """Measure the last weights on validation, and keep them if none before them were better.

        Where gradients are taken at other weights than those that are measured, BatchNorm knew those.
        """
        if switch_mode(self._optimizer.base_optimizer, training=False):
            self._recalibrate()
        found = self._measure("last", {"val": self._sets["val"]})
        self._history.measurements.append(found)
        if "best" in self._job.reads:
            best = replace(found, weights="best", weights_epoch=found.epoch)
            if self._best is None or preferred_of_two(best, self._best) is best:
                self._best = best
                if self._job.stage == "confirm":
                    state = self._model.state_dict()
                    self._best_state = {name: tensor.detach().clone() for name, tensor in state.items()}

    def _validate(self) -> None:
        """Measure on validation all weights that somebody may read, each average under BatchNorm of its own."""
        self._validate_last()
        if self._best is not None:
            self._history.measurements.append(replace(self._best, epoch=self._epoch))
        measured: dict[str | int, Measurement] = {}
        for name in self._job.averages:
            same = self._same_as(name)
            if same not in measured:
                with self._average(name):
                    measured[same] = self._measure(name, {"val": self._sets["val"]})
            self._history.measurements.append(replace(measured[same], weights=name))

    def _same_as(self, average: str) -> str | int:
        """Return what averages share that are the same bits: those of the same epochs."""
        return self._averages.start_epoch(average) if average.startswith("swa@") else average

    def _measure_final(self) -> None:
        """Measure all weights on validation; in the confirm stage test those that validation prefers of each kind.

        The weights of the best epoch come last, so that nothing has to be put back after them.
        """
        with self._history.measuring():
            self._validate()
            if self._job.stage != "confirm":
                return
            train_part = self._sets["train"].first(TRAIN_METRICS_SIZE)
            sets = {"train": train_part, "test": self._task.open_test(self._job.stage).to(self._device)}
            preferred = preferred_at(self._history.measurements, self._epoch).by_kind
            tested: dict[str, Measurement] = {}
            for kind in sorted(preferred, key=lambda kind: kind == "best"):
                one = preferred[kind]
                if kind == "last":
                    tested[kind] = self._test(one.weights, kind, sets)
                elif kind != "best":
                    with self._average(one.weights):
                        self._test(one.weights, kind, sets)
                elif one.weights_epoch == self._epoch:
                    self._history.add_tested(one.weights, tested["last"])
                else:
                    self._model.load_state_dict(self._best_state)
                    weights_moved()
                    self._test(one.weights, kind, sets)

    def _test(self, name: str, kind: str, sets: Mapping[str, Examples]) -> Measurement:
        """Measure what the model holds on the training subset and on test, and probe it where that is asked for.

        There is nothing to probe where the task's loss makes nothing of the targets of training.
        """
        found = self._measure(name, sets)
        self._history.add_tested(name, found)
        if kind in self._job.probed and found.train_loss is not None:
            budget, cost = self._job.probe_evaluations, self._history.probing
            self._history.probes += self._evaluator.probe(name, sets["train"], self._job.seed, budget, cost)
            self._history.snapshot(name, self._model)
        if kind == "last" and self._job.features and found.train_loss is not None:
            self._history.features |= features_at_end(
                self._evaluator, self._sets["train"], self._job.seed, self._history.probing
            )
        return found

    @contextmanager
    def _average(self, name: str) -> Iterator[None]:
        """Let the model hold an average, under BatchNorm statistics of its own."""
        here = self._epoch, self._same_as(name)
        with self._averages.average_parameters(name):
            if here in self._buffers:
                for buffer, value in zip(self._model.buffers(), self._buffers[here], strict=True):
                    buffer.copy_(value)
                weights_moved()
            else:
                self._recalibrate()
                if self._job.stage == "confirm":
                    self._buffers[here] = [buffer.clone() for buffer in self._model.buffers()]
            yield

    def _recalibrate(self) -> None:
        """Let BatchNorm measure the training examples anew, under the weights that the model holds."""
        size = self._task.evaluation_batch or self._batch_size
        batches = (inputs for inputs, _ in self._sets["train"].batches(size))
        if recalibrate_batchnorm(self._model, batches, forward_fn=lambda model, inputs: model(inputs)):
            self._cost.bill_forwards(len(self._sets["train"]))

    @property
    def _traced(self) -> bool:
        """One trajectory a method and cell is drawn: that of the first replicate, of nets that are small enough."""
        first = bool(self._job.probed) and self._job.replicate == 1
        return first and sum(p.numel() for p in self._model.parameters()) <= _TRACED_PARAMETERS

    def _measure(self, name: str, sets: Mapping[str, Examples]) -> Measurement:
        return self._evaluator.measure(name, self._epoch, sets, self._cost)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Count the time, and turn what goes wrong into the run's status: a task's error is not the study's end."""
        began = time.perf_counter()
        try:
            yield
        except DivergedError:
            self._status = "diverged"
        except _PrunedError:
            self._status = "pruned"
        except Exception as error:  # whatever a task or a model raises
            self._fail(error)
        finally:
            self._history.wall_s += time.perf_counter() - began

    def record(self) -> RunRecord:
        """Return the record of a run that has ended."""
        history, completed = self._history, self._status == "completed"
        measurements = history.measurements
        if self._status == "diverged":
            measurements = at_chance_level(self._job, measurements, self._guess.score, self._guess.loss)
        return self._record(
            measurements,
            self._origins,
            stream=self._stream_hash,
            inexact_resume=self._streamed is not None and self._streamed.inexact,
            probes=history.probes if completed else [],
            features=history.features if completed else {},
            gradient_evaluations=self._cost.gradient_evaluations,
            forward_evaluations=self._cost.forward_evaluations,
            probe_evaluations=history.probing.in_gradients,
            skipped_steps=self._cost.skipped,
            train_s=max(0.0, history.wall_s - history.evaluate_s),
            evaluate_s=history.evaluate_s,
            wall_s=history.wall_s,
        )

    def weights(self) -> bytes:
        """Return the probed weights in safetensors format, under names such as ``swa@0.75/0.weight``; may be empty."""
        return save(self._history.weights) if self._status == "completed" and self._history.weights else b""

    @property
    def resumable(self) -> bool:
        """Whether it can go on in the middle with identical bits: its optimizer's state can be saved and loaded."""
        needs = family_of(self._job).needs
        return needs is None or needs.resumable

    def state(self) -> bytes:
        """Return everything that the run needs to go on with identical bits; between two epochs only.

        Raises:
            RuntimeError: it is not `resumable`.
        """
        if not self.resumable:
            raise RuntimeError("the state of its optimizer can't be saved; a run that is interrupted begins anew")
        return write_checkpoint(
            self._job.run_id,
            {
                "epoch": self._epoch,
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "averages": self._averages.state_dict(),
                "draws": self._draws.state(),
                "best": dumped(self._best) if self._best else "",
                "best_state": self._best_state,
                "stream": self._stream_hash,
                "streamed": (self._streamed.digest, self._streamed.inexact) if self._streamed else ("", False),
            }
            | self._history.state(),
        )

    def restore(self, state: bytes) -> None:
        """Go on where `state` was taken.

        Raises:
            CheckpointError: it is damaged, or of another run or version; the run is as it was.
        """
        held = read_checkpoint(self._job.run_id, state, self._device)
        self._epoch = held["epoch"]
        self._model.load_state_dict(held["model"])
        weights_moved()
        self._averages.load_state_dict(held["averages"])
        self._draws.restore(held["draws"])
        self._history.restore(held)
        self._stream_hash = held["stream"]
        if self._streamed:
            digest, inexact = held["streamed"]
            self._streamed.expect(digest, inexact=inexact)
        self._best, self._best_state = loaded(held["best"]) if held["best"] else None, held["best_state"]
        self._optimizer.load_state_dict(held["optimizer"])  # last: it also sets torch's random state


def begin(job: Job, data: Any, device: str, spec_hash: str, *, device_ids: tuple[str, ...] = ()) -> Run | LoopRun:
    """Return the run of a job, not begun yet: of a task, or of a loop of the user's own. Arguments as for `Run`."""
    if job.loop:
        return LoopRun(job, device, spec_hash, device_ids=device_ids)
    return Run(job, data, device, spec_hash, device_ids=device_ids)


def run(job: Job, data: Any, device: str, spec_hash: str, keep: Callable[[bytes], None] | None = None) -> RunRecord:
    """Train and measure one job without a break; an exception becomes a failed record that carries the traceback.

    Args:
        job, data, device, spec_hash: As for `Run`.
        keep: Called with the probed weights, if there are any.
    """
    one = begin(job, data, device, spec_hash)
    one.advance()
    if keep and (weights := one.weights()):
        keep(weights)
    return one.record()


def curve_epochs(epochs: int) -> frozenset[int]:
    """Evenly spaced epochs, the last one included."""
    return frozenset(math.ceil(epochs * point / _CURVE_POINTS) for point in range(1, _CURVE_POINTS + 1))
