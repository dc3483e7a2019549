"""The plan is pure; the agenda hands out each job once, replicate by replicate, and resumes from records alone."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.plan.agenda import Agenda
from study.plan.cells import (
    Outcome,
    Proposal,
    Search,
    cells,
    confirm_jobs,
    gradient_evaluations,
    searches,
    sizes,
    tune_job,
)
from study.plan.proposals import needed_outcomes, propose
from study.plan.replicates import replicate_of, replicates_of
from study.plan.selection import Selection
from study.records import Job, Measurement, RunRecord, configuration_of, kind_of
from study.specs.contenders import baselines, contenders, trials_at
from study.specs.methods import BUILT_IN, METHODS
from study.specs.space import SearchSpace
from study.specs.spec import StudySpec, load_spec, parse_spec

TEXT = """
name = "small"
question = "?"
replicates = 3
confirms = 2
{lines}
[search]
sampler = "{sampler}"
trials = {trials}
[[problems]]
task = "digits"
factors.label_noise = [0.0, 0.3]
[[problems]]
task = "mnist1d"
"""
TRIALS = {"qmc": 6, "tpe": 8}
_PROPOSED: dict[tuple[object, ...], Proposal] = {}


def proposed(space: SearchSpace, search: Search, trial: int, history: Sequence[Outcome]) -> Proposal:
    """Do what `propose` does, and remember it: a pure function, of which TPE takes a hundredth of a second a call."""
    key = repr(space), search.cell.name, search.name, search.epochs_factor, search.replicate, trial, tuple(history)
    if key not in _PROPOSED:
        _PROPOSED[key] = propose(space, search, trial, history)
    return _PROPOSED[key]


@pytest.fixture(autouse=True, scope="module")
def _propose_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.plan.agenda.propose", proposed)
        yield


def small(sampler: str = "qmc", lines: str = "", **changes: Any) -> StudySpec:
    spec = parse_spec(TEXT.format(sampler=sampler, trials=TRIALS[sampler], lines=lines), "small")
    return StudySpec.model_validate(spec.model_dump() | changes)


def one_cell(sampler: str = "qmc", lines: str = "", **changes: Any) -> StudySpec:
    return small(sampler, lines, **{"problems": [{"task": "digits"}]} | changes)


def measured(job: Job, status: str = "completed") -> RunRecord:
    """Make up a record whose accuracies depend on the job alone, as those of a real run do."""
    rng = random.Random(job.run_id)
    measurements = [
        Measurement(
            weights=weights, epoch=job.epochs, val_score=rng.random(), val_loss=rng.random(),
            weights_epoch=rng.randint(1, job.epochs) if weights == "best" else None,
            test_score=rng.random() if job.stage == "confirm" else None,
        )
        for weights in ("last", *(["best"] if "best" in job.reads else []), *job.averages)
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


def design_of(spec: StudySpec, search: Search) -> list[Proposal]:
    """Return the proposals of a search that do not depend on results."""
    return [propose(spec.search, search, trial, []) for trial in range(search.trials)]


def test_cells_are_named_by_what_varies() -> None:
    assert [cell.name for cell in cells(small())] == [
        "digits label_noise=0.0", "digits label_noise=0.3", "mnist1d",
    ]  # fmt: skip


def test_qmc_shares_trajectories_and_tpe_does_not() -> None:
    shared = [
        (s.name, s.epochs_factor, s.trials, [one.name for one in s.contenders])
        for s in searches(one_cell())
        if s.replicate.number == 1
    ]
    assert shared == [
        ("base", 1, 6, ["SGD last", "SGD best", "SWA", "SWA"]),  # SWA at equal epochs, and of either length
        ("sam", 1, 6, ["SAM", "WASAM"]),
        ("base", 2, 3, ["SGD last, 2× epochs", "SGD best, 2× epochs", "SWA"]),
    ]
    separate = [(s.name, s.epochs_factor, s.trials) for s in searches(one_cell("tpe")) if s.replicate.number == 1]
    assert separate == [
        ("SGD last", 1, 8), ("SGD best", 1, 8), ("SWA", 1, 8), ("SAM", 1, 8), ("WASAM", 1, 8),
        ("SGD last", 2, 4), ("SGD best", 2, 4), ("SWA", 2, 4),
    ]  # fmt: skip


# Seeds.


@given(seed=st.integers(0, 2**32 - 1), replicates=st.integers(1, 40), confirms=st.integers(1, 20))
def test_no_seed_serves_two_purposes(seed: int, replicates: int, confirms: int) -> None:
    spec = one_cell(seed=seed, replicates=replicates, confirms=confirms)
    made = replicates_of(spec)
    tune, confirm = [r.tune for r in made], [found for r in made for found in r.confirm]
    every = [*tune, *confirm, *(r.proposals for r in made), *(r.test for r in made)]
    assert len(set(every)) == len(every) == replicates * (confirms + 3)
    assert all(0 <= found < 2**48 for found in every)
    # Of the two stages they never meet, whatever the draws: the last bit tells them apart.
    assert {found % 2 for found in tune} == {0}
    assert {found % 2 for found in confirm} == {1}


@given(seed=st.integers(0, 2**32 - 1), number=st.integers(1, 1000), more=st.integers(0, 20))
def test_a_replicate_is_made_of_the_seed_and_its_number_alone(seed: int, number: int, more: int) -> None:
    one = replicate_of(one_cell(seed=seed, replicates=1), number)
    other = replicate_of(
        small("tpe", 'methods = ["SGD", "SAM"]', seed=seed, replicates=7, confirms=2 + more, delta=0.1), number
    )
    assert replace(other, confirm=one.confirm) == one
    assert other.confirm[:2] == one.confirm  # more confirm seeds keep those that were there
    assert replicate_of(one_cell(seed=(seed + 1) % 2**32), number).tune != one.tune


def test_the_seeds_of_a_replicate_are_these() -> None:
    """Frozen: a study that resumes under a later version goes on with the same runs."""
    one = replicate_of(one_cell(), 1)
    assert (one.number, one.proposals, one.test, one.tune, one.confirm) == FROZEN_REPLICATE


FROZEN_REPLICATE = (1, 57284791910502, 104541670273446, 220730769061758, (140068411004119, 87417147884711))


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_methods_of_a_replicate_are_paired_and_replicates_share_nothing(sampler: str) -> None:
    jobs = drain(Agenda(small(sampler)))
    by_replicate: dict[int, list[Job]] = {}
    for job in jobs:
        by_replicate.setdefault(job.replicate, []).append(job)
    assert set(by_replicate) == {1, 2, 3}
    for number, own in by_replicate.items():
        made = replicate_of(small(sampler), number)
        # One root seed gives one split, one noise, the same initial weights and data order: see `study.streams`.
        assert {job.seed for job in own if job.stage == "tune"} == {made.tune}
        assert {job.seed for job in own if job.stage == "confirm"} == set(made.confirm)
        assert {job.test_seed for job in own} == {made.test}
    for one, other in itertools.combinations(by_replicate.values(), 2):
        assert not {job.seed for job in one} & {job.seed for job in other}
        assert not {job.test_seed for job in one} & {job.test_seed for job in other}
        assert not {job.learning_rate for job in one} & {job.learning_rate for job in other}


def test_families_of_a_replicate_share_learning_rates_and_starts() -> None:
    spec = load_spec("quick")[0]
    found: dict[int, dict[str, list[Proposal]]] = {}
    for search in searches(spec):
        if search.epochs_factor == 1:
            found.setdefault(search.replicate.number, {})[search.name] = design_of(spec, search)
    assert len({repr(designs["base"]) for designs in found.values()}) == len(found) == 10
    unperturbed = 0
    for designs in found.values():
        base, sam = designs["base"], designs["sam"]
        assert [(p.learning_rate, p.average_start) for p in base] == [(p.learning_rate, p.average_start) for p in sam]
        unperturbed += sum(p.rho == 0 for p in sam)
        space = spec.search
        assert all(p.rho == 0 or space.rho.low <= p.rho <= space.rho.high for p in sam)
        assert all(space.learning_rate.low <= p.learning_rate <= space.learning_rate.high for p in base)
    assert unperturbed == pytest.approx(spec.search.unperturbed_share * 10 * spec.search.trials, abs=4)


@pytest.mark.parametrize("trials", [8, 16])
def test_a_design_is_spread_over_every_range(trials: int) -> None:
    spec = one_cell(search={"trials": trials})
    for search in searches(spec):
        if search.name == "base" and search.epochs_factor == 1:
            places = sorted(int(trials * spec.search.learning_rate.position(p.learning_rate))
                            for p in design_of(spec, search))  # fmt: skip
            assert places == list(range(trials))


# Budgets are ceilings, tuning included.


@given(
    trials=st.integers(1, 60), ceiling=st.floats(1, 6), epochs=st.integers(1, 60),
    method=st.sampled_from(["SWA", "SAM", "WASAM", "EMA"]),
)  # fmt: skip
def test_no_baseline_spends_more_than_the_ceiling_tuning_included(
    trials: int, ceiling: float, epochs: int, method: str
) -> None:
    """All trials at 1×, and the first ⌊k(c − 1)/c⌋ of them once more at c×, cost at most c times the former."""
    methods = ["SGD", method] if BUILT_IN.family_of(method).passes <= ceiling else ["SGD", "SWA"]
    spec = one_cell(
        methods=methods, search={"trials": trials}, gradient_ceiling=ceiling, replicates=1,
        problems=[{"task": "digits", "factors": {"epochs": epochs}}],
    )  # fmt: skip
    jobs = [
        tune_job(spec, search, trial, proposal)
        for search in searches(spec)
        if search.name == "base"
        for trial, proposal in enumerate(design_of(spec, search))
    ]
    at_once = sum(gradient_evaluations(job) for job in jobs if job.epochs_factor == 1)
    assert sum(gradient_evaluations(job) for job in jobs) <= ceiling * at_once + 1e-6
    assert all(job.epochs <= ceiling * epochs + 1e-6 for job in jobs)
    longer = [job for job in jobs if job.epochs_factor > 1]
    assert len(longer) == (int(trials * (ceiling - 1) / ceiling + 1e-9) if ceiling > 1 else 0)
    assert len(longer) + 1 > trials * (ceiling - 1) / ceiling - 1e-6  # as many as the ceiling buys


@given(trials=st.integers(1, 40), more=st.integers(0, 40), ceiling=st.floats(2, 6), number=st.integers(1, 9))
def test_a_longer_search_has_the_first_proposals_and_growth_keeps_them(
    trials: int, more: int, ceiling: float, number: int
) -> None:
    def designs(count: int) -> dict[tuple[str, float], list[Proposal]]:
        spec = one_cell(search={"trials": count}, gradient_ceiling=ceiling, replicates=number)
        return {
            (search.name, search.epochs_factor): design_of(spec, search)
            for search in searches(spec, [replicate_of(spec, number)])
        }

    before, after = designs(trials), designs(trials + more)
    for (name, length), design in before.items():
        assert design == before[name, 1][: len(design)]
        assert design == after[name, length][: len(design)]


def test_the_longer_baseline_costs_what_sam_costs() -> None:
    by_kind = {
        (job.family, job.epochs_factor, job.rho > 0): gradient_evaluations(job)
        for job in drain(Agenda(small()))
        if job.task == "mnist1d"
    }
    assert by_kind["base", 2, False] == by_kind["sam", 1, True] == 2 * by_kind["base", 1, False]


def test_a_method_is_held_against_all_that_its_budget_contains() -> None:
    spec = one_cell(budgets=["E", "G", "T"], reference_times={"base": 1.0, "sam": 1.6})
    named = {budget: [one.name for one in baselines(spec, "SAM", budget)] for budget in spec.budgets}
    assert named["E"] == ["SGD last", "SGD best"]
    assert named["G"] == [*named["E"], "SGD last, 2× epochs", "SGD best, 2× epochs"]
    assert named["T"] == [*named["E"], "SGD last, 1.6× epochs", "SGD best, 1.6× epochs"]
    # On the base gradient a method may use either length itself; SAM's price is the ceiling at the cell's epochs.
    lengths = {(one.method, one.lengths) for one in contenders(spec) if not one.is_baseline}
    assert lengths == {
        ("SWA", (1.0,)), ("SWA", (1.0, 2.0)), ("SAM", (1.0,)), ("WASAM", (1.0,)),
    }  # fmt: skip
    adamw = one_cell(methods=["SGD", "SAM", "AdamW", "AdamW+SAM"])
    assert {one.method for one in baselines(adamw, "AdamW+SAM", "G")} == {"AdamW"}
    assert [one.name for one in baselines(one_cell(weights=["last"]), "SAM", "E")] == ["SGD last"]
    assert trials_at(spec, 2.0) == 3


# The agenda.


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
    tuned: Counter[tuple[object, ...]] = Counter()
    trials = {(s.replicate.number, s.cell.name, s.name, s.epochs_factor): s.trials for s in searches(spec)}
    for job in order:
        if job.stage == "tune":
            tuned[job.replicate, job.cell, job.search, job.epochs_factor] += 1
        else:
            serving = [key for key in trials if key[:2] == (job.replicate, job.cell) and key[3] == job.epochs_factor]
            over = [key for key in serving if tuned[key] == trials[key]]
            assert any(_family_of(key[2]) == job.family for key in over)
    assert tuned == trials


def _family_of(search: str) -> str:
    """Return the family of a search: its name with QMC, that of the role's method with TPE."""
    method = search.removesuffix(" last").removesuffix(" best")
    return METHODS[method].family if method in METHODS else search


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_timing_and_slots_do_not_change_what_is_run(sampler: str) -> None:
    reference = ids(drain(Agenda(small(sampler))))
    for seed in range(5):
        assert ids(drain(Agenda(small(sampler)), slots=4, rng=random.Random(seed))) == reference


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    sampler=st.sampled_from(["qmc", "tpe"]),
    stop=st.integers(0, 220),
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


