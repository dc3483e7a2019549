"""The plan is pure; the agenda hands out each job once, in order, and resumes from records alone."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.plan.agenda import Agenda
from study.plan.cells import (
    FIRST_CONFIRM_SEED,
    TUNE_SEED,
    Outcome,
    cells,
    gradient_evaluations,
    searches,
    sizes,
    tune_job,
)
from study.plan.proposals import needed_outcomes, propose, qmc_design
from study.records import Job, Measurement, RunRecord
from study.specs.methods import METHODS
from study.specs.spec import StudySpec, load_spec, parse_spec

TEXT = """
name = "small"
question = "?"
confirm_seeds = 3
[search]
sampler = "{sampler}"
trials = 6
[[problems]]
task = "digits"
factors.label_noise = [0.0, 0.3]
[[problems]]
task = "mnist1d"
"""


def small(sampler: str) -> StudySpec:
    return parse_spec(TEXT.format(sampler=sampler), "small")


def measured(job: Job, status: str = "completed") -> RunRecord:
    """Make up a record whose accuracies depend on the job alone, as those of a real run do."""
    rng = random.Random(job.run_id)
    starts = dict.fromkeys((*job.average_starts, job.average_start))
    measurements = [
        Measurement(
            weights=weights, epoch=job.epochs, val_score=rng.random(), val_loss=rng.random(),
            test_score=rng.random() if job.stage == "confirm" else None,
        )
        for weights in ("last", *(f"swa@{start:g}" for start in starts))
    ]  # fmt: skip
    return RunRecord(
        run_id=job.run_id, spec_hash="0", job=job, status=status,
        measurements=() if status == "failed" else tuple(measurements),
    )  # fmt: skip


def drain(agenda: Agenda, slots: int = 1, rng: random.Random | None = None, limit: int = 10**6) -> list[Job]:
    """Run an agenda with some slots; runs end in a random order. Stops after ``limit`` completions."""
    rng = rng or random.Random(0)
    under_way: list[Job] = []
    order: list[Job] = []
    while len(order) < limit:
        while len(under_way) < slots and (job := agenda.next_job()):
            under_way.append(job)
        if not under_way:
            break
        job = under_way.pop(rng.randrange(len(under_way)))
        agenda.complete(measured(job))
        order.append(job)
    return order


def ids(jobs: Iterable[Job]) -> set[str]:
    return {job.run_id for job in jobs}


def test_cells_are_named_by_what_varies() -> None:
    assert [cell.name for cell in cells(small("qmc"))] == [
        "digits label_noise=0.0", "digits label_noise=0.3", "mnist1d",
    ]  # fmt: skip


def test_qmc_shares_trajectories_and_tpe_does_not() -> None:
    shared = [(s.name, s.epochs_factor, s.methods) for s in searches(small("qmc"))[:3]]
    assert shared == [("base", 1, ("SGD", "SWA")), ("sam", 1, ("SAM", "WASAM")), ("base", 2, ("SGD",))]
    separate = [(s.name, s.epochs_factor) for s in searches(small("tpe"))[:5]]
    assert separate == [("SGD", 1), ("SWA", 1), ("SAM", 1), ("WASAM", 1), ("SGD", 2)]


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.parametrize("slots", [1, 2, 7])
def test_every_job_comes_once_and_the_stages_stay_in_order(sampler: str, slots: int) -> None:
    spec = small(sampler)
    agenda = Agenda(spec)
    least, most = agenda.planned
    order = drain(agenda, slots)
    assert agenda.finished
    assert len(ids(order)) == len(order) == agenda.planned[0] == agenda.planned[1]
    assert least <= len(order) <= most
    tuned: Counter[tuple[str, str, int]] = Counter()
    for job in order:
        key = (job.cell, job.family, job.epochs_factor)
        if job.stage == "tune":
            tuned[key] += 1
            assert job.seed == TUNE_SEED
        else:
            assert tuned[key] >= spec.search.trials
            assert FIRST_CONFIRM_SEED <= job.seed < FIRST_CONFIRM_SEED + spec.confirm_seeds
    assert set(tuned.values()) <= {6, 12}  # the same number of trials for every search


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_timing_and_slots_do_not_change_what_is_run(sampler: str) -> None:
    reference = ids(drain(Agenda(small(sampler))))
    for seed in range(5):
        assert ids(drain(Agenda(small(sampler)), slots=4, rng=random.Random(seed))) == reference


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    sampler=st.sampled_from(["qmc", "tpe"]),
    stop=st.integers(0, 80),
    slots=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_an_interrupted_study_resumes_to_the_same_runs(sampler: str, stop: int, slots: int, seed: int) -> None:
    spec = small(sampler)
    reference = ids(drain(Agenda(spec)))
    before = drain(Agenda(spec), slots, random.Random(seed), limit=stop)
    agenda = Agenda(spec, [measured(job) for job in before])
    after = drain(agenda, slots, random.Random(seed + 1))
    assert not ids(before) & ids(after)
    assert ids(before) | ids(after) == reference
    assert {record.run_id for record in agenda.records} == reference


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_confirm_run_measures_what_validation_picked_and_nothing_else(sampler: str) -> None:
    agenda = Agenda(small(sampler))
    jobs = drain(agenda)
    assert {job.measured for job in jobs if job.stage == "tune"} == {None}
    wanted: dict[tuple[object, ...], set[str]] = {}
    for chosen in agenda.selections:
        family = METHODS[chosen.method].family
        same = chosen.cell, family, chosen.epochs_factor, chosen.learning_rate, chosen.rho, chosen.average_start
        wanted.setdefault(same, set()).update([chosen.average] if chosen.average else [])
    for job in jobs:
        if job.stage == "confirm":
            same = job.cell, job.family, job.epochs_factor, job.learning_rate, job.rho, job.average_start
            assert job.measured is not None
            assert set(job.measured) == wanted[same]


def test_a_record_that_lacks_an_average_is_measured_again_and_one_that_has_more_is_not() -> None:
    records = [measured(job) for job in drain(Agenda(small("qmc")))]
    averaged = next(r for r in records if r.job.measured)

    def holding(names: tuple[str, ...] | None) -> list[RunRecord]:
        job = averaged.job.model_copy(update={"measured": names})
        return [r.model_copy(update={"job": job}) if r is averaged else r for r in records]

    for enough in (None, (*averaged.job.measured, "swa@0.1")):
        assert Agenda(small("qmc"), holding(enough)).finished
    lacking = Agenda(small("qmc"), holding(()))
    assert lacking.next_job() == averaged.job
    assert lacking.next_job() is None
    lacking.complete(averaged)
    assert lacking.finished


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_the_work_left_falls_to_nothing_by_what_each_run_costs(sampler: str) -> None:
    spec = small(sampler)
    agenda = Agenda(spec)
    assert agenda.gradient_evaluations_left == sum(size.gradient_evaluations[1] for size in sizes(spec))
    while job := agenda.next_job():
        before = agenda.gradient_evaluations_left
        agenda.complete(measured(job))
        # A rho of 0 costs less than planned; at the end of a search, confirm runs that are shared fall away.
        assert before - agenda.gradient_evaluations_left >= gradient_evaluations(job)
    assert agenda.gradient_evaluations_left == 0


def test_jobs_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Job] = []

    def counted(*arguments: object) -> Job:
        made.append(tune_job(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr("study.plan.agenda.tune_job", counted)
    agenda = Agenda(small("qmc"))
    assert made == []
    agenda.next_job()
    assert len(made) == 1


def test_failed_trials_are_passed_over_and_a_dead_search_confirms_nothing() -> None:
    agenda = Agenda(small("qmc"))
    while job := agenda.next_job():
        agenda.complete(measured(job, "failed" if job.family == "sam" else "completed"))
    assert agenda.finished
    assert {chosen.method for chosen in agenda.selections} == {"SGD", "SWA"}


def test_records_of_another_plan_are_left_out() -> None:
    stranger = measured(drain(Agenda(load_spec("smoke")[0]), limit=1)[0])
    agenda = Agenda(small("qmc"), [stranger])
    assert agenda.records == []


def test_families_share_their_learning_rates_and_one_sam_proposal_is_unperturbed() -> None:
    space = load_spec("quick")[0].search
    base, sam = qmc_design(space, "base"), qmc_design(space, "sam")
    assert [(p.learning_rate, p.average_start) for p in base] == [(p.learning_rate, p.average_start) for p in sam]
    assert sum(p.rho == 0 for p in sam) == 1
    assert all(p.rho == 0 or space.rho.low <= p.rho <= space.rho.high for p in sam)
    assert all(space.learning_rate.low <= p.learning_rate <= space.learning_rate.high for p in base)


def test_a_design_is_spread_over_every_range() -> None:
    space = load_spec("quick")[0].search
    eighths = sorted(int(8 * space.learning_rate.position(p.learning_rate)) for p in qmc_design(space, "base"))
    assert eighths == list(range(8))


def test_tpe_sees_whole_batches_only_and_learns_from_them() -> None:
    spec = small("tpe")
    space = spec.search.model_copy(update={"trials": 60})
    search = next(s for s in searches(spec) if s.name == "SAM")
    assert [needed_outcomes(space, trial) for trial in (0, 3, 4, 11)] == [0, 0, 4, 8]
    history: list[Outcome] = []
    for trial in range(60):
        proposal = propose(space, search, trial, history[: needed_outcomes(space, trial)])
        # The best learning rate is 0.1: a search that learns comes to try values near it.
        history.append(Outcome(proposal, 1 - abs(space.learning_rate.position(proposal.learning_rate) - 0.59)))
    late = [outcome.value for outcome in history[40:]]
    early = [outcome.value for outcome in history[:10]]
    assert sum(late) / 20 > sum(early) / 10 + 0.1


def test_sizes_bound_what_is_run_and_costs_are_those_of_the_jobs() -> None:
    spec = small("qmc")
    jobs = drain(Agenda(spec))
    planned = sizes(spec)
    for end, compare in ((0, int.__le__), (1, int.__ge__)):
        assert compare(sum(size.runs[end] for size in planned), len(jobs))
    most = sum(size.gradient_evaluations[1] for size in planned)
    assert sum(gradient_evaluations(job) for job in jobs) <= most


def test_the_longer_baseline_costs_what_sam_costs() -> None:
    by_kind = {
        (job.family, job.epochs_factor, job.rho > 0): gradient_evaluations(job)
        for job in drain(Agenda(small("qmc")))
        if job.task == "mnist1d"
    }
    assert by_kind["base", 2, False] == by_kind["sam", 1, True] == 2 * by_kind["base", 1, False]
