"""Outcomes: what a claim that was named before the first run came to, by rules that were fixed with it.

**What is averaged.** Every kind gives one number per replicate and cell. They are first combined over cells (averaged,
or weighted into a slope or a contrast) replicate by replicate, and the Student-t interval is taken over replicates:
these are independent. Replicate i draws the same named streams in every cell, so its numbers in two cells may move
together, and an interval over replicates × cells would be too narrow.

**What it speaks of.** The cells are taken as given: the interval is about these cells, not about new problems; the
prediction interval of `study.stats.Synthesis` is.

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
from study.findings.evidence import Evidence
from study.findings.quantities import (
    Asked,
    Measured,
    against_better,
    against_worse,
    barrier_between,
    budget_gap,
    checkpoint_gap,
    difference,
    gain,
    log_sharpness_ratio,
    minimizers,
    within_run_gain,
)
from study.plan.cells import cells as planned_cells
from study.records import LineRecord
from study.specs.spec import CLAIMS, Hypothesis, StudySpec, parse_spec, suite_specs
from study.stats import Effect, Estimate

SHARPNESS_MARGIN = math.log(1.25)  # a ratio within a quarter is what repeated estimates of curvature differ by
BARRIER_MARGIN = 0.05  # nats; about the 2 % of error that Frankle et al. 2020 count as no barrier


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of hypothesis: how it is measured, and its margin (None: δ)."""

    measure: Callable[[Asked], Measured]
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
    by_budget = {(effect.cell, effect.method, str(effect.budget)): effect for effect in tuned}
    within = {(effect.cell, effect.method): effect for effect in averaging}
    return tuple(_evaluated(Asked(claim, evidence, by_budget, within, lines)) for claim in evidence.spec.hypotheses)


def _evaluated(asked: Asked) -> HypothesisResult:
    hypothesis, evidence = asked.hypothesis, asked.evidence
    kind = KINDS[hypothesis.kind]
    measured = kind.measure(asked)
    cells, planned = len(evidence.cells), len(planned_cells(evidence.spec))
    missing = f"{cells} of {planned} cells are measured so far." if cells < planned else measured.missing
    units = "" if hypothesis.kind == "sharpness" else _left_out(evidence)
    margin = (_delta(evidence, measured.cells) if kind.margin is None else kind.margin) / measured.span
    decided = decide(measured.found, hypothesis.expected, margin, never_negative=kind.never_negative)
    return HypothesisResult(
        **hypothesis.model_dump(exclude={"measure"}),
        **vars(measured.found),
        margin=margin,
        unit=measured.unit,
        cells=len(measured.cells),
        outcome="inconclusive" if missing else decided,
        note=" ".join(filter(None, (missing, units))),
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


KINDS: dict[str, Kind] = {
    "gain": Kind(partial(over_units, gain, mean_over_cells)),
    "difference": Kind(partial(over_units, difference, mean_over_cells)),
    "worse": Kind(partial(over_units, against_worse, mean_over_cells)),
    "better": Kind(partial(over_units, against_better, mean_over_cells)),
    "budget": Kind(partial(over_units, budget_gap, mean_over_cells)),
    "checkpoint": Kind(partial(over_units, checkpoint_gap, mean_over_cells)),
    "slope": Kind(partial(over_units, gain, slope_over_cells)),
    "contrast": Kind(partial(over_units, gain, contrast_over_cells)),
    "averaging": Kind(partial(over_units, within_run_gain, contrast_over_cells)),
    "sharpness": Kind(partial(over_units, log_sharpness_ratio, mean_over_cells, descriptive=True), SHARPNESS_MARGIN),
    "barrier": Kind(
        partial(over_units, barrier_between, mean_over_cells, descriptive=True), BARRIER_MARGIN, never_negative=True
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
    return tuple(result for result in found if result.mean == result.mean)


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
