"""Lines between the weights of two methods, seed by seed: is there a barrier, and do train and test agree on the way?

Made after the runs, from the weights that probed confirm runs keep (``weights/<run_id>.safetensors``); each line is a
file of its own (``lines/…json``), so that an interrupted study measures only those that are missing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from study.agenda import Agenda
from study.methods import METHODS
from study.models import build_model
from study.records import Job, LineRecord, RunRecord, write_atomically
from study.selection import Selection
from study.tasks import POOLS, Pool, draw_split
from wasam_core.landscape import Line, line

_POINTS = 11
_EXAMPLES = 500  # of the training and of the test part, as in the training metrics


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a line: a run and the weights of it that stand for a method."""

    method: str
    run: RunRecord
    weights: str


def measure_lines(folder: Path, agenda: Agenda) -> None:
    """Measure every line from a baseline to another method whose two ends are kept and that is not there yet."""
    pools = {task: POOLS[task]() for task in agenda.tasks}
    for start, end in _pairs(agenda):
        path = folder / "lines" / f"{_name(start, end)}.json"
        kept = [folder / "weights" / f"{side.run.run_id}.safetensors" for side in (start, end)]
        if path.exists() or not all(weights.exists() for weights in kept):
            continue
        job = start.run.job
        found = _line(
            job, pools[job.task], *(_read(p, side.weights) for p, side in zip(kept, (start, end), strict=True))
        )
        record = LineRecord(
            cell=job.cell,
            seed=job.seed,
            start=start.method,
            end=end.method,
            alphas=found.alphas,
            train_losses=found.loss["train"],
            test_losses=found.loss["test"],
            test_errors=found.error["test"],
        )
        write_atomically(path, record.model_dump_json(indent=1))


def _pairs(agenda: Agenda) -> Iterator[tuple[_End, _End]]:
    """Yield the ends of all lines: same cell, same seed, the baseline's weights first."""
    chosen = {(s.cell, s.method): s for s in agenda.selections if s.epochs_factor == 1}
    runs: dict[tuple[object, ...], RunRecord] = {}
    for record in agenda.records:
        if record.job.stage == "confirm" and record.job.probed:
            runs[(*_configuration(record.job), record.job.seed)] = record
    for (cell, method), selection in chosen.items():
        start = chosen.get((cell, METHODS[method].baseline))
        if start is None or start is selection:
            continue
        for key, run in runs.items():
            other = runs.get((*_selected(start), key[-1]))
            if key[:-1] == _selected(selection) and other is not None:
                yield _End(start.method, other, "last"), _End(method, run, selection.average or "last")


def _configuration(job: Job) -> tuple[object, ...]:
    return job.cell, job.family, job.learning_rate, job.rho, job.average_start


def _selected(chosen: Selection) -> tuple[object, ...]:
    family = METHODS[chosen.method].family
    return chosen.cell, family, chosen.learning_rate, chosen.rho, chosen.average_start


def _name(start: _End, end: _End) -> str:
    content = "/".join((start.run.run_id, start.weights, end.run.run_id, end.weights, end.method))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read(path: Path, weights: str) -> dict[str, Tensor]:
    prefix = f"{weights}/"
    with safe_open(path, framework="pt") as file:
        return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118


def _line(job: Job, pool: Pool, start: dict[str, Tensor], end: dict[str, Tensor]) -> Line:
    split = draw_split(pool, job.factors, job.seed)
    inputs, labels = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_labels)
    test_inputs, test_labels = map(torch.from_numpy, pool.open_test(job.stage))
    model = build_model(job.factors, pool.inputs.shape[1:], pool.classes, job.seed)
    return line(
        model,
        functional.cross_entropy,
        start,
        end,
        {
            "train": [(inputs[:_EXAMPLES], labels[:_EXAMPLES])],
            "test": [(test_inputs[:_EXAMPLES], test_labels[:_EXAMPLES])],
        },
        points=_POINTS,
        recalibrate_with=_batches(inputs),
    )


def _batches(inputs: Tensor) -> Sequence[Tensor]:
    return list(inputs.split(1000))
