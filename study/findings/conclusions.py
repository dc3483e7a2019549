"""Conclusions: from the records of a study, finished or not, to its `Findings`."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from study.findings.across import moderators_of, rules_of, syntheses_of
from study.findings.caveats import caveats_of
from study.findings.content import FINDINGS_VERSION, DeltaStrip, Findings, MethodSummary, RunCounts
from study.findings.evidence import Cell, Evidence, TunedRun, gather, mean_known, planned_runs
from study.findings.hypotheses import evaluate, literature_of
from study.findings.tuning import importances_of, optimism_of, rho_transfers_of, tuning_curves_of
from study.garbage import without_collector
from study.records import LineRecord, RunRecord
from study.specs.budgets import Budget
from study.specs.contenders import Contender, at_equal_epochs, baselines, contender, others_of
from study.specs.spec import StudySpec
from study.specs.tasks import TEST_PARTS, entry_of
from study.stats import (
    RULES,
    Arm,
    Contrast,
    Effect,
    FactorInteraction,
    Interaction,
    RhoResponse,
    compare,
    estimate,
    interaction,
    judge,
    verdict,
)
from study.stats.effects import Unit
from study.stats.estimates import rounded

PRIMARY_METRIC = "test_score"
CORNERS = ("SGD", "SWA", "SAM", "WASAM")  # of the 2×2 whose interaction is reported
DIRECT = (("SAM", "SWA"), ("WASAM", "SAM"), ("WASAM", "SWA"))  # methods that are held against each other
LOSS, CALIBRATION_ERROR = "test_loss", "test_calibration_error"
DELTA_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@without_collector()
def find(
    spec: StudySpec,
    records: Iterable[RunRecord],
    planned: int | None = None,
    lines: Iterable[LineRecord] = (),
    *,
    extended_from: int = 0,
) -> Findings:
    """Return what a study found. Pure: equal records, in whatever order, give equal findings.

    Args:
        spec: The study.
        records: What is measured so far, all of this spec. Cells without a record do not appear.
        planned: Runs that the plan holds; None counts them.
        lines: Losses along lines between methods' weights, as far as measured.
        extended_from: Replicates that the study had before it was extended; 0 if it was not.

    Raises:
        FindingsError: records of a cell that the spec does not hold.
    """
    records, lines = list(records), tuple(lines)
    evidence = gather(spec, records)
    counts = _counts(records, planned_runs(evidence) if planned is None else planned)
    effects = _all_tuned_effects(evidence)
    averaging = _averaging_effects(evidence)
    strips = tuple(strip_of(effect, spec.delta_of(effect.task), spec.alpha) for effect in effects)
    tasks = dict.fromkeys(cell.task for cell in evidence.cells)
    return Findings(
        version=FINDINGS_VERSION,
        study=spec.name,
        question=spec.question,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.hash,
        protocol=spec.protocol,
        verdict_rules={str(name): rule for name, rule in RULES.items()},
        scopes={task: TEST_PARTS[spec.test_part_of(task)] for task in tasks},
        delta=spec.delta,
        deltas={task: spec.delta_of(task) for task in tasks},
        alpha=spec.alpha,
        primary_budget=spec.primary_budget,
        metric=PRIMARY_METRIC,
        methods=spec.methods,
        baseline=next(filter(spec.table.is_baseline, spec.methods)),
        counts=counts,
        summaries=tuple(_summary(evidence, method, effects) for method in others_of(spec)),
        effects=effects,
        direct=_direct_effects(evidence),
        averaging=averaging,
        factor_interactions=_factor_interactions(evidence, effects),
        interactions=_interactions(evidence),
        rho_responses=_rho_responses(evidence),
        selections=tuple(chosen for tried in evidence.tried.values() for chosen in tried.selections.values()),
        delta_strips=strips,
        caveats=tuple(caveats_of(evidence, counts, effects, strips, extended_from)),
        versions=_versions(records),
        devices=tuple(sorted({record.device for record in records} - {""})),
        descriptive=tuple(_descriptive_effects(evidence)),
        hypotheses=evaluate(evidence, effects, averaging, lines),
        syntheses=syntheses_of(evidence, effects),
        moderators=moderators_of(evidence, effects),
        rules=rules_of(evidence, effects),
        tuning_curves=tuning_curves_of(evidence),
        rho_transfers=rho_transfers_of(evidence),
        importances=importances_of(evidence),
        optimism=optimism_of(evidence),
        literature=literature_of(evidence, effects, averaging, lines) if counts.finished else (),
        score_names={task: score.name for task, score in evidence.scores.items()},
        scores=evidence.scores,
        pooled=tuple(dict.fromkeys(cell.task for cell in evidence.pooled)),
        val_examples=evidence.val_examples,
    )


def _counts(records: Iterable[RunRecord], planned: int) -> RunCounts:
    by_status = Counter(record.status for record in records)
    return RunCounts(planned, by_status["completed"], by_status["diverged"], by_status["failed"], by_status["pruned"])


def _versions(records: Iterable[RunRecord]) -> dict[str, str]:
    """Return the versions of all packages that measured; several of one package are listed."""
    seen = sorted({pair for record in records for pair in record.versions.items()})
    return {package: ", ".join(v for p, v in seen if p == package) for package, _ in seen}


def _all_tuned_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return the judged effects under every budget of the study, cell by cell within a budget.

    A comparison that is the same under two budgets is judged once, in the primary family, or the same numbers could
    have two verdicts.
    """
    spec = evidence.spec
    judged = {
        (method, budget): dict(zip(_names(evidence), _tuned_effects(evidence, method, budget), strict=True))
        for budget in spec.budgets
        for method in others_of(spec)
    }
    found = []
    for budget in spec.budgets:
        for cell in _names(evidence):
            for method in others_of(spec):
                alike = _sides(spec, method, budget) == _sides(spec, method, spec.primary_budget)
                family = judged[method, spec.primary_budget if alike else budget]
                found.append(replace(family[cell], budget=budget))
    return tuple(found)


