"""Simulated studies with a known truth: is the pipeline right as often as it says?

Nothing is trained. Accuracies are drawn with a truth that is known, pass through the functions that judge real
studies, and how often the verdict is wrong is counted.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.integrate import quad
from scipy.stats import binomtest, chi2, norm, t

from study.findings import find
from study.findings.hypotheses import decide
from study.plan.cells import Proposal, confirm_jobs, gradient_evaluations, searches, tune_job
from study.plan.selection import select
from study.records import Job, Measurement, RunRecord
from study.specs.spec import StudySpec
from study.stats import (
    Contrast,
    Effect,
    compare,
    estimate,
    judge,
    moderator_rule,
    moderators,
    random_effects,
    robust_slopes,
)

DELTA, ALPHA = 0.005, 0.05
TINY_DELTA = 1e-9  # excuses nothing, so that the level of the test is on its own
SD = 0.0028  # of paired differences, what small real studies show
TAU = 0.005  # of true gains between problems
COMPARISONS = 6  # methods × cells of a study
CELLS = [
    {"task": task, "label_noise": noise, "schedule": schedule}
    for task in ("digits", "mnist1d")
    for noise in (0.0, 0.3)
    for schedule in ("cosine", "constant")
]
CONTRAST = Contrast("cell", "digits", (), "tuned", "SAM", "SGD", "G", "test_score")
SURPRISE = 1e-4  # two-sided p below which a rate is called off; some 30 rates are looked at

Relation = Literal["=", "≤", "≥", ""]
_ALTERNATIVES: dict[str, Literal["two-sided", "greater", "less"]] = {"=": "two-sided", "≤": "greater", "≥": "less"}


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened in simulated studies, and how often it should.

    Attributes:
        group, name: What was simulated.
        hits, of: How often it happened, of how many.
        relation, expected: The rate should be equal to, at most or at least ``expected``; "" and NaN where it is
            shown for comparison only.
    """

    group: str
    name: str
    hits: int
    of: int
    relation: Relation
    expected: float = math.nan

    @property
    def rate(self) -> float:
        """The observed rate."""
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Its exact 95 % interval (Clopper and Pearson 1934)."""
        found = binomtest(self.hits, self.of).proportion_ci(0.95)
        return float(found.low), float(found.high)

    @property
    def off(self) -> bool:
        """Tell whether the rate is off by more than chance explains."""
        if not self.relation:
            return False
        alternative = _ALTERNATIVES[self.relation]
        return float(binomtest(self.hits, self.of, self.expected, alternative=alternative).pvalue) < SURPRISE


def calibrate(studies: int, seed: int) -> list[Rate]:
    """Simulate and count.

    Args:
        studies: Simulated studies a row; the slower rows take a tenth.
        seed: Root of all random numbers; equal seeds give equal tables.
    """
    sections: list[Callable[[int, np.random.Generator], Iterable[Rate]]] = [
        _null_families,
        _null_records,
        _power,
        _coverage,
        _predictions,
        _moderators,
        _hypotheses,
    ]
    streams = np.random.default_rng(seed).spawn(len(sections))
    return [rate for section, rng in zip(sections, streams, strict=True) for rate in section(studies, rng)]


def _effects(rng: np.random.Generator, gains: Sequence[float], pairs: int, delta: float) -> tuple[Effect, ...]:
    """Simulate one family of comparisons with known true gains and judge it."""
    shared = rng.normal(0.8, 0.005, (len(gains), 1, pairs))
    arms = shared + rng.normal(0, SD / math.sqrt(2), (len(gains), 2, pairs))
    arms[:, 0] += np.asarray(gains)[:, None]
    return judge(
        [
            compare(CONTRAST, dict(enumerate(method)), dict(enumerate(baseline)), planned=pairs, alpha=ALPHA)
            for method, baseline in arms.tolist()
        ],
        delta,
        ALPHA,
    )


def _decided(effects: Iterable[Effect]) -> bool:
    return any(effect.verdict in ("helps", "hurts") for effect in effects)


def _null_families(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Nothing helps: a study that says otherwise anywhere is wrong."""
    for delta, name in ((TINY_DELTA, "δ → 0"), (DELTA, "δ = .5 pp")):
        for pairs in (6, 10):
            false = sum(_decided(_effects(rng, [0.0] * COMPARISONS, pairs, delta)) for _ in range(studies))
            what = f"{COMPARISONS} nulls, n = {pairs}, {name}: any helps or hurts"
            yield Rate("false verdicts", what, false, studies, "≤", ALPHA)


