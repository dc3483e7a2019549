"""From a `Job` to its `RunRecord`: one run, in whatever process it is called. Needs no Ray.

Everything random is seeded from the job at the top, so an actor that has run other jobs before gives the same
numbers as a new process.
"""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from study.methods import FAMILIES
from study.models import build_model
from study.plan import first_perturbed_step
from study.records import Job, Measurement, Probe, RunRecord
from study.streams import torch_seed
from study.tasks import Pool, draw_split
from study.train import train
from wasam_core import WASAM, Cost, WeightAverages, norm_layer_groups, recalibrate_batchnorm
from wasam_core.sharpness import measure_sharpness

_CURVE_POINTS = 10  # epochs at which the last weights are measured on validation, for the learning curve
_EVALUATION_BATCH = 1000
_TRAIN_METRICS_SIZE = 500  # training metrics describe, they decide nothing: a fixed subset is enough
PROBE_RHO = 0.05  # radius of the probed rises; one for all methods, so that they can be compared
_PACKAGES = ("torch", "numpy", "ray", "optuna", "wasam-study")

Examples = tuple[Tensor, Tensor]


@dataclass(slots=True)
class _Meter:
    """What one run has measured so far, the weights that it keeps, and the time that measuring took."""

    measurements: list[Measurement] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    evaluate_s: float = 0.0


class _DivergedError(Exception):
    """The training loss is not finite."""


def run(job: Job, pool: Pool, device: str, spec_hash: str, keep: Callable[[bytes], None] | None = None) -> RunRecord:
    """Train and measure one job; an exception becomes a failed record that carries the traceback.

    Args:
        job: What to run.
        pool: Its task's data; the test part is opened in the confirm stage only.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        spec_hash: Goes into the record.
        keep: Called with the probed weights in safetensors format, under names such as ``swa@0.75/0.weight``.
    """
    began = time.perf_counter()
    cost, meter = Cost(), _Meter()
    status, error = "completed", None
    try:
        _train_and_measure(job, pool, torch.device(device), cost, meter)
    except _DivergedError:
        status = "diverged"
        meter.measurements = _at_chance_level(job, pool.classes, meter.measurements)
    except Exception:  # any error of a task or a model is the run's result, not the study's end
        status, error = "failed", traceback.format_exc(limit=-8)
        meter.measurements = []
    if keep and status == "completed" and meter.weights:
        keep(save(meter.weights))
    wall_s = time.perf_counter() - began
    return RunRecord.model_validate(
        {
            "run_id": job.run_id,
            "spec_hash": spec_hash,
            "job": job,
            "status": status,
            "error": error,
            "measurements": meter.measurements,
            "probes": meter.probes if status == "completed" else [],
            "gradient_evaluations": cost.gradient_evaluations,
            "forward_evaluations": cost.forward_evaluations,
            "skipped_steps": cost.skipped,
            "train_s": max(0.0, wall_s - meter.evaluate_s),
            "evaluate_s": meter.evaluate_s,
            "wall_s": wall_s,
            "device": device if device == "cpu" else torch.cuda.get_device_name(device),
            "versions": {name: version(name) for name in _PACKAGES},
        }
    )


def build_optimizer(job: Job, model: nn.Module) -> WASAM:
    """Return the optimizer of a job's family over a model's parameters."""
    family = FAMILIES[job.family]
    weight_decay = float(job.factors["weight_decay"])
    base: dict[str, dict[str, object]] = {
        "sgd": {"base_optimizer": torch.optim.SGD, "momentum": float(job.factors["momentum"])},
        "adamw": {"base_optimizer": torch.optim.AdamW},
    }
    named = list(model.named_parameters())
    return WASAM(
        norm_layer_groups(model, job.rho) if family.norm_layers_only else named,
        rho=job.rho,
        variant=family.rule or "sam",
        model=model,
        m=int(job.factors["ascent_batch"]) if family.micro_batches else None,
        start_step=first_perturbed_step(job),
        lr=job.learning_rate,
        weight_decay=weight_decay,
        **base[family.base],  # type: ignore[arg-type]  # a class and its own options
    )


def average_names(job: Job) -> tuple[str, ...]:
    """Return the names of a run's averages: SWA at the grid of starts and the proposed one, then EMA, then LAWA."""
    return (
        *dict.fromkeys(f"swa@{start:g}" for start in (*job.average_starts, job.average_start)),
        *(f"ema@{decay:g}" for decay in job.ema_decays),
        *(f"lawa@{window}" for window in job.lawa_windows),
    )


