"""Units: what the scores of a study's tasks are counted in, and which of them can be put together."""

from collections import Counter
from collections.abc import Iterable, Mapping

from study.findings.content import ScoreUnit
from study.records import RunRecord
from study.specs.tasks import entry_of

FRACTION = "fraction"


def score_units(records: Iterable[RunRecord], tasks: Iterable[str]) -> dict[str, ScoreUnit]:
    """Return what the score of each task is, as its runs say; where none says so, as the task's entry does."""
    told: dict[str, ScoreUnit] = {}
    for record in records:
        if record.metric and record.job.task not in told:
            scores = (one.val_score for one in record.measurements if one.val_score is not None)
            inside = all(0 <= score <= 1 for score in scores)
            told[record.job.task] = _unit(record.metric, record.unit, record.higher_is_better, share=inside)
    return {task: told.get(task) or _unit(entry_of(task).metric, "", True) for task in dict.fromkeys(tasks)}


def _unit(name: str, unit: str, higher_is_better: bool, *, share: bool = True) -> ScoreUnit:
    """Whatever is called an accuracy is a fraction, unless it has a unit of its own or goes beyond 1."""
    share = share and not unit and name.lower().endswith("accuracy")
    return ScoreUnit(name, FRACTION if share else unit, higher_is_better)


def pooled_tasks(scores: Mapping[str, ScoreUnit]) -> tuple[str, ...]:
    """Return the tasks whose scores have the most common unit; of several as common, the first."""
    counts = Counter(score.measure for score in scores.values())
    chosen = max(counts, key=lambda measure: counts[measure], default="")
    return tuple(task for task, score in scores.items() if score.measure == chosen)