def _names(evidence: Evidence) -> list[str]:
    return [cell.name for cell in evidence.cells]


def _sides(spec: StudySpec, method: str, budget: Budget) -> tuple[Contender, tuple[Contender, ...]]:
    return contender(spec, method, budget), baselines(spec, method, budget)


def _tuned_effects(evidence: Evidence, method: str, budget: Budget) -> tuple[Effect, ...]:
    """Return one judged effect per cell of one method under one budget: a Holm family."""
    spec = evidence.spec
    family = [_tuned_effect(evidence, cell, method, budget, PRIMARY_METRIC) for cell in evidence.cells]
    return judge(family, _deltas(evidence), spec.alpha)


def _tuned_effect(evidence: Evidence, cell: Cell, method: str, budget: Budget, metric: str) -> Effect:
    ours, against = _sides(evidence.spec.as_of(cell.task), method, budget)
    tried, held_against = evidence.of(cell.name, ours), [evidence.of(cell.name, one) for one in against]
    families = evidence.spec.table.families
    trained = families[tried.contender.family]
    alike = [one for one in held_against if trained.trains_with(families[one.contender.family])]
    off = set[int]().union(*(tried.switched_off(one, metric) for one in alike))
    return compare(
        Contrast(cell.name, cell.task, cell.factors, "tuned", method, budget, metric),
        tried.arm(metric),
        [one.arm(metric) for one in held_against],
        planned=evidence.planned_units,
        confirms=evidence.seeds_a_unit,
        unit=_unit(evidence),
        alpha=evidence.spec.alpha,
        off=len(off),
        candidates=max((chosen.candidates for chosen in tried.selections.values()), default=0),
        test_share=_test_share(evidence, cell),
    )


def _test_share(evidence: Evidence, cell: Cell) -> float:
    """Return the test examples of a replicate in those that it trains on, where replicates split the same data."""
    entry = entry_of(cell.task)
    if entry.test != "split" or evidence.spec.protocol == 1:
        return 0.0
    return entry.test_size / cell.train_size


def _unit(evidence: Evidence) -> Unit:
    return "seed" if evidence.spec.one_tuning else "replicate"


def _descriptive_effects(evidence: Evidence) -> Iterable[Effect]:
    """Yield the twins of the tuned effects on the loss, and on the calibration error where it is measured at all."""
    for metric in (LOSS, CALIBRATION_ERROR):
        for budget in evidence.spec.budgets:
            for cell in evidence.cells:
                for method in others_of(evidence.spec):
                    effect = _tuned_effect(evidence, cell, method, budget, metric)
                    if effect.n or metric == LOSS:
                        yield effect


