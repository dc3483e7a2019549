"""A part of the atlas: what one finished study says, in two small tables and a page of facts.

It holds no run: of every replicate of every cell what each method scored and gained over every baseline, the
configuration that validation picked, what that cost, and the features of the baseline's run; and of every trial what
validation said of it. That is enough to ask anew what moderates gains, and what a fixed configuration would have cost.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from study.atlas.domains import DOMAINS
from study.files import write_atomically
from study.findings.conclusions import PRIMARY_METRIC
from study.findings.evidence import Confirmed, Evidence, Tried, gather
from study.findings.gains import gains_of
from study.plan.agenda import Agenda
from study.plan.selection import Selection
from study.records import FactorValue, RunRecord
from study.specs.budgets import Budget
from study.specs.contenders import Contender, at_equal_epochs, baselines, contender
from study.specs.factors import factor_of
from study.specs.methods import METHODS, family_of
from study.specs.schedules import schedule_of
from study.specs.spec import StudySpec
from study.stats.effects import MIN_UNITS
from study.stats.estimates import mean_of
from study.store.folder import ResultsError, extended_from, frozen_spec, records_of

PART_VERSION = 1
CEILING = 2.0  # of the budgets that gains are compared at
_KEY = b"wasam-study atlas"  # of a table's facts, in the metadata of its file
_LAST, _BEST = "last", "best"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a part is, apart from its numbers.

    Attributes:
        version: Of this format.
        name: The study's.
        spec_hash, spec: Its hash and its text, of which it is the hash.
        seed, replicates, confirms, trials: As in the spec.
        domains: Kind of data, by task.
        base: The base optimizer: the baseline's name.
        cells: The factors of every cell, by its name.
        tasks: The task of every cell.
        metrics: What the scores of a task are.
        origins: Where the data of a task are from, with licence and hash.
        versions, devices: What measured.
        runs, diverged: Runs in all, and those of them that diverged.
        gradient_evaluations: Of all runs.
    """

    version: int
    name: str
    spec_hash: str
    spec: str
    seed: int
    replicates: int
    confirms: int
    trials: int
    domains: dict[str, str]
    base: str
    cells: dict[str, dict[str, FactorValue]]
    tasks: dict[str, str]
    metrics: dict[str, str]
    origins: dict[str, str]
    versions: dict[str, str]
    devices: tuple[str, ...]
    runs: int
    diverged: int
    gradient_evaluations: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part: its facts, and its tables as `GAINS` and `TRIALS` describe their columns."""

    facts: Facts
    gains: pd.DataFrame
    trials: pd.DataFrame


GAINS = {
    "cell": "name of the cell, unique within a part",
    "replicate": "number of the replicate, from 1",
    "method": "SWA, EMA, SAM or WASAM, whatever the base optimizer",
    "budget": "E: equal epochs; G: up to twice the gradient evaluations",
    "score": "mean test score of the method over the confirm seeds; a higher one is better",
    "over_last": "gain over the baseline's last weights at equal epochs",
    "over_best": "gain over the baseline's best epoch at equal epochs",
    "over_last_longer": "gain over the baseline's last weights at twice the epochs; budget G alone",
    "over_best_longer": "gain over the baseline's best epoch at twice the epochs; budget G alone",
    "learning_rate": "picked by validation; of AdamW its own",
    "rho": "picked; 0 is the base step",
    "average_start": "picked; read where the weights are an average from there on",
    "weight_decay": "picked where it was searched, else the cell's",
    "weights": "what validation preferred in the tune stage: last, best or an average such as swa@0.75",
    "length": "training length that was picked, in multiples of the cell's epochs",
    "off": "the method was switched off: its gain over a baseline is exactly 0 at every seed",
    "val_score": "validation score of the pick in the tune stage: optimistic",
    "run_cost": "gradient evaluations of a confirm run, on average",
    "tuning_cost": "gradient evaluations of the searches that it picked from",
    "base_score": "mean test score of the baseline's best epoch at equal epochs",
    "base_rate": "learning rate that the baseline picked at equal epochs",
    "end_rate": "the same at the last step of the schedule",
    "score_gap": "training minus validation score of the baseline's last weights",
    "loss_gap": "validation minus training loss of the baseline's last weights",
    "early_stopping": "validation score of the baseline's best epoch minus that of its last weights",
    "best_epoch": "the baseline's best epoch, as a share of all",
    "memorized": "share of the wrong training labels that the baseline predicts at its end",
    "gradient_noise": "trace of the covariance of an example's gradient, at the baseline's end",
    "gradient_signal": "squared length of the expected gradient there; unbiased, so it may be below 0",
    "halfway_gradient_noise": "likewise, half-way through training",
    "halfway_gradient_signal": "likewise, half-way through training",
    "top_eigenvalue": "largest eigenvalue of the Hessian of the training loss, at the baseline's end",
    "trace": "trace of that Hessian",
    "worst_case_rise": "largest rise of the training loss found within a radius of 0.05",
    "average_case_rise": "mean rise of the training loss under random perturbations of that size",
}
TRIALS = {
    "cell": "name of the cell",
    "replicate": "number of the replicate; all cells of a part, and all parts of a seed, share its proposals",
    "perturbed": "whether the trajectory is SAM's",
    "length": "training length in multiples of the cell's epochs",
    "trial": "number of the proposal, from 0",
    "learning_rate": "of AdamW its own",
    "rho": "0 is the base step",
    "average_start": "the proposed start of averaging",
    "weight_decay": "where it was searched, else the cell's",
    "diverged": "whether the run diverged",
    **{
        kind: f"validation score of the {words}"
        for kind, words in (
            ("last", "last weights"), ("best", "best epoch"), ("swa", "preferred SWA average"),
            ("ema", "preferred EMA average"),
        )
    },
}  # fmt: skip
_OF_RUNS = (
    "memorized", "gradient_noise", "gradient_signal", "halfway_gradient_noise", "halfway_gradient_signal",
    "top_eigenvalue", "trace", "worst_case_rise", "average_case_rise",
)  # fmt: skip


class PartError(ResultsError):
    """A study that can't be a part of the atlas; the message says why and what to do."""


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
    domains = {cell.task: DOMAINS.get(cell.task, domain) for cell in evidence.cells}
    known = {task: kind for task, kind in domains.items() if kind is not None}
    for task in domains.keys() - known.keys():
        raise PartError(
            f"{folder} was given, whose task {task!r} is of no known kind of data; say which with --domain, such as "
            "--domain tables."
        )
    text = re.sub(r"\A(?:# (?:spec hash|extends): [0-9a-f]{64}\n)+", "", (folder / "spec.toml").read_text("utf-8"))
    statuses = Counter(record.status for record in records)
    settings = {record.job.cell: record.job for record in records}
    facts = Facts(
        version=PART_VERSION,
        name=spec.name,
        spec_hash=spec.hash,
        spec=text,
        seed=spec.seed,
        replicates=spec.replicates,
        confirms=spec.confirms,
        trials=spec.search.trials,
        domains=known,
        base=next(filter(spec.table.is_baseline, spec.methods)),
        cells={cell.name: dict(settings[cell.name].factors) for cell in evidence.cells},
        tasks={cell.name: cell.task for cell in evidence.cells},
        metrics={task: score.name for task, score in evidence.scores.items()},
        origins={task: _origin(records, task) for task in evidence.scores},
        versions=_versions(records, evidence.scores),
        devices=tuple(sorted({record.device for record in records})),
        runs=len(records),
        diverged=statuses["diverged"],
        gradient_evaluations=sum(record.gradient_evaluations for record in records),
    )
    return Part(facts, _gains(evidence, records), _trials(evidence))