@cache
def whole(sampler: str, replicates: int = 3) -> list[RunRecord]:
    """Return all records of a study of one cell."""
    return [measured(job) for job in drain(Agenda(one_cell(sampler, replicates=replicates)))]


@settings(deadline=None)
@given(sampler=st.sampled_from(["qmc", "tpe"]), data=st.data())
def test_any_records_that_are_there_leave_the_rest_of_the_same_plan(sampler: str, data: st.DataObject) -> None:
    """Files may have been lost, or come from elsewhere: what is measured again is what is missing."""
    records = whole(sampler)
    kept = data.draw(st.lists(st.sampled_from(records), unique_by=lambda record: record.run_id))
    agenda = Agenda(one_cell(sampler), kept)
    missing = {record.run_id for record in records} - {record.run_id for record in kept}
    assert ids(drain(agenda, slots=3)) == missing
    assert agenda.finished
    assert {record.run_id for record in agenda.records} == {record.run_id for record in records}


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.parametrize("slots", [1, 3])
def test_searches_whose_last_trials_are_there_before_the_others_are_confirmed(sampler: str, slots: int) -> None:
    records = whole(sampler)
    last = {(r.job.replicate, r.job.search, r.job.epochs_factor): r for r in records if r.job.stage == "tune"}
    agenda = Agenda(one_cell(sampler), last.values())
    assert ids(drain(agenda, slots=slots)) == {r.run_id for r in records} - {r.run_id for r in last.values()}
    assert agenda.finished


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_replicates_run_elsewhere_are_those_of_the_whole_plan(sampler: str) -> None:
    spec = one_cell(sampler, replicates=5)
    whole = drain(Agenda(spec))
    parts = [[4, 5], [1], [3, 2]]
    elsewhere = [drain(Agenda(spec, replicates=part), slots=2) for part in parts]
    for part, jobs in zip(parts, elsewhere, strict=True):
        assert {job.replicate for job in jobs} == {*part}
        assert ids(jobs) == {job.run_id for job in whole if job.replicate in part}
    together = Agenda(spec, [measured(job) for jobs in elsewhere for job in jobs])
    assert together.finished
    assert together.replicates == (5, 5)
    half = Agenda(spec, [measured(job) for job in elsewhere[0]])
    assert half.replicates == (2, 5)
    assert ids(drain(half)) == ids(elsewhere[1]) | ids(elsewhere[2])


