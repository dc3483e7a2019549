"""Hypotheses: what a claim that was named before the first run came to, by rules that were fixed with it.

**What is averaged.** Every kind gives one number per seed and cell. They are first combined over cells (averaged,
or weighted into a slope or a contrast) seed by seed, and the Student-t interval is taken over seeds. Seed i draws the
same named streams in every cell, so its numbers in two cells may move together; combined first, they need not be
independent, only the seeds must be, and they are. Pooling seeds × cells as if all were independent would give an
interval that is too narrow whenever they do move together.

**What it speaks of.** The cells are taken as given: the interval is about these cells, not about new problems; the
prediction interval of `study.stats.Synthesis` is. For slopes the note adds HC3 on cell means, in which the cell is
the unit.

**The rules**, with m the margin (δ for gains) and no correction between hypotheses, each being a claim of its own:

- ``+``: reproduced if the 95 % interval lies above 0; contradicted if it lies below 0, or if the 90 % interval lies
  inside ±m (an effect was claimed, and there is none that matters); ``-`` is its mirror image.
- ``0``: reproduced if the 90 % interval lies inside ±m; contradicted if the 95 % interval lies beyond m or −m.
- ``>=``: reproduced if the lower end of the 90 % interval is above −m; contradicted if the 95 % interval lies below −m.
- Otherwise, and where data are missing: inconclusive.
- A barrier can't be negative, so ``+`` asks more of it: its 95 % interval must lie above m.

Source: intervals inside ±m: two one-sided tests at level .05, Schuirmann 1987; above −m: non-inferiority at .05.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from scipy.stats import t

from study.findings.content import HypothesisResult, Outcome
from study.findings.evidence import Cell, Evidence
from study.methods import METHODS, epochs_factor_of_baseline, last_of
from study.plan import cells as planned_cells
from study.records import FactorValue, LineRecord
from study.spec import Hypothesis, StudySpec
from study.stats import Effect, Estimate, columns, estimate, isolated
from study.stats.effects import DECIMALS, insufficient
from study.stats.moderators import adjusted_slopes, slope_alone

BySeed = Mapping[int, float]
SHARPNESS_MARGIN = math.log(1.25)  # a ratio within a quarter is what repeated estimates of curvature differ by
BARRIER_MARGIN = 0.05  # nats; about the 2 % of error that Frankle et al. 2020 count as no barrier
MIN_DESCRIPTIVE_SEEDS = 3  # probes and lines are dear and their effects large: fewer seeds than a verdict needs


@dataclass(frozen=True, slots=True)
class Material:
    """What hypotheses are evaluated on; effects by (cell, method, budget), within-run ones by (cell, method)."""

    evidence: Evidence
    tuned: Mapping[tuple[str, str, str], Effect]
    averaging: Mapping[tuple[str, str], Effect]
    lines: Sequence[LineRecord]


@dataclass(frozen=True, slots=True)
class Combination:
    """Which cells enter with which weights; ``span`` is what a unit of the estimate is multiplied by to get a gain."""

    weights: Mapping[str, float]
    span: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kind measured: the estimate, over which unit and cells, and sentences on it.

    ``missing`` says what keeps it from deciding anything, "" if nothing does.
    """

    found: Estimate
    unit: Literal["seeds", "cells"]
    cells: tuple[str, ...]
    span: float
    missing: str
    note: str = ""


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
    kind, spec = KINDS[hypothesis.kind], material.evidence.spec
    measured = kind.measure(hypothesis, material)
    missing = _unmeasured(material.evidence) or measured.missing
    margin = (spec.delta if kind.margin is None else kind.margin) / measured.span
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
        note=" ".join(sentence for sentence in (missing, measured.note) if sentence),
    )


def _unmeasured(evidence: Evidence) -> str:
    measured, planned = len(evidence.cells), len(planned_cells(evidence.spec))
    return f"{measured} of {planned} cells are measured so far." if measured < planned else ""


# --- over seeds: one number per seed in a cell, combined over cells ------------------------------------------------


