"""Synthetic studies: a valid spec and its run records in milliseconds, without training anything.

The agenda decides which runs there are, as in a real study; a response surface (see `_accuracy`) stands in
for the training. On it, sharpness-aware steps and averaging help where labels are noisy or the rate never
decays, and do nothing where neither is the case.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from study.plan.agenda import Agenda
from study.plan.cells import gradient_evaluations
from study.plan.halving import stopped
from study.plan.selection import preferred_at
from study.records import METRICS, Job, LineRecord, Measurement, PlaneRecord, Probe, RunRecord
from study.specs.methods import methods_reading
from study.specs.spec import StudySpec
from study.specs.tasks import TASKS
from study.store.folder import freeze_spec
from study.store.record_files import write_record

HOSTILE = "<script>alert('x')</script>=1+1 & \"quoted\" <a href='https://example.org'>é</a>"
NOISE_AND_DECAY: dict[str, list[Any]] = {"label_noise": [0.0, 0.3], "schedule": ["cosine", "constant"]}


def synthetic_study(
    *,
    tasks: Sequence[str] = ("digits", "mnist1d"),
    factors: Mapping[str, Any] | None = None,
    trials: int = 8,
    replicates: int = 6,
    confirms: int = 1,
    sampler: str = "qmc",
    failed: float = 0.0,
    diverged: float = 0.0,
    runs: int | None = None,
    hostile: bool = False,
    gains: Mapping[str, float] | None = None,
    noise: float = 0.002,
    seed: int = 0,
    study_seed: int = 0,
    **settings: Any,
) -> tuple[StudySpec, list[RunRecord]]:
    """Make a study: by default 2 tasks × label noise {0, 0.3} × schedule {cosine, constant} = 8 cells.

    Args:
        tasks: Names in the task table; each is crossed with ``factors``.
        factors: Values by factor name; label noise × schedule unless given. ``{}`` makes one cell a task.
        trials, replicates, confirms, sampler: As in the spec.
        failed: Chance in [0, 1] of a run to fail. At 1 no configuration is ever selected, so that the study
            ends with its tune stage; see `failed_run` and `diverged_run` for spoiling records by hand.
        diverged: Chance in [0, 1] of a run that didn't fail to diverge.
        runs: Stop after this many runs: an unfinished study. 0 gives an empty one.
        hostile: Put markup and a spreadsheet formula into every free text: question, errors, device,
            versions. Cell names are made by the plan; see `renamed` for hostile ones.
        gains: When given, replaces the response surface: method name → true gain in accuracy over the
            baseline, the same in every cell (0 for those that are missing).
        noise: Standard deviation of a run's accuracy around what its seed shares, a fraction.
        seed: Root of the synthetic noise.
        study_seed: The spec's own ``seed``.
        **settings: Other keys of the spec, such as ``methods``, ``budgets``, ``primary_budget``, ``delta``;
            ``confirm_seeds`` makes a study of protocol 1, as it would be read from its folder.

    Returns:
        The spec, and its records in the order of their run ids (as `study.store.record_files.read_records` gives them).
    """
    crossed = dict(NOISE_AND_DECAY if factors is None else factors)
    data = {
        "name": "synthetic",
        "question": HOSTILE if hostile else "When do sharpness-aware steps and averaging help?",
        "replicates": replicates,
        "confirms": confirms,
        "seed": study_seed,
        "search": {"sampler": sampler, "trials": trials},
        "problems": [{"task": task, "factors": crossed} for task in tasks],
    }
    spec = StudySpec.model_validate(data | settings, context={"frozen": "confirm_seeds" in settings})
    trainer = _Trainer(spec, np.random.default_rng(seed), noise, gains, failed, diverged, hostile)
    return spec, trainer.records(runs)


def measured(spec: StudySpec) -> list[RunRecord]:
    """Make the records of any study whose tasks the response surface knows, finished and without a failure."""
    return _Trainer(spec, np.random.default_rng(0), 0.002, None, 0.0, 0.0, hostile=False).records()


def repeated_study(seed: int, **settings: Any) -> tuple[StudySpec, list[RunRecord]]:
    """Make one of several small studies of one question; ``seed`` is the study's own and that of its noise."""
    small: dict[str, Any] = {"tasks": ("digits",), "factors": {"label_noise": [0.0, 0.3]}, "trials": 2, "gains": {}}
    return synthetic_study(**(small | settings), seed=seed, study_seed=seed)