@settings(deadline=None)
@given(sampler=st.sampled_from(["qmc", "tpe"]), slots=st.integers(1, 6), seed=st.integers(0, 999))
@pytest.mark.slow
def test_an_interrupted_study_holds_whole_replicates_up_to_the_slots(sampler: str, slots: int, seed: int) -> None:
    spec = one_cell(sampler, replicates=6)
    agenda, rng = Agenda(spec), random.Random(seed)
    sizes_of = Counter(record.job.replicate for record in whole(sampler, 6))
    done: Counter[int] = Counter()
    under_way: list[Job] = []
    while True:
        while len(under_way) < slots and (job := agenda.next_job()):
            under_way.append(job)
        begun = {*done, *(job.replicate for job in under_way)}
        over = {number for number in begun if done[number] == sizes_of[number]}
        assert begun == set(range(1, len(begun) + 1))
        assert len(begun - over) <= slots
        assert agenda.replicates == (len(over), 6)
        if not under_way:
            break
        job = under_way.pop(rng.randrange(len(under_way)))
        agenda.complete(measured(job))
        done[job.replicate] += 1
    assert done == sizes_of


# Slow twins of what the agenda says about itself.


def twin(spec: StudySpec, records: Sequence[RunRecord], final: Sequence[RunRecord]) -> tuple[int, int, int]:
    """Return runs planned at least and at most and replicates that are whole, counted one by one.

    Args:
        spec: The study. records: What is measured so far. final: All that it measures in the end.
    """
    have = {record.run_id for record in records}
    least = most = whole = 0
    for replicate in replicates_of(spec):
        mine = [r for r in final if r.job.replicate == replicate.number]
        whole += {r.run_id for r in mine} <= have
        for cell in cells(spec):
            here = [s for s in searches(spec, [replicate]) if s.cell.name == cell.name]
            for name in dict.fromkeys(s.name for s in here):
                parts = [s for s in here if s.name == name]
                jobs = [r.job for r in mine if (r.job.stage, r.job.cell, r.job.search) == ("tune", cell.name, name)]
                assert len(jobs) == sum(s.trials for s in parts)
                least, most = least + len(jobs), most + len(jobs)
                if ids(jobs) <= have:
                    picked = confirmed_by(spec, parts, jobs)
                    least, most = least + len(picked), most + len(picked)
                    continue
                everyone = list(dict.fromkeys(one for s in parts for one in s.contenders))
                lengths = {one.lengths[0] for one in everyone if len(one.lengths) == 1}
                least += spec.confirms * len(lengths)
                most += spec.confirms * len(everyone)
    return least, most, whole


