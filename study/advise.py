"""``python -m study.advise``: a few runs of the baseline on a new problem, and what the atlas lets one expect of it."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from study.atlas.advice import Prediction, Validation, predict, validate
from study.atlas.answers import DELTA
from study.atlas.cells import FEATURES_OF_CELLS, METHODS, cell_gains
from study.atlas.frames import PARTS, load_gains
from study.atlas.part import described
from study.atlas.summary import validation_table
from study.atlas.words import number, table
from study.data import load_data
from study.driver.opening import find_data, try_own_tasks
from study.findings.evidence import Evidence, gather
from study.findings.units import FRACTION
from study.plan.agenda import Agenda
from study.plan.cells import Cell, cells, sizes
from study.specs.spec import SpecError, StudySpec, load_spec
from study.stats.clustered import MIN_TASKS
from study.store.folder import ResultsError

_REPLICATES, _TRIALS = 2, 4  # of the probe: enough to pick a rate that is not far off, twice
_CARD = Path(__file__).parent / "atlas" / "README.md"
_EXAMPLES = """\
examples:
  python -m study.advise my_task.py        of the task in my_task.py, with the spec my_task.toml beside it: study.new
  python -m study.advise my_study.toml     of every cell of a study
  python -m study.advise --validation      how good this advice has been for tasks that were left out

It is a guess from other problems and no verdict: what helps on yours, a study of yours says.