def _train_and_measure(job: Job, pool: Pool, device: torch.device, cost: Cost, meter: _Meter) -> None:
    torch.manual_seed(torch_seed(job.seed, "torch"))
    split = draw_split(pool, job.factors, job.seed)
    train_set = _on(device, split.train_inputs, split.train_labels)
    val_set = _on(device, split.val_inputs, split.val_labels)
    model = build_model(job.factors, pool.inputs.shape[1:], pool.classes, job.seed).to(device)
    optimizer = build_optimizer(job, model)
    optimizer.cost = cost
    starts = tuple(dict.fromkeys((*job.average_starts, job.average_start)))
    averages = WeightAverages(
        model,
        swa_starts=starts,
        max_epochs=job.epochs,
        ema_decays=job.ema_decays,
        lawa_windows=job.lawa_windows,
    )
    curve = _curve_epochs(job.epochs)
    for result in train(
        model,
        optimizer,
        averages,
        *train_set,
        epochs=job.epochs,
        batch_size=int(job.factors["batch_size"]),
        schedule=str(job.factors["schedule"]),
        augmentation=float(job.factors["augmentation"]),
        seed=job.seed,
    ):
        if not math.isfinite(result.train_loss):
            raise _DivergedError
        if result.epoch in curve and result.epoch < job.epochs:
            with _timed(meter):
                meter.measurements.append(_measure("last", result.epoch, {"val": val_set}, model, cost))
    sets = {"train": (train_set[0][:_TRAIN_METRICS_SIZE], train_set[1][:_TRAIN_METRICS_SIZE]), "val": val_set}
    if job.stage == "confirm":
        sets["test"] = _on(device, *pool.open_test(job.stage))
    batches = train_set[0].split(_EVALUATION_BATCH)
    with _timed(meter):
        _measure_final(job, model, averages, batches, sets, cost, meter)


def _on(device: torch.device, inputs: object, labels: object) -> Examples:
    return torch.as_tensor(inputs).to(device), torch.as_tensor(labels).to(device)


def _curve_epochs(epochs: int) -> frozenset[int]:
    """Evenly spaced epochs, the last one included."""
    return frozenset(math.ceil(epochs * point / _CURVE_POINTS) for point in range(1, _CURVE_POINTS + 1))


def _measure_final(
    job: Job,
    model: nn.Module,
    averages: WeightAverages,
    batches: Sequence[Tensor],
    sets: Mapping[str, Examples],
    cost: Cost,
    meter: _Meter,
) -> None:
    """Measure and probe the last weights, then every average under BatchNorm statistics of its own."""
    for name in ("last", *average_names(job)):
        with averages.average_parameters(name) if name != "last" else nullcontext():
            if name != "last":
                cost.bill_forwards(recalibrate_batchnorm(model, batches))
            meter.measurements.append(_measure(name, job.epochs, sets, model, cost))
            if name in job.probed:
                meter.probes += probe(name, model, sets["train"], job.seed)
                meter.weights |= {f"{name}/{key}": p.detach().cpu().clone() for key, p in model.named_parameters()}


def probe(weights: str, model: nn.Module, examples: Examples, seed: int) -> list[Probe]:
    """Return the sharpness of the weights that the model holds, on the examples of its training metrics.

    Its cost is not billed to the run: it describes the result and is no part of getting it.
    """
    generator = torch.Generator(examples[0].device).manual_seed(torch_seed(seed, "probes"))
    found = measure_sharpness(model.eval(), functional.cross_entropy, [examples], rho=PROBE_RHO, generator=generator)
    values = {
        "top_eigenvalue": (found.eigenvalues.values[0], None, None),
        "trace": (found.trace.value, found.trace.low, found.trace.high),
        "worst_case_rise": (found.worst_case.rise, None, None),
        "average_case_rise": (found.average_case.rise, None, None),
    }
    return [
        Probe(weights=weights, name=name, value=value, low=low, high=high)
        for name, (value, low, high) in values.items()
        if math.isfinite(value)  # an eigenvalue that was not found is not reported
    ]


def _measure(weights: str, epoch: int, sets: Mapping[str, Examples], model: nn.Module, cost: Cost) -> Measurement:
    metrics: dict[str, float] = {}
    for name, (inputs, labels) in sets.items():
        loss, accuracy = evaluate(model, inputs, labels)
        cost.bill_forwards(len(labels))
        if not math.isfinite(loss):
            raise _DivergedError
        metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    return Measurement.model_validate({"weights": weights, "epoch": epoch} | metrics)


@torch.inference_mode()
def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the accuracy as a fraction, in evaluation mode.

    Args:
        model: Left in evaluation mode.
        inputs: ``(n, …)``; labels: ``(n,)`` classes; on the model's device.
    """
    model.eval()
    loss = torch.zeros((), device=inputs.device, dtype=torch.float64)
    hits = torch.zeros((), device=inputs.device, dtype=torch.int64)
    for x, y in zip(inputs.split(_EVALUATION_BATCH), labels.split(_EVALUATION_BATCH), strict=True):
        logits = model(x).float()
        loss += functional.cross_entropy(logits, y, reduction="sum")
        hits += (logits.argmax(1) == y).sum()
    return (loss / len(labels)).item(), int(hits) / len(labels)


def _at_chance_level(job: Job, classes: int, before: list[Measurement]) -> list[Measurement]:
    """Return what a diverged run stands for: guessing, with all of its weights; its curve is kept."""
    splits = ("train", "val", "test") if job.stage == "confirm" else ("train", "val")
    guess = {f"{split}_loss": math.log(classes) for split in splits}
    guess |= {f"{split}_accuracy": 1 / classes for split in splits}
    final = [
        Measurement.model_validate({"weights": name, "epoch": job.epochs} | guess)
        for name in ("last", *average_names(job))
    ]
    return [m for m in before if m.epoch < job.epochs] + final


@contextmanager
def _timed(meter: _Meter) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        meter.evaluate_s += time.perf_counter() - began