def confirmed_by(spec: StudySpec, parts: Sequence[Search], jobs: Sequence[Job]) -> set[str]:
    """Return the confirm runs of a search that is over."""
    agenda = Agenda(spec, [measured(job) for job in jobs])
    chosen = [
        s for s in agenda.selections
        if (s.cell, s.replicate) == (parts[0].cell.name, parts[0].replicate.number)
    ]  # fmt: skip
    return ids(confirm_jobs(spec, parts, chosen))


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.slow
def test_what_is_planned_and_what_is_whole_is_right_at_each_step(sampler: str) -> None:
    spec = one_cell(sampler, replicates=2)
    final = [measured(job) for job in drain(Agenda(spec))]
    agenda = Agenda(spec)
    done: list[RunRecord] = []
    while True:
        least, most, whole = twin(spec, done, final)
        assert agenda.planned == (least, most)
        assert agenda.replicates == (whole, 2)
        assert least <= len(final) <= most
        if not (job := agenda.next_job()):
            break
        done.append(measured(job))
        agenda.complete(done[-1])
    assert agenda.planned == (len(final), len(final))


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


# What a run looks at.


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_confirm_run_reads_what_its_contenders_may_use_and_nothing_else(sampler: str) -> None:
    agenda = Agenda(small(sampler))
    jobs = drain(agenda)
    wanted: dict[object, set[str]] = {}
    for chosen in agenda.selections:
        wanted.setdefault(configuration_of(chosen), set()).update(chosen.reads)
    confirmed = [job for job in jobs if job.stage == "confirm"]
    assert {configuration_of(job) for job in confirmed} == set(wanted)
    for job in confirmed:
        assert {*job.reads} == {"last"} | wanted[configuration_of(job)]
        assert {kind_of(name) for name in job.averages} <= {*job.reads}
    # With QMC a family's trajectory is shared, so a tune run reads for all; with TPE it reads for its own contender.
    for job in jobs:
        if job.stage == "tune" and sampler == "tpe" and job.search == "SGD last":
            assert (job.reads, job.averages) == (("last",), ())
        if job.stage == "tune" and job.search == "base":
            assert job.reads == ("last", "best", "swa")
    assert any(job.averages == () for job in confirmed)