def check_study(folder: Path, spec: StudySpec, records: Sequence[RunRecord]) -> None:
    """Make sure that a study can be put beside the others.

    Raises:
        PartError: it can't; the first reason.
    """
    base = next(filter(spec.table.is_baseline, spec.methods))
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


def write_part(part: Part, folder: Path) -> Path:
    """Write a part into a folder of parts, as ``NAME.gains.parquet`` and ``NAME.trials.parquet``; return the first.

    Raises:
        PartError: another study of that name is there.
    """
    held = next((facts for path in part_files(folder) if (facts := read_facts(path)).name == part.facts.name), None)
    if held and held.spec_hash != part.facts.spec_hash:
        raise PartError(
            f"the part {part.facts.name!r} is there already, of another spec (hash {held.spec_hash[:12]}, this one has "
            f"{part.facts.spec_hash[:12]}); give the study another name, or remove the old part from {folder}."
        )
    content = json.dumps(asdict(part.facts), ensure_ascii=False, sort_keys=True).encode()
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / f"{part.facts.name}.gains.parquet"
    for path, frame in ((first, part.gains), (folder / f"{part.facts.name}.trials.parquet", part.trials)):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        parquet.write_table(
            table.replace_schema_metadata({_KEY: content}), sink, compression="zstd", compression_level=19
        )
        write_atomically(path, sink.getvalue().to_pybytes())
    return first


def part_files(folder: Path) -> list[Path]:
    """Return the files of gains in a folder of parts, by name."""
    return sorted(folder.glob("*.gains.parquet"))


