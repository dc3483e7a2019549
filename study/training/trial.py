"""From a `Job` to its `RunRecord`: one run, in whatever process it is called. Needs no Ray.

Everything random is seeded from the job at the top, so an actor that has run other jobs before gives the same
numbers as a new process; and everything that a run knows between two epochs goes through `Run.state` and `Run.restore`,
so a run that was interrupted ends with the same bits.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import save

from study.plan.halving import stopped
from study.plan.selection import preferred_at, preferred_of_two
from study.records import Job, Measurement, RunRecord
from study.specs.factors import factor_of
from study.specs.methods import family_of, methods_reading
from study.specs.tasks import is_own_task
from study.streams import torch_seed
from study.tasks import build_task
from study.tasks.examples import Examples, examples_of
from study.tasks.source import source_of
from study.tasks.streamed import Streamed
from study.tasks.task import Guess, Task
from study.training.brought import brought_by, schedule_for, sources_of, versions_of
from study.training.building import adapted, build_averages, build_optimizer, switch_mode
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.loops import LoopRun
from study.training.measure import DivergedError, Meter, dumped, loaded, measure, probe
from study.training.tracebacks import user_traceback
from study.training.train import Draws, Recipe, train
from study.training.versions import versions
from wasam_core import Cost, recalibrate_batchnorm
from wasam_core.moved import weights_moved

_CURVE_POINTS = 10  # epochs at which validation sees the last weights: the learning curve, and what may be the best
TRACE = "epoch@"  # weights kept along the way are named "epoch@7"
_TRACED_PARAMETERS = 2_000_000  # above, ten snapshots would be more than a picture is worth
TRAIN_METRICS_SIZE = 500  # training metrics describe, they decide nothing: a fixed subset is enough


class _PrunedError(Exception):
    """The run is stopped at a rung."""


@dataclass(frozen=True, slots=True)
class _Best:
    """The epoch that validation prefers so far: how it scored there, and in the confirm stage its weights."""

    found: Measurement
    state: dict[str, torch.Tensor]

    def kept(self) -> dict[str, Any]:
        """Return it as plain data and tensors."""
        return {"found": dumped(self.found), "state": self.state}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "_Best":
        """Return what `kept` was taken of."""
        return cls(loaded(kept["found"]), dict(kept["state"]))


class Run:
    """One run that can be interrupted between any two epochs.

    Args:
        job: What to run.
        data: What `study.data.load_data` returned for its task.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        spec_hash: Goes into the record.
        device_ids: The accelerators that it was given, for the record.
    """

    def __init__(self, job: Job, data: Any, device: str, spec_hash: str, *, device_ids: tuple[str, ...] = ()) -> None:
        self._job, self._device, self._spec_hash, self._device_ids = job, torch.device(device), spec_hash, device_ids
        self._cost, self._meter = Cost(), Meter()
        self._status, self._error = "running", ""
        self._sets: dict[str, Examples] = {}
        self._epoch = 0
        self._guess = Guess(math.nan, math.nan)
        self._origin: dict[str, str] = {}
        self._source, self._val_examples, self._stream = "", 0, ""
        self._sources: dict[str, str] = {}
        self._metric = {"metric": "", "unit": "", "higher_is_better": True}
        self._best: _Best | None = None
        with self._watched():
            self._build(data)

    def _build(self, data: Any) -> None:
        job = self._job
        torch.manual_seed(torch_seed(job.seed, "torch"))
        self._task = self._built(data)
        self._guess = self._task.guess
        self._source = source_of(job.task) if is_own_task(job.task) else ""
        self._sources = sources_of(brought_by(job))
        metric = self._task.metric
        self._metric = {"metric": metric.name, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
        self._origin = {job.task: self._task.origin} if self._task.origin else {}
        self._sets = {
            name: examples_of(part, name).to(self._device)
            for name, part in (("train", self._task.train), ("val", self._task.val))
        }
        self._val_examples = len(self._sets["val"])
        self._batch_size = int(job.factors["batch_size"])
        self._precision = str(factor_of(job.factors, "precision"))
        self._model = adapted(self._task).to(self._device)
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
            precision=self._precision,
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
                for result in self._training():
                    self._take(result.epoch, result.train_loss)
                    if self._epoch < self._job.epochs and time.perf_counter() - began >= seconds:
                        return False
                self._measure_final()
                self._status = "completed"
        return True

    def _training(self) -> Iterator[Any]:
        return train(
            self._model, self._optimizer, self._averages, self._sets["train"], self._recipe, self._draws,
            done=self._epoch,
        )  # fmt: skip

    def _take(self, epoch: int, train_loss: float) -> None:
        """Take in the end of an epoch; measure the last weights on validation where the learning curve has a point.

        At a rung all weights are measured, and the run may end there.
        """
        self._epoch = epoch
        train_part = self._sets["train"]
        if isinstance(train_part, Streamed) and epoch == int(self._job.factors["epochs"]):
            self._stream = train_part.digest
        if not math.isfinite(train_loss):
            raise DivergedError
        if epoch in self._job.rungs:
            with self._meter.measuring():
                self._validate()
            if stopped(self._job, epoch, self._meter.measurements):
                raise _PrunedError
        elif epoch in self._curve and epoch < self._job.epochs:
            with self._meter.measuring():
                self._validate_last()
                if self._traced:
                    self._meter.keep(f"{TRACE}{epoch}", self._model)
                if epoch == self._halfway:
                    self._describe_halfway()

    def _validate_last(self) -> Measurement:
        """Measure the last weights on validation, and keep them if none before them were better.

        Where gradients are taken at other weights than those that are measured, BatchNorm knew those.
        """
        if switch_mode(self._optimizer.base_optimizer, training=False):
            self._recalibrate()
        found = self._measure("last", {"val": self._sets["val"]})
        self._meter.measurements.append(found)
        if "best" in self._job.reads:
            best = replace(found, weights="best", weights_epoch=found.epoch)
            if self._best is None or preferred_of_two(best, self._best.found) is best:
                self._best = _Best(best, self._copied_state() if self._job.stage == "confirm" else {})
        return found

    def _validate(self) -> None:
        """Measure on validation all weights that somebody may read, each average under BatchNorm of its own."""
        self._validate_last()
        if self._best is not None:
            self._meter.measurements.append(replace(self._best.found, epoch=self._epoch))
        measured: dict[int, str] = {}  # names of averages by their first epoch
        for name in self._job.averages:
            start = self._averages.start_epoch(name) if name.startswith("swa@") else -1
            if start in measured:
                self._meter.take_as(measured[start], name, self._epoch)
                continue
            with self._average(name):
                found = self._measure(name, {"val": self._sets["val"]})
                self._meter.measurements.append(found)
            if start >= 0:
                measured[start] = name

    def _measure_final(self) -> None:
        """Measure all weights on validation; in the confirm stage test those that validation prefers of each kind.

        The weights of the best epoch come last, so that nothing has to be put back after them.
        """
        with self._meter.measuring():
            self._validate()
            if self._job.stage != "confirm":
                return
            train_part = self._sets["train"].first(TRAIN_METRICS_SIZE)
            sets = {"train": train_part, "test": self._task.open_test(self._job.stage).to(self._device)}
            preferred = preferred_at(self._meter.measurements, self._epoch).by_kind
            for kind in (*(kind for kind in preferred if kind != "best"), *(["best"] if "best" in preferred else [])):
                name = preferred[kind].weights
                if kind == "last":
                    self._test(name, kind, sets)
                elif kind != "best":
                    with self._average(name):
                        self._test(name, kind, sets)
                elif preferred[kind].weights_epoch == self._epoch:
                    self._meter.complete_as("last", name, self._epoch)
                else:
                    assert self._best is not None
                    self._model.load_state_dict(self._best.state)
                    weights_moved()
                    self._test(name, kind, sets)

    def _test(self, name: str, kind: str, sets: Mapping[str, Examples]) -> None:
        """Measure what the model holds on the training subset and on test, and probe it where that is asked for.

        There is nothing to probe where the task's loss makes nothing of the targets of training.
        """
        found = self._measure(name, sets)
        self._meter.complete(found)
        if kind in self._job.probed and found.train_loss is not None:
            self._meter.probes += probe(
                name, self._model, sets["train"], self._task, self._job.seed,
                self._job.probe_evaluations, self._meter.probing, self._batch_size,
            )  # fmt: skip
            self._meter.keep(name, self._model)
        if kind == "last" and self._job.features and found.train_loss is not None:
            self._describe()

    def _describe_halfway(self) -> None:
        from study.training.features import noise_of_gradients  # noqa: PLC0415  # few runs are described

        found = noise_of_gradients(self._model, self._sets["train"], self._task, self._meter.probing, self._batch_size)
        self._meter.features |= {f"halfway_{name}": value for name, value in found.items()}

    def _describe(self) -> None:
        from study.training.features import features_at_end  # noqa: PLC0415  # few runs are described

        self._meter.features |= features_at_end(
            self._model, self._sets["train"], self._task, self._job.seed, self._meter.probing, self._batch_size
        )

    @contextmanager
    def _average(self, name: str) -> Iterator[None]:
        """Let the model hold an average, under BatchNorm statistics of its own."""
        with self._averages.average_parameters(name):
            self._recalibrate()
            yield

    def _recalibrate(self) -> None:
        """Let BatchNorm measure the training examples anew, under the weights that the model holds."""
        size = self._task.evaluation_batch or self._batch_size
        batches = (inputs for inputs, _ in self._sets["train"].batches(size))
        if recalibrate_batchnorm(self._model, batches, forward_fn=lambda model, inputs: model(inputs)):
            self._cost.bill_forwards(len(self._sets["train"]))

    def _copied_state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}

    @property
    def _traced(self) -> bool:
        """One trajectory a method and cell is drawn: that of the first replicate, of nets that are small enough."""
        first = bool(self._job.probed) and self._job.replicate == 1
        return first and sum(p.numel() for p in self._model.parameters()) <= _TRACED_PARAMETERS

    def _measure(self, name: str, sets: Mapping[str, Examples]) -> Measurement:
        return measure(name, self._epoch, sets, self._task, self._model, self._cost, self._precision, self._batch_size)

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
            self._status, self._error = "failed", user_traceback(error, self._job.task)
        finally:
            self._meter.wall_s += time.perf_counter() - began

    def record(self) -> RunRecord:
        """Return the record of a run that has ended."""
        meter, completed = self._meter, self._status == "completed"
        measurements = {"completed": meter.measurements, "failed": [], "pruned": meter.measurements}
        if self._status == "diverged":  # of a run that failed before it had a task, no level of guessing is known
            measurements["diverged"] = _at_chance_level(self._job, self._guess, meter.measurements)
        return RunRecord.model_validate(
            {
                "run_id": self._job.run_id,
                "spec_hash": self._spec_hash,
                "job": self._job,
                "replicate": self._job.replicate,
                "method": methods_reading(self._job)["last"],
                **self._metric,
                "task_source": self._source,
                "own_sources": self._sources,
                "val_examples": self._val_examples,
                "stream": self._stream,
                "inexact_resume": self._inexact,
                "status": self._status,
                "error": self._error or None,
                "measurements": measurements[self._status],
                "probes": meter.probes if completed else [],
                "features": meter.features if completed else {},
                "gradient_evaluations": self._cost.gradient_evaluations,
                "forward_evaluations": self._cost.forward_evaluations,
                "probe_evaluations": meter.probing.in_gradients,
                "skipped_steps": self._cost.skipped,
                "train_s": max(0.0, meter.wall_s - meter.evaluate_s),
                "evaluate_s": meter.evaluate_s,
                "wall_s": meter.wall_s,
                "device": "cpu" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device),
                "device_ids": self._device_ids,
                "versions": versions() | versions_of(brought_by(self._job)) | self._origin,
            }
        )

    def weights(self) -> bytes:
        """Return the probed weights in safetensors format, under names such as ``swa@0.75/0.weight``; may be empty."""
        return save(self._meter.weights) if self._status == "completed" and self._meter.weights else b""

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
                "best": self._best.kept() if self._best else None,
                "stream": self._stream_state(),
            }
            | self._meter.state(),
        )

    def _stream_state(self) -> dict[str, Any]:
        train_part = self._sets["train"]
        so_far = train_part.digest if isinstance(train_part, Streamed) else ""
        return {"of_epochs": self._stream, "so_far": so_far, "inexact": self._inexact}

    @property
    def _inexact(self) -> bool:
        """An interrupted run went on with other examples than it had seen before."""
        train_part = self._sets.get("train")
        return isinstance(train_part, Streamed) and train_part.inexact

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
        self._meter.restore(held)
        self._stream = held["stream"]["of_epochs"]
        if isinstance(train_part := self._sets["train"], Streamed):
            train_part.expect(held["stream"]["so_far"], inexact=held["stream"]["inexact"])
        self._best = _Best.of(held["best"]) if held["best"] else None
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


def _at_chance_level(job: Job, guess: Guess, before: list[Measurement]) -> list[Measurement]:
    """Return what a diverged run stands for: guessing, with all of its weights; its curve is kept."""
    splits = ("train", "val", "test") if job.stage == "confirm" else ("val",)
    level: dict[str, Any] = {f"{split}_loss": guess.loss for split in splits} | {
        f"{split}_score": guess.score for split in splits
    }
    final = [Measurement(weights=name, epoch=job.epochs, **level) for name in ("last", *job.averages)]
    if "best" in job.reads:
        final.append(Measurement(weights="best", epoch=job.epochs, weights_epoch=job.epochs, **level))
    return [m for m in before if m.epoch < job.epochs] + final
