"""Conclusions: from the records of a study, finished or not, to its `Findings`."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from study.findings.across import moderators_of, rules_of, syntheses_of
from study.findings.caveats import caveats_of
from study.findings.content import FINDINGS_VERSION, DeltaStrip, Findings, MethodSummary, RunCounts
from study.findings.evidence import Arm, Cell, Evidence, TunedRun, gather, mean_known, planned_runs, ratio
from study.findings.hypotheses import evaluate, literature_of
from study.findings.tuning import importances_of, optimism_of, rho_transfers_of, tuning_curves_of
from study.garbage import without_collector
from study.records import LineRecord, RunRecord
from study.specs.methods import METHODS, epochs_factor_of_baseline, is_baseline, last_of, relative_passes
from study.specs.spec import Budget, StudySpec
from study.specs.tasks import entry_of
from study.stats import (
    Contrast,
    DecayByAveraging,
    Effect,
    Interaction,
    RhoResponse,
    compare,
    interaction,
    judge,
    verdict,
)

PRIMARY_METRIC = "test_score"
CORNERS = ("SGD", "SWA", "SAM", "WASAM")  # of the 2×2 whose interaction is reported
LOSS, CALIBRATION_ERROR = "test_loss", "test_calibration_error"
DELTA_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@without_collector()
def find(
    spec: StudySpec, records: Iterable[RunRecord], planned: int | None = None, lines: Iterable[LineRecord] = ()
) -> Findings:
    """Return what a study found. Pure: equal records, in whatever order, give equal findings.

    Args:
        spec: The study.
        records: What is measured so far, all of this spec. Cells without a record do not appear.
        planned: Runs that the plan holds; None counts them.
        lines: Losses along lines between methods' weights, as far as measured.

    Raises:
        FindingsError: records of a cell that the spec does not hold.
    """
    records, lines = list(records), tuple(lines)
    evidence = gather(spec, records)
    counts = _counts(records, planned_runs(evidence) if planned is None else planned)
    effects = _all_tuned_effects(evidence)
    averaging = _averaging_effects(evidence)
    strips = tuple(_strip(effect, spec) for effect in effects)
    return Findings(
        version=FINDINGS_VERSION,
        study=spec.name,
        question=spec.question,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.hash,
        delta=spec.delta,
        alpha=spec.alpha,
        primary_budget=spec.primary_budget,
        metric=PRIMARY_METRIC,
        methods=spec.methods,
        baseline=next(filter(is_baseline, spec.methods)),
        counts=counts,
        summaries=tuple(_summary(spec, method, effects) for method in _others(spec)),
        effects=effects,
        averaging=averaging,
        interactions=_interactions(evidence),
        decay_by_averaging=_decay_by_averaging(averaging),
        rho_responses=_rho_responses(evidence),
        selections=tuple(arm.selection for arm in evidence.arms.values() if arm.selection),
        delta_strips=strips,
        caveats=tuple(caveats_of(evidence, counts, effects, strips)),
        versions=_versions(records),
        devices=tuple(sorted({record.device for record in records} - {""})),
        descriptive=tuple(_descriptive_effects(evidence)),
        hypotheses=evaluate(evidence, effects, averaging, lines),
        syntheses=syntheses_of(spec, effects),
        moderators=moderators_of(evidence, effects),
        rules=rules_of(spec, effects),
        tuning_curves=tuning_curves_of(evidence),
        rho_transfers=rho_transfers_of(evidence),
        importances=importances_of(evidence),
        optimism=optimism_of(evidence),
        literature=literature_of(evidence, effects, averaging, lines) if counts.finished else (),
        score_names={cell.task: entry_of(cell.task).metric for cell in evidence.cells},
    )


def _others(spec: StudySpec) -> list[str]:
    return [method for method in spec.methods if not is_baseline(method)]


def _counts(records: Iterable[RunRecord], planned: int) -> RunCounts:
    by_status = Counter(record.status for record in records)
    return RunCounts(planned, by_status["completed"], by_status["diverged"], by_status["failed"], by_status["pruned"])


def _versions(records: Iterable[RunRecord]) -> dict[str, str]:
    """Return the versions of all packages that measured; several of one package are listed."""
    seen = sorted({pair for record in records for pair in record.versions.items()})
    return {package: ", ".join(v for p, v in seen if p == package) for package, _ in seen}


def _all_tuned_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return the judged effects under every budget of the study.

    A method that costs what its baseline costs is compared with the same runs under several budgets. That is one
    comparison: it is judged once, in the primary family, or the same numbers could have two verdicts.
    """
    spec = evidence.spec
    judged = {budget: _tuned_effects(evidence, budget) for budget in spec.budgets}

    def factor(effect: Effect) -> float:
        return epochs_factor_of_baseline(effect.method, effect.budget, spec.reference_times)

    return tuple(
        replace(primary, budget=budget) if factor(effect) == factor(primary) else effect
        for budget in spec.budgets
        for effect, primary in zip(judged[budget], judged[spec.primary_budget], strict=True)
    )


