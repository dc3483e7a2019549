"""The loss between runs: lines from a baseline to each method, seed by seed, and one plane a cell.

Made after the runs, from the weights that probed confirm runs keep (``weights/<run_id>.safetensors``). Each line and
each plane is a *landscape* with a file of its own (``lines/…json``, ``planes/…json``), so that an interrupted study
measures only those that are missing; and a landscape is measured by a pure function, wherever there is a free core.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from study.plan.agenda import Agenda
from study.plan.selection import Selection, preferred_of
from study.records import Configuration, Job, LineRecord, PlaneRecord, RunRecord, configuration_of
from study.specs.methods import Methods
from study.tasks import build_task
from study.tasks.adapted import by_number, numbered
from study.tasks.examples import examples_of
from study.tasks.means import Mean
from study.tasks.task import accuracy
from study.training.building import adapted
from study.training.measure import Evaluator
from study.training.scores import are_classes
from study.training.train import begin_training
from study.training.trial import TRACE
from wasam_core.modes import eval_mode
from wasam_core.probes.landscape import line, plane

_LINE_POINTS = 11
_PLANE_POINTS = 9  # along each axis
_EXAMPLES = 500  # of the training and of the test part, as in the training metrics

Weights = dict[str, Tensor]
_Runs = Mapping[Configuration, Sequence[RunRecord]]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a line or corner of a plane: a run and the weights of it that stand for a method."""

    method: str
    run: RunRecord
    weights: str


@dataclass(frozen=True, slots=True)
class Landscape:
    """One line (two ends) or plane (three) that is to be measured; ``path`` is where its record goes."""

    kind: Literal["line", "plane"]
    ends: tuple[End, ...]
    path: Path

    @property
    def job(self) -> Job:
        """The baseline's job: its task, seed and cell are those of all ends."""
        return self.ends[0].run.job


@dataclass(frozen=True, slots=True)
class Content:
    """What a landscape needs of the files: the weights of its ends, and snapshots of each end's run by epoch."""

    ends: tuple[Weights, ...]
    snapshots: tuple[tuple[Weights, ...], ...]


def missing_landscapes(folder: Path, agenda: Agenda) -> list[Landscape]:
    """Return the lines and planes whose ends are kept and that are not there yet."""
    table = agenda.spec.table
    runs: dict[Configuration, list[RunRecord]] = {}
    for record in agenda.records:
        if record.job.stage == "confirm" and record.job.probed and _weights_path(folder, record).exists():
            runs.setdefault(configuration_of(record.job), []).append(record)
    chosen: dict[tuple[int, str], dict[str, Selection]] = {}
    for one in agenda.selections:  # the first of a method's at the cell's epochs: of a baseline its last weights
        if one.epochs_factor == 1:
            chosen.setdefault((one.replicate, one.cell), {}).setdefault(one.method, one)
    found = [
        landscape
        for (replicate, _), by_method in chosen.items()
        for landscape in (
            *_lines(folder, by_method, runs, table),
            *(_planes(folder, by_method, runs, table) if replicate == 1 else ()),
        )
    ]
    return [landscape for landscape in found if not landscape.path.exists()]


def _lines(folder: Path, chosen: Mapping[str, Selection], runs: _Runs, table: Methods) -> Iterator[Landscape]:
    """Yield every line from a baseline's weights to those of another method, in one replicate of one cell."""
    for method, selection in chosen.items():
        start = chosen.get(table[method].baseline)
        if start is None or start is selection:
            continue
        for run in runs.get(configuration_of(start), ()):
            ends = (_end(start, "last", runs, run.job.seed), _end(selection, table[method].weights, runs, run.job.seed))
            if all(ends):
                yield _landscape("line", folder, *(end for end in ends if end))


def _planes(folder: Path, chosen: Mapping[str, Selection], runs: _Runs, table: Methods) -> Iterator[Landscape]:
    """Yield a plane through the baseline's, a perturbed method's and an average's weights, of the first seed."""
    for method, selection in chosen.items():
        if table.family_of(method).rule is None or table[method].weights != "last" or selection.rho == 0:
            continue
        start, averaged = chosen.get(table[method].baseline), _average_beside(method, chosen, table)
        if start is None or averaged is None:
            continue
        seeds = sorted(run.job.seed for run in runs.get(configuration_of(start), ()))
        wanted = ((start, "last"), (selection, "last"), (averaged, table[averaged.method].weights))
        ends = [_end(one, kind, runs, seeds[0]) for one, kind in wanted] if seeds else [None]
        if all(ends):
            yield _landscape("plane", folder, *(end for end in ends if end))


def _average_beside(method: str, chosen: Mapping[str, Selection], table: Methods) -> Selection | None:
    """Return the selection of an average of the baseline's trajectory, or else of the method's own."""
    for family in (table[table[method].baseline].family, table[method].family):
        for name, selection in chosen.items():
            if name in table.averages_of(family):
                return selection
    return None


