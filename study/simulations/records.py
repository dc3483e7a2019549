"""Whole studies of nothing: methods that are the baseline under another name, from the plan to the findings.

Every record is made as a run would leave it: what is chosen, by whom, at which length and of which weights is left to
the agenda, the selection and the findings.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from study.findings import find
from study.plan.agenda import Agenda
from study.plan.cells import gradient_evaluations
from study.plan.selection import preferred_at
from study.records import Job, Measurement, RunRecord, configuration_of
from study.simulations.procedure import ALPHA
from study.simulations.rates import Rate
from study.simulations.verdicts import TINY_DELTA, decided
from study.specs.spec import StudySpec
from study.stats import Effect

CHECKPOINTS = 4
# Of a seed, which all share; of a configuration; of validation by run and by checkpoint; of test by checkpoint.
SEED_SD, QUALITY_SD, VALIDATION_SD, NEAR_SD, TEST_SD = 0.005, 0.004, 0.005, 0.0003, 0.003


def null_studies(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Count the families of such studies in which a method is said to help or to hurt."""
    count = max(1, studies // 10)
    found = [null_effects(null_spec(int(seed)), rng) for seed in rng.integers(0, 2**32, count)]
    for method in ("SAM", "WASAM"):
        false = sum(decided(effect for effect in effects if effect.method == method) for effects in found)
        what = f"records → select → find, {method} is SGD under another name, δ → 0: helps or hurts"
        yield Rate("false verdicts", what, false, count, "≤", ALPHA)


def null_spec(seed: int) -> StudySpec:
    """Return the spec of a study in which nothing helps."""
    return StudySpec.model_validate(
        {
            "name": "null",
            "question": "Does nothing help?",
            "methods": ["SGD", "SAM", "WASAM"],
            "budgets": ["G"],
            "primary_budget": "G",
            "delta": TINY_DELTA,
            "replicates": 6,
            "seed": seed,
            "confirms": 2,
            "average_starts": [0.5],
            "search": {"trials": 4},
            "problems": [{"task": "digits"}],
        }
    )


def null_effects(spec: StudySpec, rng: np.random.Generator) -> tuple[Effect, ...]:
    """Walk one study through the agenda, the selection and the findings, and return its verdicts."""
    agenda = Agenda(spec)
    while job := agenda.next_job():
        agenda.complete(_record(job, spec, rng))
    return find(spec, agenda.records).effects


def _record(job: Job, spec: StudySpec, rng: np.random.Generator) -> RunRecord:
    """Return the record of a run whose method, length and weights make no difference in truth.

    A configuration has a quality, which tuning looks for, the same way for all; the weights of a run differ by chance,
    which validation does not see.
    """
    level = 0.8 + SEED_SD * np.random.default_rng(job.seed).normal()
    level += QUALITY_SD * np.random.default_rng(int(configuration_of(job).id, 16)).normal()
    seen = level + VALIDATION_SD * rng.normal()
    epochs = [round(job.epochs * (k + 1) / CHECKPOINTS) for k in range(CHECKPOINTS)]
    measured = []
    for weights, epoch in [("last", epoch) for epoch in epochs] + [(name, job.epochs) for name in job.averages]:
        value = seen + NEAR_SD * float(rng.normal())
        measured.append(Measurement(weights=weights, epoch=epoch, val_score=value, val_loss=1 - value))
    if "best" in job.reads:
        best = max(measured[:CHECKPOINTS], key=lambda one: one.val_score or 0.0)
        measured.append(replace(best, weights="best", epoch=job.epochs, weights_epoch=best.epoch))
    if job.stage == "confirm":
        tested = {one.weights for one in preferred_at(measured, job.epochs).by_kind.values()}
        by_epoch = {epoch: level + TEST_SD * float(rng.normal()) for epoch in epochs}
        measured = [
            replace(one, test_score=by_epoch[one.weights_epoch or one.epoch])
            if one.weights in ("last", "best")
            else replace(one, test_score=level + TEST_SD * float(rng.normal()))
            if one.weights in tested
            else one
            for one in measured
        ]
    return RunRecord(
        run_id=job.run_id,
        spec_hash=spec.hash,
        job=job,
        replicate=job.replicate,
        status="completed",
        measurements=tuple(measured),
        gradient_evaluations=gradient_evaluations(job),
    )