def _tuned_effects(evidence: Evidence, budget: Budget) -> tuple[Effect, ...]:
    """Return one judged effect per cell × method under one budget: the primary family of that budget."""
    spec = evidence.spec
    family = [
        _tuned_effect(evidence, cell, method, budget, PRIMARY_METRIC)
        for cell in evidence.cells
        for method in _others(spec)
    ]
    return judge(family, spec.delta, spec.alpha)


def _tuned_effect(evidence: Evidence, cell: Cell, method: str, budget: Budget, metric: str) -> Effect:
    arm = evidence.arm(cell.name, method)
    baseline = METHODS[method].baseline
    held_against = evidence.arm(
        cell.name, baseline, epochs_factor_of_baseline(method, budget, evidence.spec.reference_times)
    )
    return compare(
        Contrast(cell.name, cell.task, cell.factors, "tuned", method, baseline, budget, metric),
        arm.selected(metric),
        held_against.selected(metric),
        planned=evidence.spec.confirm_seeds,
        alpha=evidence.spec.alpha,
        diverged=(arm.statuses()["diverged"], held_against.statuses()["diverged"]),
        cost_ratio=ratio(arm, held_against),
    )


def _descriptive_effects(evidence: Evidence) -> Iterable[Effect]:
    """Yield the twins of the tuned effects on the loss, and on the calibration error where it is measured at all."""
    for metric in (LOSS, CALIBRATION_ERROR):
        for budget in evidence.spec.budgets:
            for cell in evidence.cells:
                for method in _others(evidence.spec):
                    effect = _tuned_effect(evidence, cell, method, budget, metric)
                    if effect.n or metric == LOSS:
                        yield effect