def test_a_record_that_lacks_an_average_is_measured_again_and_one_that_has_more_is_not() -> None:
    records = whole("qmc")
    averaged = next(r for r in records if r.job.stage == "confirm" and "swa" in r.job.reads)

    def holding(reads: tuple[str, ...]) -> list[RunRecord]:
        job = averaged.job.model_copy(update={"reads": reads})
        return [r.model_copy(update={"job": job}) if r is averaged else r for r in records]

    for enough in (averaged.job.reads, (*averaged.job.reads, "ema"), averaged.job.reads[::-1]):
        assert Agenda(one_cell(), holding(enough)).finished
    for short in (("last",), ("last", "best")):
        lacking = Agenda(one_cell(), holding(short))
        assert lacking.next_job() == averaged.job
        assert lacking.next_job() is None
        lacking.complete(averaged)
        assert lacking.finished


def test_what_validation_liked_in_tuning_decides_no_weights_in_confirm() -> None:
    """The configuration and its length are carried over; weights and their epoch are not part of a confirm job."""
    spec = one_cell()
    agenda = Agenda(spec)
    drain(agenda)
    parts = [s for s in searches(spec, [replicate_of(spec, 1)]) if s.name == "base"]
    chosen = [s for s in agenda.selections if (s.replicate, s.family) == (1, "base")]
    moved = [replace(s, weights="swa@0.5", weights_epoch=3, val_score=0.0) for s in chosen]
    assert confirm_jobs(spec, parts, moved) == confirm_jobs(spec, parts, chosen)