def _over_seeds(
    values: Callable[[Hypothesis, Material, str], BySeed],
    combine: Callable[[Hypothesis, Material], Combination],
    hypothesis: Hypothesis,
    material: Material,
    *,
    descriptive: bool = False,
) -> Measured:
    """Combine the cells seed by seed, over the seeds that every cell has, and estimate the mean over seeds."""
    combination = combine(hypothesis, material)
    by_cell = {cell: values(hypothesis, material, cell) for cell in combination.weights}
    seeds = sorted(set.intersection(*(set(found) for found in by_cell.values()))) if by_cell else []
    found = estimate(
        [
            round(math.fsum(combination.weights[cell] * numbers[seed] for cell, numbers in by_cell.items()), DECIMALS)
            for seed in seeds
        ]
    )
    check = _check(hypothesis, material, by_cell) if hypothesis.kind == "slope" and by_cell else ""
    missing = combination.note or _too_few(len(seeds), material.evidence.spec.confirm_seeds, descriptive)
    return Measured(found, "seeds", tuple(by_cell), combination.span, missing, check)


def _too_few(seeds: int, planned: int, descriptive: bool) -> str:
    if descriptive and seeds < MIN_DESCRIPTIVE_SEEDS:
        return f"{seeds} complete seeds; {MIN_DESCRIPTIVE_SEEDS} are needed."
    if not descriptive and insufficient(seeds, planned):
        return f"{seeds} of {planned} seeds are complete in all cells: too few."
    return ""


def _gain_of(method: str, budget: str, material: Material, cell: str) -> BySeed:
    effect = material.tuned.get((cell, method, budget))
    return dict(zip(effect.seeds, effect.differences, strict=True)) if effect else {}