def _direct_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return methods against each other under the primary budget, each pair a Holm family: a description."""
    spec = evidence.spec
    pairs = [pair for pair in DIRECT if {*pair} <= {*spec.methods}]
    families = [[_direct_effect(evidence, cell, *pair) for cell in evidence.cells] for pair in pairs]
    return tuple(effect for family in families for effect in judge(family, _deltas(evidence), spec.alpha))


def _direct_effect(evidence: Evidence, cell: Cell, method: str, other: str) -> Effect:
    spec = evidence.spec.as_of(cell.task)
    ours, theirs = (
        evidence.of(cell.name, contender(spec, name, spec.primary_budget)).arm(PRIMARY_METRIC)
        for name in (method, other)
    )
    return compare(
        Contrast(cell.name, cell.task, cell.factors, "direct", method, spec.primary_budget, PRIMARY_METRIC),
        ours,
        [theirs],
        planned=evidence.planned_units,
        confirms=evidence.seeds_a_unit,
        unit=_unit(evidence),
        alpha=spec.alpha,
    )


def _deltas(evidence: Evidence) -> dict[str, float]:
    """Return δ by task."""
    return {cell.task: evidence.spec.delta_of(cell.task) for cell in evidence.cells}


def _averaging_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return averaged − last within the runs of each averaging method; their own Holm family.

    A run of a loop tests one set of weights, so there is nothing to compare within it.
    """
    spec = evidence.spec
    averaging = [name for name in spec.methods if spec.table[name].weights != "last"]
    within = [cell for cell in evidence.cells if cell.task not in spec.loops]
    family = [_averaging_effect(evidence, cell, method) for cell in within for method in averaging]
    return judge(family, _deltas(evidence), spec.alpha)


def _averaging_effect(evidence: Evidence, cell: Cell, method: str) -> Effect:
    one = contender(evidence.spec, method, "E")
    tried = evidence.of(cell.name, one)
    averaged, last = (
        Arm(name, tried.scores_of(PRIMARY_METRIC, kind), 0, tried.statuses()["diverged"], tried.gradient_evaluations())
        for name, kind in ((method, one.what.weights), (evidence.spec.table.last_of(one.family), "last"))
    )
    return compare(
        Contrast(cell.name, cell.task, cell.factors, "within-run", method, "E", PRIMARY_METRIC),
        averaged,
        [last],
        planned=evidence.planned_units,
        confirms=evidence.seeds_a_unit,
        unit=_unit(evidence),
        alpha=evidence.spec.alpha,
    )


def strip_of(effect: Effect, delta: float, alpha: float) -> DeltaStrip:
    """Return the verdict of an effect at multiples of its δ."""
    deltas = [multiple * delta for multiple in DELTA_MULTIPLES]
    verdicts = tuple((other, verdict(effect, other, alpha)) for other in deltas)
    return DeltaStrip(effect.cell, effect.method, effect.budget, verdicts)


def _summary(evidence: Evidence, method: str, effects: Sequence[Effect]) -> MethodSummary:
    """Sort the cells of one method, each into the first list that applies."""
    spec = evidence.spec
    verdicts: dict[str, dict[str, str]] = {}
    for effect in effects:
        if effect.method == method:
            verdicts.setdefault(effect.cell, {})[effect.budget] = effect.verdict
    places = ("helps", "helps_if_free", "hurts", "null", "undecided")
    cells: dict[str, list[str]] = {place: [] for place in places}
    for cell, by_budget in verdicts.items():
        cells[_place(spec, method, by_budget)].append(cell)
    pooled = {cell.name for cell in evidence.pooled}
    primary = [e for e in effects if e.method == method and e.budget == spec.primary_budget and e.cell in pooled]
    return MethodSummary(
        method=method,
        mean_gain=mean_known(effect.mean for effect in primary),
        cost_ratio=mean_known(_cost_ratio(evidence, cell, method) for cell in _names(evidence)),
        **{place: tuple(names) for place, names in cells.items()},
    )


def _cost_ratio(evidence: Evidence, cell: str, method: str) -> float:
    """Return the gradient evaluations of a run ÷ those of the baseline at the cell's epochs; NaN without runs."""
    spec = evidence.spec_in(cell)
    ours = evidence.of(cell, contender(spec, method, spec.primary_budget)).gradient_evaluations()
    base = next((evidence.of(cell, one) for one in baselines(spec, method, "E")), None)
    theirs = base.gradient_evaluations() if base else math.nan
    return ours / theirs if theirs > 0 else math.nan


def _place(spec: StudySpec, method: str, verdicts: Mapping[str, str]) -> str:
    """Return the list that a cell belongs to, from its verdicts by budget."""
    primary = verdicts[spec.primary_budget]
    paid = spec.primary_budget != "E" or spec.table.relative_passes(method) == 1
    if primary == "helps" and paid:
        return "helps"
    if primary == "hurts":
        return "hurts"
    if verdicts.get("E") == "helps":
        return "helps_if_free"
    return "null" if primary == "no material effect" else "undecided"


