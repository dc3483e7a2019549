"""Verdicts on results that exist already: the comparisons, judged by the functions that judge a study's."""

from collections.abc import Sequence

from study.existing.caveats import caveats_of
from study.existing.question import Question
from study.existing.runs import Side
from study.existing.scores import Kind
from study.existing.trackers import TableError
from study.findings.across import synthesis_of
from study.findings.conclusions import strip_of
from study.findings.content import FINDINGS_VERSION, Findings, GivenRuns, MethodSummary, ResultsTable, RunCounts
from study.findings.evidence import mean_known
from study.findings.units import pooled_tasks
from study.specs.budgets import OWN_COST
from study.stats import RULES, Arm, Contrast, Effect, compare, judge

SCOPE = "the configurations that were run, over the seeds that they were run with"
PROTOCOL = 0  # none: nobody planned these runs for this question


def findings_of(asked: Question) -> Findings:
    """Return what a table says: the findings of a study, as far as they can be had without its records.

    Raises:
        TableError: there is nothing to compare.
    """
    families = {method: _family(asked, method) for method in asked.others}
    effects = tuple(
        effect for problem in asked.runs.sides for own in families.values() for effect in own if effect.cell == problem
    )
    if not effects:
        raise TableError(f"no problem has runs of {' or '.join(asked.baselines)} and of another method.")
    strips = tuple(strip_of(effect, asked.kinds[effect.task].delta, asked.said.alpha) for effect in effects)
    sides = [side for own in asked.runs.sides.values() for side in own.values()]
    lost, scored = sum(len(side.lost) for side in sides), sum(len(side.scores) for side in sides)
    scores = {problem: kind.score for problem, kind in asked.kinds.items()}
    deltas = {problem: kind.delta for problem, kind in asked.kinds.items()}
    pooled = pooled_tasks(scores)
    of_pool = {deltas[problem] for problem in pooled}
    several = [[effect for effect in own if effect.n >= 2 and effect.task in pooled] for own in families.values()]
    return Findings(
        version=FINDINGS_VERSION,
        study=asked.table.name,
        question=_question(asked),
        spec={},
        spec_hash="",
        protocol=PROTOCOL,
        verdict_rules={str(name): rule for name, rule in RULES.items()},
        scopes=dict.fromkeys(asked.kinds, SCOPE),
        delta=of_pool.pop() if len(of_pool) == 1 else next(iter(deltas.values())),
        deltas=deltas,
        alpha=asked.said.alpha,
        primary_budget=OWN_COST,
        metric=asked.metric,
        methods=(*asked.baselines, *asked.others),
        baseline=asked.baselines[0],
        counts=RunCounts(scored + lost, scored, 0, lost),
        summaries=tuple(_summary(method, own) for method, own in families.items()),
        effects=effects,
        delta_strips=strips,
        caveats=tuple(caveats_of(asked, effects, strips)),
        syntheses=tuple(synthesis_of(group) for group in several if group),
        score_names={problem: score.name for problem, score in scores.items()},
        scores=scores,
        pooled=pooled,
        origin=_origin(asked, scored, effects),
    )


def _origin(asked: Question, scored: int, effects: Sequence[Effect]) -> ResultsTable:
    table, columns, runs = asked.table, asked.columns, asked.runs
    told = {unit for effect in effects for unit in effect.units}
    return ResultsTable(
        name=table.name,
        format=table.format,
        sha256=table.sha256,
        rows=len(table.rows),
        judged=scored,
        columns=(
            ("method", ", ".join(columns.method)), ("problem", ", ".join(columns.problem)),
            ("seed", columns.seed), ("score", columns.score), ("cost", columns.cost),
        ),
        guessed=asked.guessed,
        baselines=asked.baselines,
        percent=tuple(problem for problem, kind in asked.kinds.items() if kind.divisor != 1),
        runs=tuple(
            _given(asked, problem, method, own[method])
            for problem, own in runs.sides.items()
            for method in (*asked.baselines, *asked.others)
            if method in own
        ),
        labels=tuple((unit, seed) for unit, seed in runs.seeds.items() if unit in told and seed != f"{unit}"),
    )  # fmt: skip


def _question(asked: Question) -> str:
    others, baselines = (" and ".join(names) for names in (asked.others, asked.baselines))
    return f"Does {'any of ' if len(asked.others) > 1 else ''}{others} help over {baselines}, and how surely?"


def _given(asked: Question, problem: str, method: str, side: Side) -> GivenRuns:
    labels, kind = asked.runs.seeds, asked.kinds[problem]
    return GivenRuns(
        problem,
        method,
        tuple(labels[unit] for unit in side.scores),
        tuple(kind.of(value) for value in side.scores.values()),
        tuple((labels[unit], reason) for unit, reason in side.lost.items()),
        mean_known(side.costs),
    )


def _family(asked: Question, method: str) -> tuple[Effect, ...]:
    """Return the judged effects of a method: one for each problem that it and a baseline were run on."""
    family = []
    for problem, own in asked.runs.sides.items():
        held_against = [name for name in asked.baselines if name in own]
        if method in own and held_against:
            family.append(_effect(asked, problem, method, held_against))
    return judge(family, {problem: kind.delta for problem, kind in asked.kinds.items()}, asked.said.alpha)


def _effect(asked: Question, problem: str, method: str, baselines: Sequence[str]) -> Effect:
    own, kind = asked.runs.sides[problem], asked.kinds[problem]
    sides = [own[name] for name in (method, *baselines)]
    shared = set[int].intersection(*(side.units for side in sides))  # whether their runs have a score or not
    return compare(
        Contrast(problem, problem, (), "given", method, OWN_COST, asked.metric),
        _arm(method, own[method], kind),
        [_arm(name, own[name], kind) for name in baselines],
        planned=len(set[int]().union(*(side.units for side in sides))),
        unit="run",
        alpha=asked.said.alpha,
        paired=bool(asked.said.paired and shared) or not all(side.scores for side in sides),
    )


def _arm(name: str, side: Side, kind: Kind) -> Arm:
    scores = {unit: {unit: kind.of(value)} for unit, value in side.scores.items()}
    return Arm(name, scores, len(scores), 0, mean_known(side.costs), len(side.units))


def _summary(method: str, family: Sequence[Effect]) -> MethodSummary:
    """Sort the problems of one method by their verdicts."""
    lists = {
        "helps": "helps", "hurts": "hurts", "no material effect": "null", "inconclusive": "undecided",
        "insufficient data": "undecided",
    }  # fmt: skip
    places = {effect.cell: lists[effect.verdict] for effect in family}
    return MethodSummary.of(method, places, mean_known(effect.cost_ratio for effect in family))