def _end(chosen: Selection, kind: str, runs: _Runs, seed: int) -> End | None:
    for run in runs.get(configuration_of(chosen), ()):
        found = preferred_of(run).by_kind.get(kind)
        if run.job.seed == seed and found and {kind, found.weights} & {*run.job.probed}:
            return End(chosen.method, run, found.weights)
    return None


def _landscape(kind: Literal["line", "plane"], folder: Path, *ends: End) -> Landscape:
    sides = [part for end in ends[:-1] for part in (end.run.run_id, end.weights)]
    content = "/".join((*sides, ends[-1].run.run_id, ends[-1].weights, ends[-1].method))
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Landscape(kind, ends, folder / f"{kind}s" / f"{name}.json")


def _weights_path(folder: Path, run: RunRecord) -> Path:
    return folder / "weights" / f"{run.run_id}.safetensors"


def read_content(folder: Path, landscape: Landscape) -> Content:
    """Read the weights that a landscape needs."""
    ends, snapshots = [], []
    for end in landscape.ends:
        with safe_open(_weights_path(folder, end.run), framework="pt") as file:
            keys = list(file.keys())
            epochs = sorted({int(key.split("/")[0].removeprefix(TRACE)) for key in keys if key.startswith(TRACE)})
            ends.append(_tensors(file, keys, end.weights))
            wanted = epochs if landscape.kind == "plane" else []
            snapshots.append(tuple(_tensors(file, keys, f"{TRACE}{epoch}") for epoch in wanted))
    return Content(tuple(ends), tuple(snapshots))


def _tensors(file: Any, keys: Sequence[str], weights: str) -> Weights:
    prefix = f"{weights}/"
    return {key.removeprefix(prefix): file.get_tensor(key) for key in keys if key.startswith(prefix)}


def measure_landscape(data: Any, landscape: Landscape, content: Content) -> str:
    """Measure a line or a plane and return its record as JSON. Needs no file and no global state."""
    job = landscape.job
    task = build_task(job.task, data, job.factors, job.seed, job.test_seed)
    train, test = examples_of(task.train, "train"), task.open_test(job.stage)
    parts = {"train": train.first(_EXAMPLES), "test": test.first(_EXAMPLES)}
    model = begin_training(adapted(task))  # shows which layers are frozen
    size = int(job.factors["batch_size"])
    evaluator = Evaluator(model, task, batch_size=size)
    batches = [
        *(list(evaluator.batches(part)) for part in parts.values()), list(train.batches(task.evaluation_batch or size)),
    ]  # fmt: skip
    error = by_number(_ERROR, *batches) if task.classifies and _have_classes(model, batches) else None
    with numbered(model, *batches) as (*by_split, for_statistics):
        surface: dict[str, Any] = {
            "batches_by_split": dict(zip(parts, by_split, strict=True)),
            "recalibrate_with": for_statistics,
            "error_fn": error,
        }
        measured = {"line": _line, "plane": _plane}[landscape.kind]
        return measured(landscape, content, model, by_number(task.loss, *batches), surface).model_dump_json(indent=1)


_ERROR = Mean(lambda outputs, targets: accuracy.count(targets) - accuracy.total(outputs, targets), accuracy.count)


@torch.inference_mode()
def _have_classes(model: torch.nn.Module, parts: Sequence[Sequence[tuple[Any, Any]]]) -> bool:
    """Tell whether the targets are classes in every part, so that an error can be counted."""
    with eval_mode(model):
        return all(are_classes(model(part[0][0]), part[0][1]) for part in parts)


def _line(landscape: Landscape, content: Content, model: Any, loss: Any, surface: Mapping[str, Any]) -> LineRecord:
    found = line(model, loss, content.ends[0], content.ends[1], points=_LINE_POINTS, **surface)
    return LineRecord(
        cell=landscape.job.cell,
        replicate=landscape.job.replicate,
        seed=landscape.job.seed,
        start=landscape.ends[0].method,
        end=landscape.ends[1].method,
        alphas=found.alphas,
        train_losses=found.loss["train"],
        test_losses=found.loss["test"],
        test_errors=found.error.get("test", ()),
    )


def _plane(landscape: Landscape, content: Content, model: Any, loss: Any, surface: Mapping[str, Any]) -> PlaneRecord:
    trajectories = dict(zip((end.method for end in landscape.ends[:2]), content.snapshots, strict=False))
    found = plane(
        model,
        loss,
        (content.ends[0], content.ends[1], content.ends[2]),
        trajectory=[weights for snapshots in trajectories.values() for weights in snapshots],
        points=_PLANE_POINTS,
        **surface,
    )
    places, distances = iter(found.trajectory), iter(found.off_plane)
    return PlaneRecord(
        cell=landscape.job.cell,
        replicate=landscape.job.replicate,
        seed=landscape.job.seed,
        corners=tuple((end.method, *place) for end, place in zip(landscape.ends, found.corners, strict=True)),
        x=found.x,
        y=found.y,
        train_losses=found.loss["train"],
        test_losses=found.loss["test"],
        trajectories={name: tuple(next(places) for _ in kept) for name, kept in trajectories.items()},
        off_plane={name: tuple(next(distances) for _ in kept) for name, kept in trajectories.items()},
        captured=found.captured,
    )
