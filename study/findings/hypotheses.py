"""Hypotheses: what a claim that was named before the first run came to, by rules that were fixed with it.

**What is averaged.** Every kind gives one number per replicate and cell. They are first combined over cells (averaged,
or weighted into a slope or a contrast) replicate by replicate, and the Student-t interval is taken over replicates.
Replicate i draws the same named streams in every cell, so its numbers in two cells may move together; combined first,
they need not be independent, only the replicates must be, and they are. Pooling replicates × cells as if all were
independent would give an interval that is too narrow whenever they do move together.

**What it speaks of.** The cells are taken as given: the interval is about these cells, not about new problems; the
prediction interval of `study.stats.Synthesis` is. For slopes the note adds HC3 on cell means, in which the cell is
the unit.

**The rules**, with m the margin (for gains δ, the mean over the cells) and no correction between hypotheses, each
being a claim of its own:

- ``+``: reproduced if the 95 % interval lies above 0; contradicted if it lies below 0, or if the 90 % interval lies
  inside ±m (an effect was claimed, and there is none that matters); ``-`` is its mirror image.
- ``0``: reproduced if the 90 % interval lies inside ±m; contradicted if the 95 % interval lies beyond m or −m.
- ``>=``: reproduced if the lower end of the 90 % interval is above −m; contradicted if the 95 % interval lies below −m.
- Otherwise, and where data are missing: inconclusive.
- A barrier can't be negative, so ``+`` asks more of it: its 95 % interval must lie above m.

Source: intervals inside ±m: two one-sided tests at level .05, Schuirmann 1987; above −m: non-inferiority at .05.

**Without claims.** A study that named none is held against the published ones, those of the built-in suite, by the same
rules. Nothing was predicted for it before its first run, so that agreement is a description and no test.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from study.findings.combinations import contrast_over_cells, mean_over_cells, over_units, slope_over_cells
from study.findings.content import HypothesisResult, Outcome
from study.findings.evidence import Evidence, TuneKey
from study.findings.quantities import (
    Material,
    Measured,
    against_better,
    against_worse,
    barrier_by_unit,
    budget_gap,
    checkpoint_gap,
    difference_by_unit,
    gain_by_unit,
    log_sharpness_ratio,
    minimizers,
    named,
    parts,
    within_run_gain,
)
from study.plan.cells import cells as planned_cells
from study.plan.cells import search_name
from study.records import LineRecord
from study.specs.budgets import Budget
from study.specs.contenders import Contender, at_equal_epochs, baselines, contender
from study.specs.spec import CLAIMS, Hypothesis, StudySpec, parse_spec, suite_specs
from study.stats import Effect, Estimate

SHARPNESS_MARGIN = math.log(1.25)  # a ratio within a quarter is what repeated estimates of curvature differ by
BARRIER_MARGIN = 0.05  # nats; about the 2 % of error that Frankle et al. 2020 count as no barrier


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of hypothesis: how it is measured, and its margin (None: δ)."""

    measure: Callable[[Hypothesis, Material], Measured]
    margin: float | None = None
    never_negative: bool = False


def decide(found: Estimate, expected: str, margin: float, *, never_negative: bool = False) -> Outcome:
    """Return the outcome that an estimate supports; see the module for the rules.

    Args:
        found: The estimate of the claimed quantity.
        expected: ``+``, ``-``, ``0`` or ``>=``.
        margin: What counts as no material difference, > 0.
        never_negative: The quantity can't be negative, so being above 0 shows nothing.
    """
    sign = -1 if expected == "-" else 1
    low95, high95 = sorted(sign * end for end in found.ci95)
    low90, high90 = sorted(sign * end for end in found.ci90)
    immaterial = -margin < low90 and high90 < margin
    if expected in ("+", "-"):
        # p tells equal differences (an interval of width 0) from a proof: five of them have p = .0625.
        reproduced = low95 > (margin if never_negative else 0) and found.p < 0.05
        contradicted = (high95 < 0 and found.p < 0.05) or immaterial
    elif expected == "0":
        reproduced, contradicted = immaterial, low95 > margin or high95 < -margin
    else:
        reproduced, contradicted = low90 > -margin, high95 < -margin
    return "reproduced" if reproduced else "contradicted" if contradicted else "inconclusive"


def evaluate(
    evidence: Evidence, tuned: Iterable[Effect], averaging: Iterable[Effect], lines: Sequence[LineRecord]
) -> tuple[HypothesisResult, ...]:
    """Evaluate every hypothesis of the spec, in its order, on what is measured so far.

    Args:
        evidence: The study's evidence.
        tuned: Effects of tuned methods against their tuned baselines, under all budgets.
        averaging: Within-run effects of averaging.
        lines: Losses along lines between methods' weights.
    """
    material = Material(
        evidence,
        {(effect.cell, effect.method, effect.budget): effect for effect in tuned},
        {(effect.cell, effect.method): effect for effect in averaging},
        lines,
    )
    return tuple(_evaluated(hypothesis, material) for hypothesis in evidence.spec.hypotheses)


def _evaluated(hypothesis: Hypothesis, material: Material) -> HypothesisResult:
    kind = KINDS[hypothesis.kind]
    measured = kind.measure(hypothesis, material)
    missing = _unmeasured(material.evidence) or measured.missing
    units = "" if hypothesis.kind == "sharpness" else _left_out(material.evidence)
    margin = (_delta(material.evidence, measured.cells) if kind.margin is None else kind.margin) / measured.span
    decided = decide(measured.found, hypothesis.expected, margin, never_negative=kind.never_negative)
    return HypothesisResult(
        id=hypothesis.id,
        claim=hypothesis.claim,
        kind=hypothesis.kind,
        method=hypothesis.method,
        other=hypothesis.other,
        factor=hypothesis.factor,
        budget=hypothesis.budget,
        expected=hypothesis.expected,
        source=hypothesis.source,
        estimate=measured.found.mean,
        ci95=measured.found.ci95,
        ci90=measured.found.ci90,
        margin=margin,
        n=measured.found.n,
        unit=measured.unit,
        cells=len(measured.cells),
        outcome="inconclusive" if missing else decided,
        gradient_evaluations=_cost(hypothesis, material.evidence, measured.cells),
        note=" ".join(sentence for sentence in (missing, measured.note, units) if sentence),
    )