def planned_runs(spec: StudySpec, records: Iterable[RunRecord]) -> int:
    """Return the runs that the plan holds at most, given what has been measured."""
    return Agenda(spec, records).planned[1]


def write_results(folder: Path, spec: StudySpec, records: Iterable[RunRecord]) -> Path:
    """Write a results folder as a run leaves it, ``spec.toml`` and ``records/*.json``, and return it."""
    freeze_spec(folder, spec, spec_text(spec))
    for record in records:
        write_record(folder, record)
    return folder


def spec_text(spec: StudySpec) -> str:
    """Return ``spec`` as TOML. JSON's strings, numbers, booleans and arrays are TOML's; tables are headed."""
    data = spec.model_dump(mode="json")
    search = data.pop("search")
    ranges = {f"[search.{key}]": search.pop(key) for key in ("learning_rate", "rho", "average_start", "weight_decay")
              if key in search}  # fmt: skip
    tables = [("", data), ("[search]", search), *ranges.items()]
    for problem in data.pop("problems"):
        tables += [("[[problems]]", {"task": problem["task"]}), ("[problems.factors]", problem["factors"])]
    lines = []
    for title, content in tables:
        lines += [
            title,
            *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()),
        ]
    return "\n".join(lines).lstrip() + "\n"


def renamed(records: Iterable[RunRecord], suffix: str = HOSTILE) -> list[RunRecord]:
    """Return the records with ``suffix`` on every cell name; they belong to no plan, `find` takes them."""
    found = []
    for record in records:
        job = record.job.model_copy(update={"cell": f"{record.job.cell} {suffix}"})
        found.append(record.model_copy(update={"job": job, "run_id": job.run_id}))
    return found


def synthetic_lines(
    records: Iterable[RunRecord], barriers: Mapping[tuple[str, str], float], noise: float = 0.01
) -> list[LineRecord]:
    """Make the lines between pairs of methods, one per cell × confirm seed, with barriers of given heights (nats)."""
    confirmed = sorted({(r.job.cell, r.job.replicate, r.job.seed) for r in records if r.job.stage == "confirm"})
    rng, alphas = np.random.default_rng(0), tuple(k / 10 for k in range(11))
    lines = []
    for cell, replicate, seed in confirmed:
        for (start, end), height in barriers.items():
            peak = abs(height + noise * rng.normal())
            losses = tuple(0.2 + 0.1 * a + 4 * peak * a * (1 - a) for a in alphas)
            lines.append(
                LineRecord(
                    cell=cell,
                    replicate=replicate,
                    seed=seed,
                    start=start,
                    end=end,
                    alphas=alphas,
                    train_losses=losses,
                    test_losses=losses,
                    test_errors=tuple(loss / 4 for loss in losses),
                )
            )
    return lines


def synthetic_plane(cell: str, lowest: tuple[float, float] = (1.0, 1.0), **changes: object) -> PlaneRecord:
    """Make the plane through SGD, SAM and SWA in one cell; its losses grow with the distance from ``lowest``."""
    x, y = (-1.0, 0.0, 1.0, 2.0), (-1.0, 0.0, 1.0)
    losses = tuple(tuple(0.1 + math.dist(lowest, (u, v)) for u in x) for v in y)
    fields: dict[str, Any] = {
        "cell": cell, "seed": 1000, "corners": (("SGD", 0.0, 0.0), ("SAM", 2.0, 0.0), ("SWA", 1.0, 1.0)),
        "x": x, "y": y, "train_losses": losses, "test_losses": losses,
        "trajectories": {"SGD": ((2.0, 1.0), (0.0, 0.0))}, "off_plane": {"SGD": (1.0, 0.0)}, "captured": 0.4,
    }  # fmt: skip
    return PlaneRecord(**fields | changes)


def failed_run(record: RunRecord, error: str = "RuntimeError: the worker died") -> RunRecord:
    """Return ``record`` as it would stand had its run failed: a reason and no measurements."""
    return record.model_copy(update={"status": "failed", "error": error, "measurements": (), "gradient_evaluations": 0})