def _averaging_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return averaged − last within the runs of each averaging method; their own Holm family."""
    spec = evidence.spec
    averaging = [name for name in spec.methods if METHODS[name].weights != "last"]
    family = [
        _averaging_effect(evidence, cell, method, evidence.arm(cell.name, method))
        for cell in evidence.cells
        for method in averaging
    ]
    return judge(family, spec.delta, spec.alpha)


def _averaging_effect(evidence: Evidence, cell: Cell, method: str, arm: Arm) -> Effect:
    last = last_of(METHODS[method].family)
    chosen = arm.selection
    average = chosen.average if chosen else None
    diverged = arm.statuses()["diverged"]
    return compare(
        Contrast(cell.name, cell.task, cell.factors, "within-run", method, last, "E", PRIMARY_METRIC),
        arm.values(PRIMARY_METRIC, average) if average else {},
        arm.values(PRIMARY_METRIC, "last"),
        planned=evidence.spec.confirm_seeds,
        alpha=evidence.spec.alpha,
        diverged=(diverged, diverged),
        cost_ratio=ratio(arm, arm),
    )


def _strip(effect: Effect, spec: StudySpec) -> DeltaStrip:
    deltas = [multiple * spec.delta for multiple in DELTA_MULTIPLES]
    verdicts = tuple((delta, verdict(effect, delta, spec.alpha)) for delta in deltas)
    return DeltaStrip(effect.cell, effect.method, effect.budget, verdicts)


def _summary(spec: StudySpec, method: str, effects: Sequence[Effect]) -> MethodSummary:
    """Sort the cells of one method, each into the first list that applies."""
    verdicts: dict[str, dict[str, str]] = {}
    for effect in effects:
        if effect.method == method:
            verdicts.setdefault(effect.cell, {})[effect.budget] = effect.verdict
    places = ("helps", "helps_if_free", "hurts", "null", "undecided")
    cells: dict[str, list[str]] = {place: [] for place in places}
    for cell, by_budget in verdicts.items():
        cells[_place(spec, method, by_budget)].append(cell)
    primary = [e for e in effects if e.method == method and e.budget == spec.primary_budget]
    epochs_factor = epochs_factor_of_baseline(method, spec.primary_budget, spec.reference_times)
    return MethodSummary(
        method=method,
        mean_gain=mean_known(effect.mean for effect in primary),
        cost_ratio=mean_known(effect.cost_ratio * epochs_factor for effect in primary),
        **{place: tuple(names) for place, names in cells.items()},
    )


def _place(spec: StudySpec, method: str, verdicts: Mapping[str, str]) -> str:
    """Return the list that a cell belongs to, from its verdicts by budget."""
    primary = verdicts[spec.primary_budget]
    coincide = relative_passes(method) == 1
    if set(verdicts.values()) == {"helps"} and (coincide or "G" in verdicts):
        return "helps"
    if primary == "hurts":
        return "hurts"
    if verdicts.get("E") == "helps" and not coincide:
        return "helps_if_free"
    return "null" if primary == "no material effect" else "undecided"


def _interactions(evidence: Evidence) -> tuple[Interaction, ...]:
    if not set(CORNERS) <= set(evidence.spec.methods):
        return ()
    return tuple(
        interaction(
            cell.name,
            {method: evidence.arm(cell.name, method).selected(PRIMARY_METRIC) for method in CORNERS},
        )
        for cell in evidence.cells
    )


def _decay_by_averaging(averaging: Iterable[Effect]) -> tuple[DecayByAveraging, ...]:
    """Group the within-run effects by all varied factors but the schedule; none unless that varies."""
    found: dict[tuple[str, str], list[DecayByAveraging]] = {}
    for effect in averaging:
        others = dict(effect.factors)
        if "schedule" not in others:
            continue
        schedule = str(others.pop("schedule"))
        group = " ".join([effect.task, *(f"{name}={value}" for name, value in others.items())])
        family = METHODS[effect.method].family
        last, averaged = mean_known(effect.baseline_values), mean_known(effect.method_values)
        found.setdefault((group, family), []).append(
            DecayByAveraging(group, schedule, family, effect.n, last, averaged, effect.mean, effect.ci95)
        )
    return tuple(entry for entries in found.values() if len(entries) > 1 for entry in entries)


def _rho_responses(evidence: Evidence) -> tuple[RhoResponse, ...]:
    perturbing = [name for name in evidence.spec.methods if METHODS[name].family == "sam"]
    return tuple(_rho_response(evidence, cell.name, perturbing) for cell in evidence.cells if perturbing)


def _rho_response(evidence: Evidence, cell: str, perturbing: Iterable[str]) -> RhoResponse:
    searches = [evidence.search(cell, method) for method in perturbing]
    tuned = {one.number: one for search in searches for one in search.runs}
    points = sorted(point for one in tuned.values() for point in _rho_point(one))
    base, sam = evidence.arm(cell, METHODS["SAM"].baseline).selection, evidence.arm(cell, "SAM").selection
    return RhoResponse(
        cell=cell,
        rho=tuple(rho for rho, _, _, _ in points),
        learning_rate=tuple(rate for _, rate, _, _ in points),
        last=tuple(last for _, _, last, _ in points),
        averaged=tuple(averaged for _, _, _, averaged in points),
        base_best=base.val_score if base else math.nan,
        selected_rho=sam.rho if sam else None,
    )


def _rho_point(tuned: TunedRun) -> Iterable[tuple[float, float, float, float]]:
    """Yield (rho, learning rate, last, averaged) of a run that was trained to its end."""
    last, average = tuned.bests.last, tuned.bests.averages.get(METHODS["WASAM"].weights)
    if tuned.run.status != "pruned" and last is not None and last.val_score is not None:
        averaged = math.nan if average is None or average.val_score is None else average.val_score
        yield tuned.tried.rho, tuned.tried.learning_rate, last.val_score, averaged