def test_contenders_that_agree_share_their_runs() -> None:
    spec = one_cell()
    parts = [s for s in searches(spec, [replicate_of(spec, 1)]) if s.name == "base"]
    agenda = Agenda(spec)
    drain(agenda)
    one = next(s for s in agenda.selections if (s.replicate, s.contender) == (1, "SGD last"))
    other: Selection = replace(one, contender="SGD best", reads=("best",))
    assert len(confirm_jobs(spec, parts, [one, other])) == spec.confirms
    assert all(job.reads == ("last", "best") for job in confirm_jobs(spec, parts, [one, other]))
    longer = replace(other, epochs_factor=2.0)
    assert len(confirm_jobs(spec, parts, [one, longer])) == 2 * spec.confirms


def test_jobs_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Job] = []

    def counted(*arguments: object) -> Job:
        made.append(tune_job(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr("study.plan.agenda.tune_job", counted)
    agenda = Agenda(small())
    assert made == []
    agenda.next_job()
    assert len(made) == 1


def test_failed_trials_are_passed_over_and_a_dead_search_confirms_nothing() -> None:
    agenda = Agenda(small())
    while job := agenda.next_job():
        agenda.complete(measured(job, "failed" if job.family == "sam" else "completed"))
    assert agenda.finished
    assert agenda.replicates == (3, 3)
    assert {chosen.method for chosen in agenda.selections} == {"SGD", "SWA"}


def test_where_one_length_failed_the_other_is_picked() -> None:
    agenda = Agenda(one_cell())
    while job := agenda.next_job():
        agenda.complete(measured(job, "failed" if job.epochs_factor == 1 and job.stage == "tune" else "completed"))
    assert agenda.finished
    assert {(s.contender, s.epochs_factor) for s in agenda.selections} == {
        ("SGD last, 2× epochs", 2), ("SGD best, 2× epochs", 2), ("SWA", 2),
    }  # fmt: skip


def test_records_of_another_plan_are_left_out() -> None:
    stranger = measured(drain(Agenda(load_spec("smoke")[0]), limit=1)[0])
    elsewhere = measured(drain(Agenda(small(seed=1)), limit=1)[0])
    agenda = Agenda(small(), [stranger, elsewhere])
    assert agenda.records == []


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_another_seed_is_another_study(sampler: str) -> None:
    first, second = (drain(Agenda(one_cell(sampler, seed=seed))) for seed in (0, 1))
    assert not ids(first) & ids(second)
    assert not {job.seed for job in first} & {job.seed for job in second}


# Samplers.


def test_tpe_sees_whole_batches_only_and_learns_from_them() -> None:
    spec = one_cell("tpe", search={"sampler": "tpe", "trials": 60})
    space = spec.search
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


@pytest.mark.parametrize("trials", [8, 12, 30])
def test_tpe_leaves_its_random_start_when_trials_are_few(trials: int) -> None:
    """With Optuna's ten random trials a search of eight would be random search: results must come to matter."""
    spec = one_cell("tpe", search={"sampler": "tpe", "trials": trials})
    search = next(s for s in searches(spec) if s.name == "SAM")
    last, proposals = trials - 1, []
    for best in range(4):
        history: list[Outcome] = []
        for trial in range(needed_outcomes(spec.search, last)):
            proposal = propose(spec.search, search, trial, history[: needed_outcomes(spec.search, trial)])
            history.append(Outcome(proposal, float(trial == best)))
        proposals.append(propose(spec.search, search, last, history))
    assert len({proposal.learning_rate for proposal in proposals}) > 1
    assert spec.search.startup_trials <= trials / 2


def test_sizes_bound_what_is_run_and_costs_are_those_of_the_jobs() -> None:
    spec = small()
    jobs = drain(Agenda(spec))
    planned = sizes(spec)
    for end, compare in ((0, int.__le__), (1, int.__ge__)):
        assert compare(sum(size.runs[end] for size in planned), len(jobs))
    most = sum(size.gradient_evaluations[1] for size in planned)
    assert sum(gradient_evaluations(job) for job in jobs) <= most
    part = sizes(spec, [replicate_of(spec, 2)])
    assert 3 * sum(size.runs[1] for size in part) == sum(size.runs[1] for size in planned)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.parametrize("change", [{"replicates": 5}, {"confirms": 4}, {"problems": 1}])
def test_growth_keeps_every_run(sampler: str, change: dict[str, Any]) -> None:
    """By replicates, confirm seeds and problems whatever the sampler; the cell's name, which changes, has no say."""
    spec = one_cell(sampler)
    more = [{"task": "digits"}, {"task": "digits", "factors": {"label_noise": 0.3}}]
    grown = StudySpec.model_validate(spec.model_dump() | change | ({"problems": more} if "problems" in change else {}))
    assert ids(drain(Agenda(spec))) < ids(drain(Agenda(grown)))