def _interactions(evidence: Evidence) -> tuple[Interaction, ...]:
    if not set(CORNERS) <= set(evidence.spec.methods):
        return ()
    return tuple(
        interaction(cell.name, {method: _unit_means(evidence, cell.name, method) for method in CORNERS})
        for cell in evidence.cells
    )


def _unit_means(evidence: Evidence, cell: str, method: str) -> dict[int, float]:
    """Return the mean score by unit at equal epochs, of the weights that validation preferred in each run."""
    return evidence.means(evidence.of(cell, at_equal_epochs(evidence.spec_in(cell), method)).scores(PRIMARY_METRIC))


def _factor_interactions(evidence: Evidence, effects: Sequence[Effect]) -> tuple[FactorInteraction, ...]:
    """Return the interaction of every two factors of two levels each that a task's cells cross, method by method."""
    found = []
    primary = [effect for effect in effects if effect.budget == evidence.spec.primary_budget]
    for task in dict.fromkeys(effect.task for effect in primary):
        for method in others_of(evidence.spec):
            group = [effect for effect in primary if (effect.task, effect.method) == (task, method)]
            levels: dict[str, list[bool | int | float | str]] = {}
            for effect in group:
                for name, value in effect.factors:
                    if value not in levels.setdefault(name, []):
                        levels[name].append(value)
            pairs = itertools.combinations([name for name, values in levels.items() if len(values) == 2], 2)
            found += [_factor_interaction(task, method, pair, levels, group) for pair in pairs if len(levels) == 2]
    return tuple(found)


def _factor_interaction(
    task: str,
    method: str,
    pair: tuple[str, str],
    levels: Mapping[str, Sequence[bool | int | float | str]],
    group: Iterable[Effect],
) -> FactorInteraction:
    gains = {
        tuple(dict(effect.factors)[name] for name in pair): dict(zip(effect.units, effect.differences, strict=True))
        for effect in group
    }
    signs = {
        (levels[pair[0]][i], levels[pair[1]][j]): 1 if i == j else -1 for i, j in itertools.product((0, 1), repeat=2)
    }
    by_cell = [(sign, gains.get(key, {})) for key, sign in signs.items()]
    units = sorted(set.intersection(*(set(own) for _, own in by_cell)))
    size = max((abs(own[unit]) for _, own in by_cell for unit in units), default=0.0)
    result = estimate([rounded(math.fsum(sign * own[unit] for sign, own in by_cell), size) for unit in units])
    return FactorInteraction(
        task, method, pair, (tuple(levels[pair[0]]), tuple(levels[pair[1]])), result.n, result.mean, result.ci95,
        result.p,
    )  # fmt: skip


def _rho_responses(evidence: Evidence) -> tuple[RhoResponse, ...]:
    perturbing = [name for name in evidence.spec.methods if evidence.spec.table[name].family == "sam"]
    return tuple(_rho_response(evidence, cell.name, perturbing) for cell in evidence.cells if perturbing)


def _rho_response(evidence: Evidence, cell: str, perturbing: Iterable[str]) -> RhoResponse:
    spec = evidence.spec_in(cell)
    asked = [contender(spec, method, spec.primary_budget) for method in perturbing]
    searches = [evidence.search(number, cell, one, 1.0) for number in evidence.replicates for one in asked]
    tuned = {one.number: one for search in searches for one in search.runs}
    points = sorted(point for one in tuned.values() for point in _rho_point(one))
    base = evidence.of(cell, at_equal_epochs(spec, spec.table["SAM"].baseline)).selections
    sam = evidence.of(cell, contender(spec, "SAM", spec.primary_budget)).selections
    return RhoResponse(
        cell=cell,
        rho=tuple(rho for rho, _, _, _ in points),
        learning_rate=tuple(rate for _, rate, _, _ in points),
        last=tuple(last for _, _, last, _ in points),
        averaged=tuple(averaged for _, _, _, averaged in points),
        base_best=mean_known(chosen.val_score for chosen in base.values()),
        selected_rho=tuple(chosen.rho for chosen in sam.values()),
    )


def _rho_point(tuned: TunedRun) -> Iterable[tuple[float, float, float, float]]:
    """Yield (rho, learning rate, last, averaged) of a run that was trained to its end."""
    last, average = (tuned.preferred.by_kind.get(kind) for kind in ("last", "swa"))
    if tuned.run.status != "pruned" and last is not None and last.val_score is not None:
        averaged = math.nan if average is None or average.val_score is None else average.val_score
        yield tuned.tried.rho, tuned.tried.learning_rate, last.val_score, averaged
