"""``python -m study.advise``: a few runs of the baseline on a new problem, and what the atlas lets one expect of it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from study.atlas.adding import described
from study.atlas.advice import Prediction, Validation, predict, validate
from study.atlas.card import CARD, validation_table
from study.atlas.cell_means import METHODS, cell_means
from study.atlas.features import FEATURES, features_of
from study.atlas.frames import PARTS, load_gains
from study.atlas.markdown import Gain, Row, number, table
from study.atlas.verdicts import DELTA
from study.command_line import command, execute, refused
from study.data import load_data
from study.driver.own_code import try_own_tasks
from study.driver.resume import find_data
from study.findings.evidence import Evidence, gather
from study.findings.units import FRACTION
from study.plan.agenda import Agenda
from study.plan.cells import Cell, cells, sizes
from study.specs.spec import SpecError, StudySpec, load_spec
from study.stats.clustered import MIN_TASKS
from study.store.folder import ResultsError

_REPLICATES, _TRIALS = 2, 4  # of the probe: enough to pick a rate that is not far off, twice
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
    parser = command(
        "study.advise",
        "Measure what the baseline is like on a problem, and say what gain the atlas lets one expect.",
        _EXAMPLES + validation_of_card(),
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
        return refused(error)


def validation_of_card() -> str:
    """Return the table of the data card that says how good the advice has been."""
    text = CARD.read_text(encoding="utf-8")
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
    known = {method: cell_means(gains, method) for method in METHODS}
    tasks = known["SAM"]["task"].nunique()
    if tasks < MIN_TASKS:
        raise SpecError(f"the atlas in {folder} has {tasks} tasks; advice needs at least {MIN_TASKS}: add parts to it.")
    print(_skill({method: good for method, some in known.items() if (good := validate(some))}))
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
        features = measured_features(evidence, cell)
        found = {method: one for method, some in known.items() if (one := predict(some, features))}
        print(f"\n{cell.name}")
        print(table(_row(method, one) for method, one in found.items()), end="")
        for method, one in list(found.items())[:1]:
            print(_resembles(method, one))
        unknown = [words for name, words in FEATURES.items() if name not in features]
        if unknown:
            print(f"Unknown of this problem: {'; '.join(unknown)}.")
    print(f"\nA guess from other problems, no verdict. What helps on yours: python -m study.run {path}")
    return 0


def measured(spec: StudySpec) -> Evidence:
    """Run a study such as `probe_spec` makes in this process, without Ray, and return its evidence.

    Raises:
        ResultsError: a run failed; its traceback has been printed.
    """
    from study.training.trial import run  # noqa: PLC0415  # torch takes seconds to import

    agenda = Agenda(spec)
    data: dict[str, Any] = {task: load_data(task) for task in agenda.tasks}
    while job := agenda.next_job():
        record = run(job, data[job.task], "cpu", spec.hash)
        if record.status == "failed":
            print(record.error)
            raise ResultsError(f"a run of the baseline failed in the cell {job.cell!r}; mend what stands above.")
        agenda.complete(record)
    return gather(spec, agenda.records)


def measured_features(evidence: Evidence, cell: Cell) -> dict[str, float]:
    """Return the features of a cell's baseline as far as they are known, by the names of `FEATURES`."""
    rows = pd.DataFrame(list(described(evidence, cell.name).values()))
    rows = rows.assign(batch_size=cell.factors["batch_size"], cell=cell.name)
    return dict(features_of(rows, ["cell"]).iloc[0].dropna())


def _skill(found: Mapping[str, Validation]) -> str:
    """Return the first line: for whom the advice is shown to be better than always saying the mean."""
    if not found:
        return f"This advice could not be tried: that takes at least {MIN_TASKS + 1} tasks in the atlas."
    skilled = ", ".join(method for method, one in found.items() if one.skilled)
    rest = ", ".join(method for method, one in found.items() if not one.skilled)
    if not skilled:
        return 'This advice has no skill: for tasks that were left out it is not shown to beat "always the mean".'
    others = f", and is not shown to for {rest}" if rest else ""
    return f'For tasks that were left out, this advice beats "always the mean" for {skilled}{others}.'


def _row(method: str, one: Prediction) -> Row:
    return {
        "method": method,
        "expected gain, 80 % interval": Gain(one.gain, (one.low, one.high)),
        "mean of the atlas": Gain(one.of_mean),
        "advice": "use it" if one.low >= DELTA else "don't" if one.high < DELTA else "run the study",
    }


def _resembles(method: str, one: Prediction) -> str:
    near = "; ".join(
        f"{found.cell} ({method} gained {number(found.gain)}; alike in {', '.join(found.alike)})"
        for found in one.neighbours
    )
    return f"It resembles {near}." if near else "It resembles nothing in the atlas that is known of it."


if __name__ == "__main__":
    execute(main)
