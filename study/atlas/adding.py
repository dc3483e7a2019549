"""From a finished study to a part of the atlas: checked, and put into two tables."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from study.atlas.columns import GAINS, TRIALS
from study.atlas.domains import DOMAINS
from study.atlas.part import Facts, Part, PartError
from study.findings.conclusions import PRIMARY_METRIC
from study.findings.evidence import Confirmed, Evidence, Tried, gather
from study.findings.gains import gains_of
from study.findings.units import FRACTION
from study.plan.agenda import Agenda
from study.records import FEATURES, RunRecord
from study.specs.budgets import Budget
from study.specs.contenders import at_equal_epochs, baselines, contender
from study.specs.factors import factor_of
from study.specs.methods import METHODS, family_of
from study.specs.schedules import schedule_of
from study.specs.spec import StudySpec
from study.stats.effects import MIN_UNITS
from study.stats.estimates import mean_of
from study.store.folder import extended_from, frozen_spec, records_of

CEILING = 2.0  # of the budgets that gains are compared at
_LAST, _BEST = "last", "best"


def short(method: str) -> str:
    """Return what a method is called whatever its base optimizer.

    Example:
        >>> short("AdamW+WASAM"), short("SWA")
        ('WASAM', 'SWA')
    """
    return method.removeprefix(f"{METHODS[method].baseline}+")


def part_of(folder: Path, domain: str | None = None) -> Part:
    """Return what a finished study says as a part of the atlas.

    Args:
        folder: Its results folder.
        domain: Kind of data of tasks that `study.atlas.domains` does not name.

    Raises:
        PartError: it is not finished, not comparable, or was extended after somebody had looked.
        ResultsError: no study, or one whose spec was changed.
    """
    spec = frozen_spec(folder)
    if spec is None:
        raise PartError(f"{folder} was given; it holds no study: give a results folder of `python -m study.run`.")
    records = records_of(folder, spec)
    check_study(folder, spec, records)
    evidence = gather(spec, records)
    known = {task: kind for task in evidence.scores if (kind := DOMAINS.get(task, domain))}
    for task, score in evidence.scores.items():
        if score.unit != FRACTION:
            raise PartError(
                f"{folder} was given, where the score of {task!r} is {score.name}; the gains of the atlas are of "
                "accuracies, and can't be put together with others."
            )
        if task not in known:
            raise PartError(
                f"{folder} was given, whose task {task!r} is of no known kind of data; say which with --domain, such "
                "as --domain tables."
            )
    text = re.sub(r"\A(?:# (?:spec hash|extends): [0-9a-f]{64}\n)+", "", (folder / "spec.toml").read_text("utf-8"))
    settings = {record.job.cell: record.job for record in records}
    facts = Facts(
        name=spec.name,
        spec_hash=spec.hash,
        spec=text,
        domains=known,
        base=_base_of(spec),
        cells={cell.name: dict(settings[cell.name].factors) for cell in evidence.cells},
        tasks={cell.name: cell.task for cell in evidence.cells},
        metrics={task: score.name for task, score in evidence.scores.items()},
        origins={task: _origin(records, task) for task in evidence.scores},
        versions=_versions(records, evidence.scores),
        devices=tuple(sorted({record.device for record in records})),
        runs=len(records),
        diverged=sum(record.status == "diverged" for record in records),
        gradient_evaluations=sum(record.gradient_evaluations for record in records),
    )
    return Part(facts, _gains(evidence, records), _trials(evidence))


def _base_of(spec: StudySpec) -> str:
    return next(filter(spec.table.is_baseline, spec.methods))


def check_study(folder: Path, spec: StudySpec, records: Sequence[RunRecord]) -> None:
    """Make sure that a study can be put beside the others.

    Raises:
        PartError: it can't; the first reason.
    """
    base = _base_of(spec)
    wanted = (base, *(name if base == "SGD" else f"{base}+{name}" for name in ("SWA", "EMA", "SAM", "WASAM")))
    failed = sum(record.status == "failed" for record in records)
    agenda = Agenda(spec, records)
    reasons = (
        (spec.protocol == 1, "is of protocol 1, which has no replicates", "ask its question anew"),
        (
            set(spec.methods) != set(wanted) or {*spec.weights} != {_LAST, _BEST},
            f"has methods = {list(spec.methods)} and weights = {list(spec.weights)}",
            f"give it {list(wanted)} and both kinds of weights",
        ),
        (
            {*spec.budgets} != {"E", "G"} or spec.gradient_ceiling != CEILING,
            f"has budgets = {list(spec.budgets)} and gradient_ceiling = {spec.gradient_ceiling:g}",
            f"give it budgets E and G and a ceiling of {CEILING:g}",
        ),
        (
            spec.replicates < MIN_UNITS,
            f"has replicates = {spec.replicates}",
            f"give it at least {MIN_UNITS}, the fewest that have a verdict",
        ),
        (not spec.features, "has no features", "give it features = true"),
        (
            bool(extended_from(folder)),
            f"was extended after {extended_from(folder)} replicates had been seen",
            "run a new study with another seed",
        ),
        (bool(failed), f"has {failed} failed runs", f"run them again: study.run --resume {folder} --retry-failed"),
        (
            not agenda.finished,
            f"is not finished: {len(agenda.records):,} of at most {agenda.planned[1]:,} runs are there",
            f"go on with study.run --resume {folder}",
        ),
    )
    for applies, what, remedy in reasons:
        if applies:
            raise PartError(f"{folder} was given as a part of the atlas; it {what}; {remedy}.")


def _origin(records: Iterable[RunRecord], task: str) -> str:
    return ", and ".join(
        sorted({record.versions.get(task, "") or record.task_source for record in records if record.job.task == task})
    )


def _versions(records: Iterable[RunRecord], tasks: Iterable[str]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.versions.items():
            if package not in {*tasks}:
                found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def _gains(evidence: Evidence, records: Sequence[RunRecord]) -> pd.DataFrame:
    spec, rows = evidence.spec, []
    baseline_runs = {cell.name: described(evidence, cell.name) for cell in evidence.cells}
    for (cell, method, spent), by_baseline in gains_of(spec, records).items():
        budget = cast(Budget, spent)  # as of every study
        against = baselines(spec, method, budget)
        tried = evidence.of(cell, contender(spec, method, budget))
        scores = evidence.means(tried.scores(PRIMARY_METRIC))
        off = set[int]().union(*(tried.switched_off(evidence.of(cell, base), PRIMARY_METRIC) for base in against))
        for number in sorted(scores):
            over = {
                f"over_{known.reads[0]}{'_longer' if known.lengths[0] > 1 else ''}": by_baseline[known.name].get(number)
                for known in against
            }
            rows.append(
                {"cell": cell, "replicate": number, "method": short(method), "budget": budget, "score": scores[number]}
                | over
                | _pick(evidence, tried, cell, number)
                | {"off": number in off}
                | baseline_runs[cell].get(number, {})
            )
    return pd.DataFrame(rows, columns=[*GAINS])


def _pick(evidence: Evidence, tried: Tried, cell: str, number: int) -> dict[str, Any]:
    chosen, runs = tried.selections[number], tried.runs[number]
    searched = [evidence.search(number, cell, tried.contender, length) for length in tried.contender.lengths]
    fixed_decay = runs[0].run.job.factors["weight_decay"]
    return {
        "learning_rate": chosen.learning_rate,
        "rho": chosen.rho,
        "average_start": chosen.average_start,
        "weight_decay": float(fixed_decay if chosen.weight_decay is None else chosen.weight_decay),
        "weights": chosen.weights,
        "length": chosen.epochs_factor,
        "val_score": chosen.val_score,
        "run_cost": mean_of([one.run.gradient_evaluations for one in runs]),
        "tuning_cost": sum(search.gradient_evaluations for search in searched),
    }


def described(evidence: Evidence, cell: str) -> dict[int, dict[str, float]]:
    """Return what the baseline at equal epochs is like, by replicate: the columns of gains from ``base_score`` on."""
    spec = evidence.spec
    tried = evidence.of(cell, at_equal_epochs(spec, _base_of(spec)))
    scores = evidence.means(tried.scores(PRIMARY_METRIC))
    found = {}
    for number, runs in tried.runs.items():
        job = runs[0].run.job
        steps = job.epochs * (int(job.factors["train_size"]) // int(job.factors["batch_size"]))
        schedule = schedule_of(str(job.factors["schedule"]), float(factor_of(job.factors, "warmup")))
        measured = next((one.run.features for one in runs if one.run.features), {})
        found[number] = {
            "base_score": scores.get(number, math.nan),
            "base_rate": job.learning_rate,
            "end_rate": job.learning_rate * schedule((steps - 1) / steps),
            **_overfitting(runs),
            **{name: measured.get(name, math.nan) for name in FEATURES},
        }
    return found


def _overfitting(runs: Sequence[Confirmed]) -> dict[str, float]:
    """Return how far training runs away from validation, on average over the confirm runs that completed."""
    found: dict[str, list[float]] = {"score_gap": [], "loss_gap": [], "early_stopping": [], "best_epoch": []}
    for confirmed in runs:
        last, best = (confirmed.preferred.by_kind.get(kind) for kind in (_LAST, _BEST))
        if confirmed.run.status != "completed" or last is None or best is None:
            continue
        found["early_stopping"].append(_less(best.val_score, last.val_score))
        found["best_epoch"].append((best.weights_epoch or best.epoch) / best.epoch)
        found["score_gap"].append(_less(last.train_score, last.val_score))
        found["loss_gap"].append(_less(last.val_loss, last.train_loss))
    return {name: mean_of(values) if values else math.nan for name, values in found.items()}


def _less(one: float | None, other: float | None) -> float:
    return math.nan if one is None or other is None else one - other


def _trials(evidence: Evidence) -> pd.DataFrame:
    rows = []
    for (number, cell, _, length), tuned in sorted(evidence.tuned.items(), key=lambda item: item[0]):
        for trial in tuned.runs:
            job = trial.run.job
            rows.append(
                {
                    "cell": cell,
                    "replicate": number,
                    "perturbed": family_of(job).rule is not None,
                    "length": length,
                    "trial": trial.trial,
                    "learning_rate": job.learning_rate,
                    "rho": job.rho,
                    "average_start": job.average_start,
                    "weight_decay": float((job.factors | job.searched_factors)["weight_decay"]),
                    "diverged": trial.run.status == "diverged",
                }
                | {kind: found.val_score for kind, found in trial.preferred.by_kind.items()}
            )
    return pd.DataFrame(rows, columns=[*TRIALS])