def _gain(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    return _gain_of(hypothesis.method, hypothesis.budget, material, cell)


def _difference(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return gain − gain of the other; a baseline's own gain is 0."""
    gain = _gain(hypothesis, material, cell)
    if hypothesis.other == "baseline" or METHODS[hypothesis.other].baseline == hypothesis.other:
        return gain
    return _minus(gain, _gain_of(hypothesis.other, hypothesis.budget, material, cell))


def _budget(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    return _minus(_gain_of(hypothesis.method, "E", material, cell), _gain_of(hypothesis.method, "G", material, cell))


def _minus(first: BySeed, second: BySeed) -> BySeed:
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def _within_run(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the gain of averaging on the method's trajectory: its own average's, or its family's first."""
    chosen = METHODS[hypothesis.method]
    averages = [hypothesis.method] if chosen.weights != "last" else _averages_of(chosen.family, material.evidence.spec)
    effect = material.averaging.get((cell, averages[0])) if averages else None
    return dict(zip(effect.seeds, effect.differences, strict=True)) if effect else {}


def _averages_of(family: str, spec: StudySpec) -> list[str]:
    return [name for name in spec.methods if METHODS[name].family == family and METHODS[name].weights != "last"]


def _sharpness(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the log ratio of a probe of the two methods' selected weights; probes that are not above 0 have none."""
    first, second = (
        material.evidence.arm(cell, name).probed(hypothesis.measure)
        for name in (hypothesis.method, _named(hypothesis, hypothesis.other))
    )
    return {
        seed: math.log(first[seed] / second[seed])
        for seed in first.keys() & second.keys()
        if first[seed] > 0 and second[seed] > 0
    }


def _barrier(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the highest rise of the training loss over the straight line between its ends.

    Source: Frankle et al. 2020, arXiv 1912.05671, with the linear interpolation of the ends in place of their mean.
    """
    ends = {hypothesis.method, _named(hypothesis, hypothesis.other)}
    return {line.seed: barrier(line) for line in material.lines if line.cell == cell and {line.start, line.end} == ends}


def barrier(line: LineRecord) -> float:
    """Return the highest rise of a line's training loss above the linear interpolation of its ends; never negative."""
    first, last = line.train_losses[0], line.train_losses[-1]
    return max(
        loss - (first + alpha * (last - first)) for alpha, loss in zip(line.alphas, line.train_losses, strict=True)
    )


def _worse(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    return _against_one_of_its_parts(hypothesis, material, cell, min)


def _better(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    return _against_one_of_its_parts(hypothesis, material, cell, max)


def _against_one_of_its_parts(
    hypothesis: Hypothesis, material: Material, cell: str, choose: Callable[[float, float], float]
) -> BySeed:
    """Return gain − gain of the worse (better) of the averaged base and the last perturbed weights.

    Which one is worse is a matter of the cell, so it is decided on means over seeds. Decided seed by seed, the
    smaller of two noisy numbers is always too small: simulated with two equal parts and 6 (20) seeds, the 95 %
    interval then missed the truth 14 % (45 %) of the time, against 5 % when means decide.
    """
    averaged, perturbed = parts(hypothesis.method)
    whole, first, second = (
        _gain_of(name, hypothesis.budget, material, cell) for name in (hypothesis.method, averaged, perturbed)
    )
    seeds = whole.keys() & first.keys() & second.keys()
    if not seeds:
        return {}
    one, other = (statistics.fmean(part[seed] for seed in seeds) for part in (first, second))
    against = first if choose(one, other) == one else second
    return {seed: whole[seed] - against[seed] for seed in seeds}


def parts(method: str) -> tuple[str, str]:
    """Return the two methods that a method is made of: the average alone, the perturbation alone.

    SWA and SAM for WASAM; a method that is not both is one of its own parts.
    """
    whole = METHODS[method]
    base = METHODS[whole.baseline].family
    averaged = next(name for name, m in METHODS.items() if (m.family, m.weights) == (base, whole.weights))
    return averaged, last_of(whole.family)


# --- over cells ----------------------------------------------------------------------------------------------------


def _minimizers(hypothesis: Hypothesis, material: Material) -> Measured:
    """Return how the gain moves with the distance between the minimizers of train and test loss on the line.

    The distance is in shares of the line. It can't be set, only measured, so the cell is the unit: HC3 on cell means,
    the distance from every second seed, the gain from the seeds between them.
    """
    ends = {hypothesis.method, _named(hypothesis, hypothesis.other)}
    distances, gains, cells = [], [], []
    for cell in material.evidence.cells:
        gain = _gain(hypothesis, material, cell.name)
        apart = {
            line.seed: minimizer_distance(line)
            for line in material.lines
            if line.cell == cell.name and {line.start, line.end} == ends
        }
        seeds = sorted(gain.keys() & apart.keys())
        if len(seeds) >= 2:
            cells.append(cell.name)
            distances.append(statistics.fmean(apart[seed] for seed in seeds[::2]))
            gains.append(statistics.fmean(gain[seed] for seed in seeds[1::2]))
    span = max(distances) - min(distances) if len(set(distances)) > 1 else 1.0
    found = slope_alone(gains, distances)
    freedom = len(cells) - 2
    missing = ""
    if math.isnan(found.slope):
        missing = f"{len(cells)} cells with lines and gains; four are needed, at distances that differ."
    estimated = Estimate(
        len(cells), found.slope, math.nan, found.ci95, _narrowed(found.slope, found.ci95, freedom), found.p
    )
    return Measured(estimated, "cells", tuple(cells), span, missing)


def minimizer_distance(line: LineRecord) -> float:
    """Return how far apart the lowest train and the lowest test loss stand on a line, as a share of it."""
    lowest = [
        line.alphas[min(range(len(losses)), key=losses.__getitem__)] for losses in (line.train_losses, line.test_losses)
    ]
    return abs(lowest[0] - lowest[1])


def _narrowed(mean: float, ci95: tuple[float, float], freedom: int) -> tuple[float, float]:
    """Return the 90 % interval that belongs to a 95 % one."""
    half = (ci95[1] - mean) * float(t.isf(0.05, freedom) / t.isf(0.025, freedom)) if freedom > 0 else math.nan
    return mean - half, mean + half


def _named(hypothesis: Hypothesis, name: str) -> str:
    return METHODS[hypothesis.method].baseline if name == "baseline" else name


# --- how cells are combined --------------------------------------------------------------------------------------


def _average(hypothesis: Hypothesis, material: Material) -> Combination:
    cells = material.evidence.cells
    return Combination({cell.name: 1 / len(cells) for cell in cells})


def _slope(hypothesis: Hypothesis, material: Material) -> Combination:
    """Weigh cells into the least-squares slope on the factor, adjusted for task and other factors."""
    cells = material.evidence.cells
    levels = [dict(cell.factors).get(hypothesis.factor) for cell in cells]
    if not all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return Combination({}, note=f"{hypothesis.factor} is not a number that varies in this study.")
    return _weighed(hypothesis.factor, cells, [float(level) for level in levels])  # type: ignore[arg-type]


def _contrast(hypothesis: Hypothesis, material: Material) -> Combination:
    """Weigh the cells at the factor's first two values into their difference, adjusted likewise."""
    values = values_of(material.evidence.spec, hypothesis.factor)
    if len(values) < 2:
        return Combination({}, note=f"{hypothesis.factor} does not vary in this study.")
    first, second = values[:2]
    cells = [cell for cell in material.evidence.cells if dict(cell.factors).get(hypothesis.factor) in (first, second)]
    return _weighed(
        hypothesis.factor, cells, [float(dict(cell.factors)[hypothesis.factor] == second) for cell in cells]
    )


def values_of(spec: StudySpec, factor: str) -> list[FactorValue]:
    """Return the values that a spec gives a factor, in its order."""
    given = [problem.factors[factor] for problem in spec.problems if factor in problem.factors]
    return list(dict.fromkeys(value for some in given for value in (some if isinstance(some, list) else [some])))


def _weighed(factor: str, cells: Sequence[Cell], target: Sequence[float]) -> Combination:
    others = [column for column in columns([design_row(cell) for cell in cells]) if column.factor != factor]
    left = isolated(target, others) if len(cells) > 1 else None
    if left is None:
        confounded = "" if len(set(target)) < 2 else ", apart from the other factors that differ between cells"
        return Combination({}, note=f"{factor} does not vary{confounded}.")
    weights = left / float(left @ left)
    # Cells without weight say nothing about the factor, so their gaps must not cost any seeds.
    entering = {
        cell.name: float(weight)
        for cell, weight in zip(cells, weights, strict=True)
        if abs(weight) > 1e-9 * max(abs(weights))
    }
    return Combination(entering, span=max(target) - min(target))


def design_row(cell: Cell | Effect) -> dict[str, FactorValue]:
    """Return what a cell is set to: its task and the factors that vary in the study."""
    return {"task": cell.task, **dict(cell.factors)}


def _check(hypothesis: Hypothesis, material: Material, by_cell: Mapping[str, BySeed]) -> str:
    """Say what the slope is with cells as the unit: HC3 on cell means, adjusted as the estimate is."""
    cells = [cell for cell in material.evidence.cells if by_cell.get(cell.name)]
    if not cells:
        return ""
    predictors = columns([design_row(cell) for cell in cells])
    means = [statistics.fmean(by_cell[cell.name].values()) for cell in cells]
    slopes = zip(adjusted_slopes(means, predictors), predictors, strict=True)
    found = next((slope for (slope, _), column in slopes if column.factor == hypothesis.factor), None)
    if found is None or math.isnan(found.slope):
        return f"{len(cells)} cells are too few for a check with the cell as the unit."
    low, high = found.ci95
    return f"With the cell as the unit (HC3 on {len(cells)} cell means): {found.slope:.3g} [{low:.3g}, {high:.3g}]."


# --- what it cost ------------------------------------------------------------------------------------------------


def _cost(hypothesis: Hypothesis, evidence: Evidence, cells: Iterable[str]) -> int:
    """Add up the gradient evaluations of all runs, tuning included, of the methods that a hypothesis is about."""
    budgets = ("E", "G") if hypothesis.kind == "budget" else (hypothesis.budget,)
    named = {hypothesis.method, _named(hypothesis, hypothesis.other or hypothesis.method)}
    if hypothesis.kind in ("worse", "better"):
        named |= set(parts(hypothesis.method))
    arms = {(name, 1.0) for name in named}
    for name in named if hypothesis.kind not in ("sharpness", "barrier") else ():
        arms |= {
            (METHODS[name].baseline, epochs_factor_of_baseline(name, budget, evidence.spec.reference_times))
            for budget in budgets
        }
    runs = {
        run.run_id: run.gradient_evaluations
        for cell in cells
        for name, factor in arms
        for run in (*evidence.tune_records(cell, name, factor), *evidence.arm(cell, name, factor).runs)
    }
    return sum(runs.values())


KINDS: dict[str, Kind] = {
    "gain": Kind(partial(_over_seeds, _gain, _average)),
    "difference": Kind(partial(_over_seeds, _difference, _average)),
    "worse": Kind(partial(_over_seeds, _worse, _average)),
    "better": Kind(partial(_over_seeds, _better, _average)),
    "budget": Kind(partial(_over_seeds, _budget, _average)),
    "slope": Kind(partial(_over_seeds, _gain, _slope)),
    "contrast": Kind(partial(_over_seeds, _gain, _contrast)),
    "averaging": Kind(partial(_over_seeds, _within_run, _contrast)),
    "sharpness": Kind(partial(_over_seeds, _sharpness, _average, descriptive=True), SHARPNESS_MARGIN),
    "barrier": Kind(partial(_over_seeds, _barrier, _average, descriptive=True), BARRIER_MARGIN, never_negative=True),
    "minimizers": Kind(_minimizers),
}
