"""Caveats of results that exist already: what nobody planned for this question, and what the table lacks for it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from study.existing.columns import bare, listed
from study.existing.question import Question
from study.existing.runs import Runs
from study.existing.trackers import SETTINGS
from study.existing.values import label_of
from study.findings.caveats import depending_on_delta, score_caveats
from study.findings.content import Caveat, DeltaStrip
from study.findings.units import pooled_tasks
from study.stats import Effect
from study.stats.effects import FEW_REPLICATES, MIN_UNITS

_SETTING: Final = re.compile(
    r"^(lr|learning_?rate|weight_?decay|wd|momentum|rho|batch_?size|epochs|dropout|warmup|width|depth|hidden|layers"
    r"|arch|architecture|model|network|net|backbone|schedule|scheduler|augmentation|split|fold|data|dataset|task)$"
)
_NO_SETTING: Final = re.compile(  # names of a run, and where it ran
    r"seed|name|dir|path|file|host|node|device|gpu|rank|port|url|uuid|date|time|version|^id$|_id$"
)
_EQUAL_COST: Final = 1.02  # costs nearer than this are called equal


def caveats_of(asked: Question, effects: Sequence[Effect], strips: Iterable[DeltaStrip]) -> list[Caveat]:
    """Return every caveat: of how the results were made, then of the runs, then of the verdicts."""
    scores = {problem: kind.score for problem, kind in asked.kinds.items()}
    return [
        *_tuning(asked),
        *_selected(asked.columns.score),
        *_unpaired(effects, asked),
        *_folds(asked.columns.seed),
        *_few(effects),
        *_left_out(asked.runs),
        *_without_score(asked.runs),
        *(caveat for effect in effects for caveat in _missing_pairs(asked.runs, effect)),
        *_not_everywhere(asked.runs, asked.baselines),
        *score_caveats(scores, pooled_tasks(scores)),
        *_cost(effects, asked.columns.cost),
        *(found for strip in strips for found in depending_on_delta(strip)),
    ]


def _tuning(asked: Question) -> Iterable[Caveat]:
    detail = (
        "Nothing was tuned here, and how these methods were tuned is not known: a gain may be that of the method that "
        "was tuned with more care. The runs are the units, so verdicts speak of the configurations that were run, as "
        "if each method had one tuning; another tuning may pick others."
    )
    yield Caveat("not tuned here", "", "", detail)
    varied: dict[str, set[str]] = {}
    settings = _settings(asked)
    for own in asked.runs.sides.values():
        for method, side in own.items():
            for name in settings:
                if len({label_of(row.get(name)) for row in side.rows}) > 1:
                    varied.setdefault(method, set()).add(bare(name))
    for method, names in varied.items():
        detail = (
            f"The runs of {method} differ in {listed(sorted(names))}: its score is the mean over the configurations "
            "that were tried, not that of one that was chosen."
        )
        yield Caveat("several configurations", "", method, detail)


def _settings(asked: Question) -> list[str]:
    """Return the columns that say how a run was made; not those that name the run, or where it ran."""
    return [
        name
        for name in asked.table.columns
        if name not in asked.columns.used
        and not _NO_SETTING.search(bare(name).lower())
        and ((name.partition(".")[0] in SETTINGS and "." in name) or _SETTING.match(bare(name).lower()))
    ]


def _selected(score: str) -> Iterable[Caveat]:
    words = set(re.findall(r"[a-z]+", score.lower()))
    if words & {"val", "valid", "validation", "dev"} or score == "value":
        detail = (
            f"{score} is measured on what settings were chosen with, where they were: the more a method "
            "was searched, the better it looks."
        )
        yield Caveat("selected score", "", "", detail)
    elif words & {"best", "max", "min"}:
        detail = (
            f"{score} is the best of several measurements of a run by its name; where the test part itself "
            "picked it, all methods look better than they are, and those that vary more the most."
        )
        yield Caveat("selected score", "", "", detail)


def _unpaired(effects: Sequence[Effect], asked: Question) -> Iterable[Caveat]:
    apart = sum(effect.apart is not None for effect in effects)
    if apart:
        seedless = "their runs share no seed" if asked.columns.seed else "no column says which runs share a seed"
        reason = seedless if asked.said.paired else "as was asked"
        some = "" if apart == len(effects) else f"In {apart} of {len(effects)} comparisons runs"
        detail = (
            f"{some or 'Runs'} are not paired ({reason}): means are held against each other by Welch's t test, which "
            "sees small gains less often, and nothing is known of gains run by run."
        )
        yield Caveat("unpaired", "", "", detail)
    if asked.runs.alike:
        detail = (
            f"{_rows(asked.runs.alike)} equal to an earlier one in every column: if these are copies, n is too large "
            "and every p too small; a column that tells runs apart, such as a seed, would show it."
        )
        yield Caveat("unpaired", "", "", detail)


def _folds(seed: str) -> Iterable[Caveat]:
    if "fold" in bare(seed).lower():
        detail = (
            f"The units are folds ({seed}), whose training parts share most of their examples: their scores move "
            "together, intervals are too narrow, and verdicts come too easily (Nadeau & Bengio 2003). Splits that are "
            "drawn anew share less, and new data nothing."
        )
        yield Caveat("folds", "", "", detail)


def _few(effects: Sequence[Effect]) -> Iterable[Caveat]:
    fewest = min((effect.n for effect in effects), default=0)
    few = sum(effect.n < FEW_REPLICATES for effect in effects)
    if few:
        consequence = (
            "intervals are wide and lean on scores being normal"
            if fewest >= MIN_UNITS
            else f"below {MIN_UNITS} there are estimates and no verdict"
        )
        what = "pairs" if all(effect.apart is None for effect in effects) else "pairs, or runs of a side"
        where = f"{few} of {len(effects)} comparisons have fewer than {FEW_REPLICATES} {what} (down to {fewest})"
        yield Caveat("few replicates", "", "", f"{where}: {consequence}.")


def _left_out(runs: Runs) -> Iterable[Caveat]:
    for reason, count in runs.left_out.items():
        if count:
            yield Caveat("rows left out", "", "", f"{_rows(count)} left out: {reason}.")


def _without_score(runs: Runs) -> Iterable[Caveat]:
    by_method: dict[str, Counter[str]] = {}
    planned: Counter[str] = Counter()
    for own in runs.sides.values():
        for method, side in own.items():
            by_method.setdefault(method, Counter()).update(side.lost.values())
            planned[method] += len(side.units)
    for method, reasons in by_method.items():
        if reasons:
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            detail = (
                f"{method}: {reasons.total()} of {planned[method]} runs can't be used ({told}). A study counts a "
                "diverged run at chance level; here it is missing, which flatters a method that diverges: put that "
                "score in its row, as of a run that finished, to have it count."
            )
            yield Caveat("rows without a score", "", method, detail)


def _missing_pairs(runs: Runs, effect: Effect) -> Iterable[Caveat]:
    if effect.apart is not None or effect.n >= effect.planned:
        return
    own = runs.sides[effect.cell]
    names = (effect.method, *(one.baseline for one in effect.against))
    every = set[int]().union(*(own[name].units for name in names))
    without = {name: every - own[name].scores.keys() for name in names}
    lacking = [
        f"{name} lacks seed{'s' if len(units) > 1 else ''} {listed([runs.seeds[unit] for unit in sorted(units)])}"
        for name, units in without.items()
        if units
    ]
    no_verdict = "; with more than 20 % missing there is no verdict, and --unpaired uses all runs"
    remedy = no_verdict if effect.insufficient else ""
    of_all = f"{effect.planned - effect.n} of {effect.planned} seeds of {effect.method} in {effect.cell}"
    detail = f"{of_all} have no pair: {'; '.join(lacking)}. They are in no gain{remedy}."
    yield Caveat("missing pairs", effect.cell, effect.method, detail)


def _not_everywhere(runs: Runs, baselines: Sequence[str]) -> Iterable[Caveat]:
    problems = len(runs.sides)
    for problem, own in runs.sides.items():
        absent = [name for name in baselines if name not in own]
        if absent:
            left = sum(len(side.units) for method, side in own.items() if method not in baselines)
            consequence = (
                f"nothing is judged there, and {_rows(left)} in no comparison"
                if len(absent) == len(baselines)
                else "methods are held against the others there"
            )
            detail = f"{problem} has no run of {' and '.join(absent)}: {consequence}."
            yield Caveat("not run everywhere", problem, "", detail)
    for method in runs.methods:
        run_on = [problem for problem, own in runs.sides.items() if method in own]
        if method not in baselines and len(run_on) < problems:
            detail = (
                f"{method} was run on {len(run_on)} of {problems} problems ({listed(run_on)}): nothing is known of it "
                "on the others, and its correction is for those alone."
            )
            yield Caveat("not run everywhere", "", method, detail)


def _cost(effects: Sequence[Effect], cost: str) -> Iterable[Caveat]:
    if not cost:
        detail = "What a run cost is not known: verdicts hold at whatever each method spent, which need not be equal."
        yield Caveat("cost", "", "", detail)
    ratios: dict[str, list[float]] = {}
    for effect in effects:
        if math.isfinite(effect.cost_ratio) and not 1 / _EQUAL_COST <= effect.cost_ratio <= _EQUAL_COST:
            ratios.setdefault(effect.method, []).append(effect.cost_ratio)
    for method, found in ratios.items():
        low, high = min(found), max(found)
        times = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        detail = f"{method} costs {times} times what its baseline does ({bare(cost)}); verdicts don't count that."
        yield Caveat("cost", "", method, detail)


def _rows(count: int) -> str:
    return f"{count} row{' is' if count == 1 else 's are'}"