def diverged_run(record: RunRecord) -> RunRecord:
    """Return ``record`` as it would stand had its run diverged half-way: its final metrics at chance."""
    classes = TASKS[record.job.task].classes
    chance = {"loss": math.log(classes), "score": 1 / classes}
    levelled = []
    for measurement in record.measurements:
        if measurement.epoch == record.job.epochs:
            metrics = [name for name in METRICS if getattr(measurement, name) is not None]
            levelled.append(replace(measurement, **{name: chance.get(name.partition("_")[2]) for name in metrics}))
    return record.model_copy(
        update={
            "status": "diverged",
            "measurements": tuple(levelled),
            "gradient_evaluations": record.gradient_evaluations // 2,
        }
    )


def pruned_run(record: RunRecord) -> RunRecord:
    """Return ``record`` as it would stand had its run been watched at its job's rungs; most jobs have none."""
    job = record.job
    for rung in job.rungs:
        if stopped(job, rung, record.measurements):
            return record.model_copy(
                update={
                    "status": "pruned",
                    "measurements": tuple(m for m in record.measurements if m.epoch <= rung),
                    "gradient_evaluations": gradient_evaluations(job, rung),
                }
            )
    return record


@dataclass(frozen=True, slots=True)
class _Trainer:
    """Makes the record of a job out of the response surface and noise."""

    spec: StudySpec
    rng: np.random.Generator
    noise: float
    gains: Mapping[str, float] | None
    failed: float
    diverged: float
    hostile: bool

    def records(self, runs: int | None = None) -> list[RunRecord]:
        agenda = Agenda(self.spec)
        done = 0
        while (runs is None or done < runs) and (job := agenda.next_job()):
            agenda.complete(self.record(job))
            done += 1
        return sorted(agenda.records, key=lambda record: record.run_id)

    def record(self, job: Job) -> RunRecord:
        record = pruned_run(self._completed(job))
        if self.rng.random() < self.failed:
            return failed_run(record, f"RuntimeError: {HOSTILE if self.hostile else 'the worker died'}")
        return diverged_run(record) if self.rng.random() < self.diverged else record

    def _completed(self, job: Job) -> RunRecord:
        shared = 2 * self.noise * np.random.default_rng([job.seed, len(job.cell)]).normal()
        epochs = sorted({max(1, round(job.epochs * share)) for share in (0.1, 0.25, 0.5, 0.75, 0.9, 1)} | {*job.rungs})
        measurements = []
        for epoch in epochs:
            started = [name for name in job.averages if _start_of(name) < epoch / job.epochs]
            measurements += [self._measure(job, name, epoch, shared) for name in ("last", *started)]
            if "best" in job.reads and epoch in (*job.rungs, job.epochs):
                measurements.append(self._best(job, epoch, shared, measurements))
        if self.spec.protocol > 1:  # protocol 1 tested whatever tuning had picked
            measurements = _tested(job, measurements)
        gradients = gradient_evaluations(job)
        return RunRecord(
            run_id=job.run_id,
            spec_hash=self.spec.hash,
            job=job,
            replicate=job.replicate,
            method=methods_reading(job)["last"],
            metric=TASKS[job.task].metric if job.task in TASKS else "score",
            val_examples=400,
            status="completed",
            measurements=tuple(measurements),
            probes=_probes(job, tuple(m.weights for m in measurements if m.epoch == job.epochs)),
            gradient_evaluations=gradients,
            forward_evaluations=5_000 * len(measurements),
            train_s=gradients * 2e-5,
            evaluate_s=0.2,
            wall_s=gradients * 2e-5 + 0.3,
            device=HOSTILE if self.hostile else "cpu",
            versions={"torch": HOSTILE if self.hostile else "2.9.0", "numpy": "2.4.6"},
        )

    def _best(self, job: Job, epoch: int, shared: float, measured: Sequence[Measurement]) -> Measurement:
        """Return the epoch that validation prefers of those so far, the later of two that are level."""
        best = max((m for m in measured if m.weights == "last"), key=lambda m: (m.val_score or 0.0, m.epoch))
        tested = best if best.epoch == epoch else self._measure(job, "last", epoch, shared)
        kept = {name: getattr(best, name) for name in ("val_score", "val_loss", "val_calibration_error")}
        return replace(tested, weights="best", epoch=epoch, weights_epoch=best.epoch, **kept)

    def _measure(self, job: Job, weights: str, epoch: int, shared: float) -> Measurement:
        progress = epoch / job.epochs
        best = _accuracy(job, weights) if self.gains is None else _planted(job, weights, self.gains)
        expected = 0.1 + (best - 0.1) * (1 - math.exp(-5 * progress)) / (1 - math.exp(-5)) + shared
        wrong_labels = float(job.factors.get("label_noise", 0.0))
        measured = {}
        for split in ("train", "val", "test"):
            if split == "test" and (job.stage == "tune" or epoch < job.epochs):
                continue
            value = expected + self.noise * self.rng.normal()
            if split == "train":
                value = value * (1 - wrong_labels) + wrong_labels * progress / 3
            accuracy = round(min(max(value, 0.0), 1.0), 3)
            measured[f"{split}_score"] = accuracy
            measured[f"{split}_loss"] = round(2.6 * (1 - accuracy) + 0.02 + 0.01 * abs(self.rng.normal()), 6)
            if split != "train":
                measured[f"{split}_calibration_error"] = round(0.3 * (1 - accuracy) / (1 + (weights != "last")), 6)
        return Measurement(weights=weights, epoch=epoch, **measured)