def _null_records(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Methods that are the baseline under another name, from tuning to findings, records and all."""
    count = max(1, studies // 10)
    spec = _null_spec()
    false = sum(_decided(_null_findings(spec, rng)) for _ in range(count))
    yield Rate("false verdicts", "records → select → find, 3 nulls, δ → 0", false, count, "≤", ALPHA)


def _null_spec() -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "null",
            "question": "Does nothing help?",
            "budgets": ["E"],
            "primary_budget": "E",
            "delta": TINY_DELTA,
            "confirm_seeds": 6,
            "average_starts": [0.5],
            "search": {"trials": 4},
            "problems": [{"task": "digits"}],
        }
    )


def _null_findings(spec: StudySpec, rng: np.random.Generator) -> tuple[Effect, ...]:
    """Walk one study through the plan, the selection and the findings."""
    records = []
    for search in searches(spec):
        proposals = [
            Proposal(float(rate), 0.1 if search.family == "sam" else 0.0, 0.75)
            for rate in rng.uniform(0.01, 0.5, spec.search.trials)
        ]
        tuned = [_null_record(tune_job(spec, search, k, proposal), spec, rng) for k, proposal in enumerate(proposals)]
        selections = [chosen for name in search.methods if (chosen := select(name, tuned, spec.search))]
        confirmed = [_null_record(job, spec, rng) for job in confirm_jobs(spec, search, selections)]
        records += [*tuned, *confirmed]
    return find(spec, records, len(records)).effects


def _null_record(job: Job, spec: StudySpec, rng: np.random.Generator) -> RunRecord:
    shared = 0.8 + 0.005 * np.random.default_rng(job.seed).normal()
    metrics = ("val_score",) if job.stage == "tune" else ("val_score", "test_score")
    measurements = [
        Measurement(
            weights=weights,
            epoch=job.epochs,
            **{
                name: shared + float(noise)
                for name, noise in zip(metrics, rng.normal(0, SD, len(metrics)), strict=True)
            },
        )
        for weights in ("last", "swa@0.5", "swa@0.75")
    ]
    return RunRecord(
        run_id=job.run_id,
        spec_hash=spec.hash,
        job=job,
        status="completed",
        measurements=tuple(measurements),
        gradient_evaluations=gradient_evaluations(job),
    )


def _power(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """A gain is planted in one comparison: how often is it said to help?"""
    judged = [(gain, DELTA, "δ = .5 pp") for gain in (0.0025, 0.005, 0.01, 0.02)]
    for gain, delta, name in [(0.0025, TINY_DELTA, "δ → 0"), (0.005, TINY_DELTA, "δ → 0"), *judged]:
        for pairs in (6, 10, 20):
            effects = [_effects(rng, [gain], pairs, delta)[0] for _ in range(studies)]
            found = sum(effect.verdict == "helps" for effect in effects)
            what = f"+{100 * gain:g} pp, n = {pairs}, {name}: helps"
            yield Rate("power", what, found, studies, "=", power(gain, SD, pairs, delta, ALPHA))


def power(gain: float, sd: float, n: int, delta: float, alpha: float) -> float:
    """Return the chance that a single comparison helps: p < alpha and a mean of at least δ.

    The mean is normal and, independent of it, the variance is chi-squared: given the spread that is seen, the mean
    must exceed the larger of δ and t · s / sqrt(n).
    """
    critical, error = float(t.isf(alpha / 2, n - 1)), sd / math.sqrt(n)

    def given_spread(u: float) -> float:
        needed = max(delta, critical * error * math.sqrt(float(chi2.ppf(u, n - 1)) / (n - 1)))
        return float(norm.sf((needed - gain) / error))

    return float(quad(given_spread, 0, 1, limit=200, epsabs=1e-6)[0])


def _coverage(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """The intervals of one comparison hold the true gain as often as they say."""
    for pairs in (5, 10):
        truth = 0.01
        effects = [_effects(rng, [truth], pairs, DELTA)[0] for _ in range(studies)]
        for level, ends in (("95", [e.ci95 for e in effects]), ("90", [e.ci90 for e in effects])):
            held = sum(low <= truth <= high for low, high in ends)
            yield Rate("coverage", f"{level} % t interval, n = {pairs}", held, studies, "=", int(level) / 100)


def _predictions(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Gains differ between problems: the mean's interval holds their mean, the prediction that of a new problem."""
    for cells in (4, 8):
        held_mean = held_new = 0
        for _ in range(studies):
            truths = rng.normal(0.01, TAU, cells)
            effects = _effects(rng, truths.tolist(), 10, DELTA)
            pooled = random_effects([e.mean for e in effects], [e.sd**2 / e.n for e in effects])
            held_mean += pooled.ci95[0] <= 0.01 <= pooled.ci95[1]
            held_new += pooled.prediction95[0] <= rng.normal(0.01, TAU) <= pooled.prediction95[1]
        # Not exact: tau is estimated. Simulations with other spreads give 93 to 100 %.
        yield Rate("coverage", f"mean over problems, {cells} cells", held_mean, studies, "≥", 0.93)
        yield Rate("coverage", f"prediction for a new problem, {cells} cells", held_new, studies, "≥", 0.93)


def _moderators(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Cells differ, but not because of any factor: how often is a factor said to matter?"""
    noise = [float(cell["label_noise"]) for cell in CELLS]
    by_cell = pooled = by_seed = rules = 0
    pairs, trees = 10, max(1, studies // 10)
    for study in range(studies):
        truths = rng.normal(0.01, TAU, len(CELLS))
        gains = truths[:, None] + rng.normal(0, SD, (len(CELLS), pairs))
        means = gains.mean(axis=1).tolist()
        entries = moderators("SAM", "G", CELLS, means)
        by_cell += next(m for m in entries if m.factor == "label_noise").p < ALPHA
        pooled += robust_slopes(gains.ravel().tolist(), [np.repeat(noise, pairs).tolist()])[0].p < ALPHA
        per_seed = np.polyfit(noise, gains, 1)[0]
        by_seed += estimate(per_seed.tolist()).p < ALPHA
        if study < trees:
            rules += moderator_rule("SAM", "G", CELLS, means).reliable
    group, shown = "null factor", "for comparison"
    yield Rate(group, f"HC3 on {len(CELLS)} cell means", by_cell, studies, "≤", ALPHA)
    yield Rate(group, f"HC3 on all {len(CELLS)} × {pairs} pairs ({shown})", pooled, studies, "")
    yield Rate(group, f"slope by seed, cells taken as given ({shown})", by_seed, studies, "")
    yield Rate(group, f"tree with R² > 0 on unseen cells ({shown})", rules, trees, "")


def _hypotheses(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Claims that are false, or true only just: how often do they pass?"""
    cases = [
        ("+", 0.0, "reproduced", "claimed +, truly 0", 0.025),
        ("0", DELTA, "reproduced", "claimed 0, truly δ", 0.05),
        (">=", -DELTA, "reproduced", "claimed ≥, truly −δ", 0.05),
        ("0", 0.0, "contradicted", "claimed 0, truly 0", 0.025),
        ("+", DELTA, "contradicted", "claimed +, truly δ", 0.05),
    ]
    for expected, truth, wrong, what, level in cases:
        numbers = rng.normal(truth, SD, (studies, 10)).tolist()
        false = sum(decide(estimate(values), expected, DELTA) == wrong for values in numbers)
        yield Rate("hypotheses", f"{what}: {wrong}", false, studies, "≤", level)
