"""Verdicts on results that exist already: the comparisons, judged by the functions that judge a study's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.existing.caveats import caveats_of
from study.existing.columns import Columns
from study.existing.reading import Table
from study.existing.runs import Runs, Side
from study.existing.scores import Kind
from study.findings.across import synthesis_of
from study.findings.conclusions import strip_of
from study.findings.content import FINDINGS_VERSION, Findings, GivenRuns, MethodSummary, ResultsTable, RunCounts
from study.findings.evidence import mean_known
from study.findings.units import pooled_tasks
from study.specs.budgets import OWN_COST
from study.stats import RULES, Arm, Contrast, Effect, compare, judge

SCOPE = "the configurations that were run, over the seeds that they were run with"
PROTOCOL = 0  # none: nobody planned these runs for this question


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a table.

    Attributes:
        runs: Its runs.
        kinds: What the scores of each problem are.
        metric: What they are measured on: ``test_score``, ``val_score``, or ``score`` where nothing says so.
        baselines: Whom methods are held against.
        alpha: Level of a method's family.
        paired: Runs of one seed belong together, wherever a method and its baselines share any.
        guessed: What nobody said.
    """

    runs: Runs
    kinds: Mapping[str, Kind]
    metric: str
    baselines: tuple[str, ...]
    alpha: float
    paired: bool
    guessed: frozenset[str]

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that are held against the baselines."""
        return tuple(method for method in self.runs.methods if method not in self.baselines)


def findings_of(asked: Asked, table: Table, columns: Columns) -> Findings:
    """Return what a table says: the findings of a study, as far as they can be had without its records."""
    families = {method: _family(asked, method) for method in asked.others}
    effects = [effect for problem in asked.runs.sides for own in families.values() for effect in own
               if effect.cell == problem]  # fmt: skip
    strips = tuple(strip_of(effect, asked.kinds[effect.task].delta, asked.alpha) for effect in effects)
    sides = [side for own in asked.runs.sides.values() for side in own.values()]
    lost = sum(len(side.lost) for side in sides)
    scored = sum(len(side.scores) for side in sides)
    told = {unit for effect in effects for unit in effect.units}
    scores = {problem: kind.score for problem, kind in asked.kinds.items()}
    deltas = {problem: kind.delta for problem, kind in asked.kinds.items()}
    pooled = pooled_tasks(scores)
    of_pool = {deltas[problem] for problem in pooled}
    delta = of_pool.pop() if len(of_pool) == 1 else next(iter(deltas.values()))
    return Findings(
        version=FINDINGS_VERSION,
        study=table.name,
        question=_question(asked),
        spec={},
        spec_hash="",
        protocol=PROTOCOL,
        verdict_rules={str(name): rule for name, rule in RULES.items()},
        scopes=dict.fromkeys(asked.kinds, SCOPE),
        delta=delta,
        deltas=deltas,
        alpha=asked.alpha,
        primary_budget=OWN_COST,
        metric=asked.metric,
        methods=(*(name for name in asked.baselines), *asked.others),
        baseline=asked.baselines[0],
        counts=RunCounts(scored + lost, scored, 0, lost),
        summaries=tuple(_summary(method, own, pooled) for method, own in families.items()),
        effects=tuple(effects),
        direct=(),
        averaging=(),
        factor_interactions=(),
        interactions=(),
        rho_responses=(),
        selections=(),
        delta_strips=strips,
        caveats=tuple(caveats_of(asked.runs, table, columns, effects, strips, asked.baselines, scores, asked.paired)),
        versions={},
        devices=(),
        syntheses=tuple(
            synthesis_of(several, delta)
            for own in families.values()
            if (several := [effect for effect in own if effect.n >= 2 and effect.task in pooled])
        ),
        score_names={problem: score.name for problem, score in scores.items()},
        scores=scores,
        pooled=pooled,
        origin=ResultsTable(
            name=table.name,
            format=table.format,
            sha256=table.sha256,
            rows=len(table.rows),
            judged=scored,
            columns=(
                ("method", ", ".join(columns.method)), ("problem", ", ".join(columns.problem)),
                ("seed", columns.seed), ("score", columns.score), ("cost", columns.cost),
            ),
            guessed=tuple(sorted(asked.guessed)),
            baselines=asked.baselines,
            percent=tuple(problem for problem, kind in asked.kinds.items() if kind.divisor != 1),
            runs=tuple(
                _given(asked, problem, method, own[method])
                for problem, own in asked.runs.sides.items()
                for method in (*asked.baselines, *asked.others)
                if method in own
            ),
            labels=tuple((unit, seed) for unit, seed in asked.runs.seeds.items() if unit in told and seed != f"{unit}"),
        ),
    )  # fmt: skip


def _question(asked: Asked) -> str:
    several = "any of " if len(asked.others) > 1 else ""
    return f"Does {several}{_listed(asked.others)} help over {_listed(asked.baselines)}, and how surely?"


def _given(asked: Asked, problem: str, method: str, side: Side) -> GivenRuns:
    labels, kind = asked.runs.seeds, asked.kinds[problem]
    return GivenRuns(
        problem,
        method,
        tuple(labels[unit] for unit in side.scores),
        tuple(kind.of(value) for value in side.scores.values()),
        tuple((labels[unit], reason) for unit, reason in side.lost.items()),
        mean_known(side.costs),
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _family(asked: Asked, method: str) -> tuple[Effect, ...]:
    """Return the judged effects of a method: one for each problem that it and a baseline were run on."""
    family = []
    for problem, own in asked.runs.sides.items():
        held_against = [name for name in asked.baselines if name in own]
        if method in own and held_against:
            family.append(_effect(asked, problem, method, held_against))
    return judge(family, {problem: kind.delta for problem, kind in asked.kinds.items()}, asked.alpha)


def _effect(asked: Asked, problem: str, method: str, baselines: Sequence[str]) -> Effect:
    own, kind = asked.runs.sides[problem], asked.kinds[problem]
    sides = [own[name] for name in (method, *baselines)]
    scored = all(side.scores for side in sides)
    paired = asked.paired and (not scored or shared_units(sides))
    return compare(
        Contrast(problem, problem, (), "given", method, OWN_COST, asked.metric),
        _arm(method, own[method], kind),
        [_arm(name, own[name], kind) for name in baselines],
        planned=len(set[int]().union(*(side.units for side in sides))),
        unit="run",
        alpha=asked.alpha,
        paired=bool(paired) or not scored,
    )


def shared_units(sides: Iterable[Side]) -> set[int]:
    """Return the seeds that several sides have in common, whether their runs have a score or not."""
    return set[int].intersection(*(side.units for side in sides))


def _arm(name: str, side: Side, kind: Kind) -> Arm:
    scores = {unit: {unit: kind.of(value)} for unit, value in side.scores.items()}
    return Arm(name, scores, len(scores), 0, mean_known(side.costs), len(side.units))


def _summary(method: str, family: Sequence[Effect], pooled: Sequence[str]) -> MethodSummary:
    """Sort the problems of one method by their verdicts."""

    def having(*verdicts: str) -> tuple[str, ...]:
        return tuple(effect.cell for effect in family if effect.verdict in verdicts)

    return MethodSummary(
        method=method,
        helps=having("helps"),
        helps_if_free=(),
        hurts=having("hurts"),
        null=having("no material effect"),
        undecided=having("inconclusive", "insufficient data"),
        mean_gain=mean_known(effect.mean for effect in family if effect.task in pooled),
        cost_ratio=mean_known(effect.cost_ratio for effect in family),
    )