def _start_of(name: str) -> float:
    kind, _, setting = name.partition("@")
    return float(setting) if kind == "swa" else 0.0


def _tested(job: Job, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements of which test has seen what validation prefers of each kind, and nothing else."""
    preferred = {m.weights for m in preferred_at(measurements, job.epochs).by_kind.values()}
    unseen = dict.fromkeys(name for name in METRICS if not name.startswith("val_"))
    return [m if m.weights in preferred or m.epoch < job.epochs else replace(m, **unseen) for m in measurements]


def _accuracy(job: Job, weights: str) -> float:
    """Return the expected accuracy: the cell decides which learning rate, rho and average start are best."""
    wrong_labels, constant = float(job.factors.get("label_noise", 0.0)) / 0.3, job.factors["schedule"] == "constant"
    value = (0.955 if job.task == "digits" else 0.945) - 0.25 * wrong_labels
    value -= (0.02 + 0.03 * wrong_labels) * constant
    value -= 0.05 * wrong_labels * (job.epochs_factor - 1)  # longer training fits more of the wrong labels
    value -= 0.03 * math.log10(job.learning_rate / 0.08) ** 2
    if job.weight_decay is not None:
        value -= 0.02 * math.log10(job.weight_decay / 5e-4) ** 2
    flat = 0.0
    if job.rho > 0:
        flat = math.exp(-(math.log10(job.rho / (0.08 + 0.2 * wrong_labels)) ** 2) / 0.2)
        value += (0.002 + 0.12 * wrong_labels + 0.004 * constant) * flat
    if weights not in ("last", "best"):
        height = 0.012 + 0.1 * wrong_labels if constant else 0.03 * wrong_labels
        kind, _, setting = weights.partition("@")
        start = float(setting) if kind == "swa" else 0.6
        value += height * (1 - 0.6 * flat) * (1 - 2 * (start - 0.6) ** 2)
    return value


def _probes(job: Job, weights: Iterable[str]) -> tuple[Probe, ...]:
    """Return the curvature of the final weights of a confirm run: halved by perturbing, halved by averaging."""
    if job.stage == "tune":
        return ()
    rng = np.random.default_rng(int(job.run_id, 16))
    level = 40.0 / (1 + (job.rho > 0))
    values = {name: level / (1 + (name != "last")) * math.exp(0.1 * rng.normal()) for name in weights}
    return tuple(
        Probe(weights=name, name="top_eigenvalue", value=value, low=0.9 * value, high=1.1 * value)
        for name, value in values.items()
    )


def _planted(job: Job, weights: str, gains: Mapping[str, float]) -> float:
    """Return 0.8 plus the gain of the method that this family and these weights stand for."""
    kind = "last" if weights == "best" else weights.partition("@")[0]
    method = methods_reading(job)[kind]
    return 0.8 + gains.get(method, 0.0)