def _delta(evidence: Evidence, names: Iterable[str]) -> float:
    """Return the mean δ of some cells: what a mean over them has to reach to matter."""
    asked = {*names}
    deltas = [evidence.spec.delta_of(cell.task) for cell in evidence.cells if cell.name in asked]
    return statistics.fmean(deltas) if deltas else evidence.spec.delta


def _left_out(evidence: Evidence) -> str:
    over = dict.fromkeys(cell.task for cell in evidence.pooled)
    others = dict.fromkeys(cell.task for cell in evidence.cells if cell.task not in over)
    return f"Over {', '.join(over)} alone: scores of {', '.join(others)} measure something else." if others else ""


def _unmeasured(evidence: Evidence) -> str:
    measured, planned = len(evidence.cells), len(planned_cells(evidence.spec))
    return f"{measured} of {planned} cells are measured so far." if measured < planned else ""


def _cost(hypothesis: Hypothesis, evidence: Evidence, cells: Iterable[str]) -> int:
    """Add up the gradient evaluations of all runs, tuning included, of the methods that a hypothesis is about."""
    spec = evidence.spec
    budgets: tuple[Budget, ...] = ("E", "G") if hypothesis.kind == "budget" else (hypothesis.budget,)
    methods = {hypothesis.method, named(hypothesis, hypothesis.other or hypothesis.method, spec.table)}
    if hypothesis.kind in ("worse", "better"):
        methods |= set(parts(hypothesis.method, spec.table))
    runs: dict[str, int] = {}
    searched: set[TuneKey] = set()

    def asked(spec: StudySpec) -> set[Contender]:
        found = {at_equal_epochs(spec, name) for name in methods}
        for name in methods if hypothesis.kind not in ("sharpness", "barrier") else ():
            for budget in budgets if not spec.table.is_baseline(name) else ():
                found |= {contender(spec, name, budget), *baselines(spec, name, budget)}
        return found

    for cell, one in ((name, one) for name in cells for one in asked(evidence.spec_in(name))):
        runs |= {found.run.run_id: found.run.gradient_evaluations for _, found in evidence.of(cell, one).by_unit}
        searched |= {
            (number, cell, search_name(spec, one), length) for number in evidence.replicates for length in one.lengths
        }
    tuned = sum(evidence.tuned[key].gradient_evaluations for key in searched & evidence.tuned.keys())
    return tuned + sum(runs.values())


KINDS: dict[str, Kind] = {
    "gain": Kind(partial(over_units, gain_by_unit, mean_over_cells)),
    "difference": Kind(partial(over_units, difference_by_unit, mean_over_cells)),
    "worse": Kind(partial(over_units, against_worse, mean_over_cells)),
    "better": Kind(partial(over_units, against_better, mean_over_cells)),
    "budget": Kind(partial(over_units, budget_gap, mean_over_cells)),
    "checkpoint": Kind(partial(over_units, checkpoint_gap, mean_over_cells)),
    "slope": Kind(partial(over_units, gain_by_unit, slope_over_cells)),
    "contrast": Kind(partial(over_units, gain_by_unit, contrast_over_cells)),
    "averaging": Kind(partial(over_units, within_run_gain, contrast_over_cells)),
    "sharpness": Kind(partial(over_units, log_sharpness_ratio, mean_over_cells, descriptive=True), SHARPNESS_MARGIN),
    "barrier": Kind(
        partial(over_units, barrier_by_unit, mean_over_cells, descriptive=True), BARRIER_MARGIN, never_negative=True
    ),
    "minimizers": Kind(minimizers),
}


@cache
def published() -> tuple[Hypothesis, ...]:
    """Return the claims of the suite of published ones, in its order."""
    return tuple(claim for name, text in suite_specs(CLAIMS).items() for claim in parse_spec(text, name).hypotheses)


def literature_of(
    evidence: Evidence, effects: tuple[Effect, ...], averaging: tuple[Effect, ...], lines: tuple[LineRecord, ...]
) -> tuple[HypothesisResult, ...]:
    """Return the published claims that a finished study can speak of; none where it named claims itself.

    Args:
        evidence: Of all its runs.
        effects, averaging, lines: As for `evaluate`.
    """
    spec = evidence.spec
    if spec.hypotheses:
        return ()
    varied = {name for effect in effects for name, _ in effect.factors}
    concerned = tuple(claim for claim in published() if _concerns(claim, spec, varied))
    asked = replace(evidence, spec=spec.model_copy(update={"hypotheses": concerned}))
    found: Iterable[HypothesisResult] = evaluate(asked, effects, averaging, lines)
    return tuple(result for result in found if result.estimate == result.estimate)


def _concerns(claim: Hypothesis, spec: StudySpec, varied: set[str]) -> bool:
    budgets = {"E", "G"} if claim.kind == "budget" else {claim.budget}
    methods = {claim.method, claim.other} - {"", "baseline"}
    methods |= {"SWA", "SAM"} if claim.kind in ("worse", "better") else set()
    return (
        methods <= {*spec.methods}
        and budgets <= {*spec.budgets}
        and (not claim.factor or claim.factor in varied)
        and (claim.kind not in ("sharpness", "barrier", "minimizers") or spec.probes)
    )