def read_facts(path: Path) -> Facts:
    """Return the facts of a part, from either of its files.

    Raises:
        PartError: it is none, or of another version.
    """
    try:
        content = json.loads((parquet.read_schema(path).metadata or {})[_KEY])
        facts = Facts(**content | {"devices": tuple(content["devices"])})
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise PartError(f"{path} is no part of the atlas ({error}); remove it, and add its study anew.") from error
    if facts.version != PART_VERSION:
        raise PartError(f"{path} is of version {facts.version}, and this program reads {PART_VERSION}; add it anew.")
    return facts


def read_part(path: Path) -> Part:
    """Return a part from its file of gains, beside which that of its trials stands; errors as of `read_facts`."""
    other = path.with_name(path.name.replace(".gains.", ".trials."))
    facts = read_facts(path)
    if read_facts(other) != facts:
        raise PartError(f"{path} and {other.name} belong to different studies; remove both, and add the study anew.")
    return Part(facts, pd.read_parquet(path), pd.read_parquet(other))


def _origin(records: Iterable[RunRecord], task: str) -> str:
    found = Counter(
        record.versions.get(task, "") or record.task_source for record in records if record.job.task == task
    )
    return ", and ".join(sorted(found))


def _versions(records: Iterable[RunRecord], tasks: Iterable[str]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.versions.items():
            if package not in {*tasks}:
                found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def _gains(evidence: Evidence, records: Sequence[RunRecord]) -> pd.DataFrame:
    spec, rows = evidence.spec, []
    by_comparison = gains_of(spec, records)
    for (cell, method, spent), by_baseline in by_comparison.items():
        budget = cast(Budget, spent)  # as of every study
        one = contender(spec, method, budget)
        tried = evidence.of(cell, one)
        scores = evidence.means(tried.scores(PRIMARY_METRIC))
        off = set[int]().union(
            *(tried.switched_off(evidence.of(cell, base), PRIMARY_METRIC) for base in baselines(spec, method, budget))
        )
        base = described(evidence, cell)
        for number in sorted(scores):
            over = {
                f"over_{known.reads[0]}{'_longer' if known.lengths[0] > 1 else ''}": by_baseline[known.name].get(number)
                for known in baselines(spec, method, budget)
            }
            rows.append(
                {"cell": cell, "replicate": number, "method": short(method), "budget": budget, "score": scores[number]}
                | over
                | _pick(evidence, tried, cell, number)
                | {"off": number in off}
                | base.get(number, {})
            )
    return pd.DataFrame(rows, columns=[*GAINS])


def _pick(evidence: Evidence, tried: Tried, cell: str, number: int) -> dict[str, Any]:
    chosen = tried.selections[number]
    costs = [one.run.gradient_evaluations for one in tried.runs[number]]
    searched = [evidence.search(number, cell, tried.contender, length) for length in tried.contender.lengths]
    return {
        "learning_rate": chosen.learning_rate,
        "rho": chosen.rho,
        "average_start": chosen.average_start,
        "weight_decay": _decay(chosen, tried.runs[number][0].run),
        "weights": chosen.weights,
        "length": chosen.epochs_factor,
        "val_score": chosen.val_score,
        "run_cost": mean_of(costs),
        "tuning_cost": sum(search.gradient_evaluations for search in searched),
    }


def _decay(chosen: Selection, run: RunRecord) -> float:
    return float(run.job.factors["weight_decay"] if chosen.weight_decay is None else chosen.weight_decay)


def described(evidence: Evidence, cell: str) -> dict[int, dict[str, float]]:
    """Return what the baseline at equal epochs is like, by replicate."""
    spec = evidence.spec
    tried = evidence.of(cell, at_equal_epochs(spec, next(filter(spec.table.is_baseline, spec.methods))))
    scores = evidence.means(tried.scores(PRIMARY_METRIC))
    found = {}
    for number, runs in tried.runs.items():
        job = runs[0].run.job
        rate = job.learning_rate
        steps = job.epochs * (int(job.factors["train_size"]) // int(job.factors["batch_size"]))
        schedule = schedule_of(str(job.factors["schedule"]), float(factor_of(job.factors, "warmup")))
        features = next((one.run.features for one in runs if one.run.features), {})
        found[number] = (
            {"base_score": scores.get(number, math.nan), "base_rate": rate}
            | {"end_rate": rate * schedule((steps - 1) / steps)}
            | _overfitting(runs, tried.contender)
            | {name: features.get(name, math.nan) for name in _OF_RUNS}
        )
    return found


def _overfitting(runs: Sequence[Confirmed], one: Contender) -> dict[str, float]:
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
            kinds = {kind: found.val_score for kind, found in trial.preferred.by_kind.items()}
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
                | {kind: kinds.get(kind) for kind in ("last", "best", "swa", "ema")}
            )
    return pd.DataFrame(rows, columns=[*TRIALS])