how good it has been, leaving out one task of the atlas at a time:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m study.advise",
        description="Measure what the baseline is like on a problem, and say what gain the atlas lets one expect.",
        epilog=_EXAMPLES + validation_of_card(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", metavar="TASK.py", help="a task of your own, or the spec of a study")
    parser.add_argument("--parts", type=Path, default=PARTS, metavar="DIR", help="parts of another atlas")
    parser.add_argument("--validation", action="store_true", help="say how good the advice is, and train nothing")
    options = parser.parse_args(arguments)
    try:
        if options.validation:
            print(validation_table(options.parts), end="")
            return 0
        if options.task is None:
            raise SpecError("no task was given; give one such as my_task.py (see study.new), or --validation.")
        spec, path = _spec_of(options.task)
        return _advise(spec, path, options.parts)
    except (SpecError, ResultsError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def validation_of_card() -> str:
    """Return the table of the data card that says how good the advice has been."""
    text = _CARD.read_text(encoding="utf-8")
    return text.partition("<!-- advice -->\n")[2].partition("<!-- /advice -->")[0]


def _spec_of(given: str) -> tuple[StudySpec, str]:
    """Return the spec that a command line means and what it is called: that beside a task's file, or a spec's own."""
    path = Path(given)
    if path.suffix == ".py":
        spec = path.with_suffix(".toml")
        missing = [file for file in (path, spec) if not file.is_file()]
        if missing:
            raise SpecError(
                f"{given} was given; there is no {missing[0]}: give the spec of a study, or begin with `python -m "
                f"study.new {path.name}`, which writes an example of both."
            )
        given = str(spec)
    if Path(given).parent != Path() and Path(given).is_file():
        sys.path.insert(0, str(Path(given).parent.resolve()))  # a task of one's own lies beside its spec
    return load_spec(given)[0], given


def probe_spec(spec: StudySpec) -> StudySpec:
    """Return the small study of the baseline alone that is run to see what a problem is like.

    It is a part of what a whole study would run: the baseline is tuned at equal epochs, and its pick described. The
    method that has to stand beside a baseline reads the same runs.
    """
    base = next(filter(spec.table.is_baseline, spec.methods))
    beside = "SWA" if base == "SGD" else f"{base}+SWA"
    search = spec.search.model_copy(update={"trials": _TRIALS, "sampler": "qmc", "pruner": "none"})
    return spec.model_copy(
        update={
            "methods": (base, beside), "budgets": ("E",), "primary_budget": "E", "weights": ("last", "best"),
            "replicates": _REPLICATES, "confirms": 1, "search": search, "features": True, "probes": False,
            "hypotheses": (), "reference_times": {},
        }
    )  # fmt: skip


def _advise(spec: StudySpec, path: str, folder: Path) -> int:
    gains = load_gains(folder)
    tasks = gains["task"].nunique() if "task" in gains else 0
    if tasks < MIN_TASKS:
        raise SpecError(f"the atlas in {folder} has {tasks} tasks; advice needs at least {MIN_TASKS}: add parts to it.")
    known = {method: cell_gains(gains, method) for method in METHODS}
    validations = {method: validate(method, some) for method, some in known.items()}
    print(_skill(list(validations.values())))
    small = probe_spec(spec)
    find_data(small)
    _, notes = try_own_tasks(small, print, None)
    for note in notes:
        print(f"note: {note}")
    runs = sum(size.runs[1] for size in sizes(small))
    print(f"Measuring the baseline: at most {runs} runs, one after the other.")
    evidence = measured(small)
    for cell in cells(small):
        score = evidence.scores[cell.task]
        if score.unit != FRACTION:
            raise SpecError(
                f"task = {cell.task!r} was given, whose score is {score.name}; the gains of the atlas are accuracies, "
                "and say nothing in that unit: run the study."
            )
        features = features_of(evidence, cell)
        found = [one for method in METHODS if (one := predict(method, known[method], features))]
        print(f"\n{cell.name}")
        head = ("method", "expected gain", "80 % interval", "mean of the atlas", "advice")
        print(table(head, map(_row, found)), end="")
        print(_resembles(found[0]) if found else "")
        unknown = [words for name, (words, _) in FEATURES_OF_CELLS.items() if name not in features]
        if unknown:
            print(f"Unknown of this problem: {'; '.join(unknown)}.")
    print(f"\nA guess from other problems, no verdict. What helps on yours: python -m study.run {path}")
    return 0


def measured(spec: StudySpec, note: Callable[[str], object] = print) -> Evidence:
    """Run a small study in this process, without Ray, and return its evidence.

    Args:
        spec: As `probe_spec` makes it.
        note: Told of a run that failed.

    Raises:
        ResultsError: a run failed.
    """
    from study.training.trial import run  # noqa: PLC0415  # torch takes seconds to import

    agenda = Agenda(spec)
    data: dict[str, Any] = {task: load_data(task) for task in agenda.tasks}
    while job := agenda.next_job():
        record = run(job, data[job.task], "cpu", spec.hash)
        if record.status == "failed":
            note(record.error or "")
            raise ResultsError(f"a run of the baseline failed in the cell {job.cell!r}; mend what stands above.")
        agenda.complete(record)
    return gather(spec, agenda.records)


def features_of(evidence: Evidence, cell: Cell) -> dict[str, float]:
    """Return the features of a cell's baseline as far as they are known, by the names of `FEATURES_OF_CELLS`."""
    by_replicate = list(described(evidence, cell.name).values())
    names = {name for found in by_replicate for name in found}
    rows = {name: np.array([found.get(name, math.nan) for found in by_replicate]) for name in names}
    rows["batch_size"] = np.full(len(by_replicate), float(cell.factors["batch_size"]))
    values = {name: of(rows) for name, (_, of) in FEATURES_OF_CELLS.items()} if by_replicate else {}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _skill(found: Sequence[Validation | None]) -> str:
    """Return the first line: for whom the advice has been better than always saying the mean."""
    skilled = [one.method for one in found if one and one.skilled]
    unskilled = [one.method for one in found if one and not one.skilled]
    if not any(found):
        return f"This advice could not be tried: that takes at least {MIN_TASKS + 1} tasks in the atlas."
    if not skilled:
        return 'This advice has no skill: for tasks that were left out it was no better than "always the mean".'
    rest = f", and no better for {', '.join(unskilled)}" if unskilled else ""
    better = ", ".join(skilled)
    return f'For tasks that were left out, this advice was better than "always the mean" for {better}{rest}.'


def _row(one: Prediction) -> tuple[object, ...]:
    if one.low >= DELTA:
        advice = "use it"
    elif one.high < DELTA:
        advice = "don't"
    else:
        advice = "run the study"
    return one.method, number(one.gain), f"[{number(one.low)}, {number(one.high)}]", number(one.of_mean), advice


def _resembles(one: Prediction) -> str:
    near = "; ".join(
        f"{found.cell} ({one.method} gained {number(found.gain)}; alike in {', '.join(found.alike)})"
        for found in one.neighbours
    )
    return f"It resembles {near}." if near else "It resembles nothing in the atlas that is known of it."


if __name__ == "__main__":
    sys.exit(main())
