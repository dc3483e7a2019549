"""Early stopping: never before the last average has started, decided by earlier batches alone, and always told."""

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import diverged_run, failed_run, planned_runs, pruned_run, synthetic_study

from study.data import load_data
from study.findings import Findings, find
from study.listeners.optuna_store import OptunaStore
from study.plan.agenda import Agenda
from study.plan.cells import Proposal, Search, gradient_evaluations, searches, sizes, tune_job
from study.plan.halving import stopped, with_rungs
from study.plan.proposals import needed_outcomes
from study.plan.selection import preferred_at, select
from study.records import Job, Measurement, RunRecord, kind_of
from study.specs.contenders import Contender, contender, kinds_read
from study.specs.space import BATCH, REDUCTION, SearchSpace
from study.specs.spec import SpecError, StudySpec, builtin_specs, extends, parse_spec
from study.specs.tasks import default_factors
from study.store.frame import frame_of
from study.training.trial import run

EARLY: dict[str, Any] = {"pruner": "asha", "average_start": {"low": 0.2, "high": 0.3}}
Study = tuple[StudySpec, list[RunRecord]]


def pruning(**keys: Any) -> Study:
    """Make a study whose averages start by 30 % of the epochs; its 20 epochs have rungs at 6 and 18."""
    search = EARLY | {"trials": 16} | keys.pop("search", {})
    defaults: dict[str, Any] = {"tasks": ("digits",), "factors": {"label_noise": 0.3}, "average_starts": [0.25, 0.3]}
    return synthetic_study(**(defaults | keys), search=search)


@pytest.fixture(scope="module")
def study() -> Study:
    return pruning()


@pytest.fixture(scope="module")
def findings(study: Study) -> Findings:
    return find(*study, planned_runs(*study))


def tuned(
    records: list[RunRecord], search: str = "sam", factor: float = 1, replicate: int | None = 1
) -> list[RunRecord]:
    """Return the records of one search by trial, of one replicate or, with None, of all."""
    found = [
        r for r in records
        if (r.job.stage, r.job.search, r.job.epochs_factor) == ("tune", search, factor)
        and replicate in (None, r.job.replicate)
    ]  # fmt: skip
    return sorted(found, key=lambda record: (record.job.replicate, record.job.trial or 0))


@given(
    starts=st.lists(st.floats(0.01, 0.99), max_size=4),
    low=st.floats(0.01, 0.5), width=st.floats(0.01, 0.48), epochs=st.integers(1, 300),
)  # fmt: skip
def test_no_rung_stands_before_the_last_average_has_started(
    starts: list[float], low: float, width: float, epochs: int
) -> None:
    space = SearchSpace.model_validate(
        {"trials": 4, "pruner": "asha", "average_start": {"low": low, "high": low + width}}
    )
    rungs = space.rungs(starts, epochs)
    assert all(max([*starts, low + width]) * epochs <= rung < epochs for rung in rungs)
    assert all(later == REDUCTION * earlier for earlier, later in itertools.pairwise(rungs))
    assert SearchSpace(trials=4).rungs(starts, epochs) == ()


def test_a_pruner_that_can_not_prune_is_refused() -> None:
    text = builtin_specs()["quick"].replace('sampler = "qmc"', 'sampler = "qmc"\npruner = "asha"')
    late = text.replace("average_start = { low = 0.4, high = 0.95 }", "average_start = { low = 0.4, high = 0.99 }")
    assert late != text
    with pytest.raises(SpecError, match=r"pruner = 'asha' was given; .* at 0.99 of the epochs"):
        parse_spec(late, "mine")
    with pytest.raises(SpecError, match=r"search\.pruner = 'median' was given"):
        parse_spec(text.replace('"asha"', '"median"'), "mine")


def test_without_a_pruner_no_job_has_a_rung() -> None:
    _, records = synthetic_study(tasks=("digits",), trials=6)
    assert all((record.job.rungs, record.job.stop_below) == ((), ()) for record in records)
    assert {record.status for record in records} == {"completed"}


def test_rungs_and_levels_are_part_of_what_a_run_is() -> None:
    job = Job(
        stage="tune", cell="digits", task="digits", factors=default_factors("digits"), family="base", epochs_factor=1,
        learning_rate=0.1, rho=0, average_start=0.3, seed=0, trial=0, search="base",
    )  # fmt: skip
    changes: list[dict[str, object]] = [{}, {"rungs": (6,)}, {"rungs": (6,), "stop_below": ((6, "last", 0.5),)}]
    assert len({job.model_copy(update=change).run_id for change in changes}) == 3


def test_only_the_tune_stage_is_pruned_and_its_first_batch_never(study: Study) -> None:
    for record in study[1]:
        job = record.job
        assert job.rungs == ((6, 18) if job.stage == "tune" and job.epochs_factor == 1 else job.rungs)
        if job.stage == "confirm":
            assert (job.rungs, record.status) == ((), "completed")
        elif (job.trial or 0) < BATCH:
            assert (job.stop_below, record.status) == ((), "completed")
    assert sum(record.status == "pruned" for record in study[1]) > 5


@pytest.mark.parametrize("factor", [1, 2])
def test_a_run_must_be_among_the_best_third_of_earlier_batches_for_one_of_its_contenders(
    study: Study, factor: int
) -> None:
    """The rule, said again in another way: count those that are better."""
    ended_early = 0
    for search in (s for s in searches(study[0]) if s.epochs_factor == factor):
        trials = tuned(study[1], search.name, factor, search.replicate.number)
        for k, record in enumerate(trials):
            assert {*record.job.reads} == {*kinds_read(search.contenders)}
            for rung in record.job.rungs:
                if preferred_at(record.measurements, rung).of(("last",)) is None:
                    continue  # it ended before
                goes_on = []
                for one in search.contenders:
                    own = score_at(rung, one, record)
                    seen = [score_at(rung, one, r) for r in trials[: k // BATCH * BATCH]]
                    known = [value for value in seen if value is not None]
                    better = sum(value > own for value in known)  # type: ignore[operator]
                    goes_on.append(not known or better < math.ceil(len(known) / 3))
                ended_here = record.status == "pruned" and record.last_epoch == rung
                assert ended_here != any(goes_on)
                ended_early += ended_here
    assert ended_early > 5


def score_at(epoch: int, one: Contender, record: RunRecord) -> float | None:
    return max(
        (m.val_score or 0 for m in record.measurements if m.epoch == epoch and kind_of(m.weights) in one.reads),
        default=None,
    )


@settings(max_examples=20, deadline=None)
@given(slots=st.integers(1, 7), seed=st.integers(0, 99), stop=st.integers(0, 300))
@pytest.mark.slow
def test_neither_timing_nor_an_interruption_changes_what_is_run(study: Study, slots: int, seed: int, stop: int) -> None:
    spec, records = study
    by_id = {record.run_id: record for record in records}
    rng, agenda, under_way, done = random.Random(seed), Agenda(spec), [], []
    for _ in range(10_000):
        while len(under_way) < slots and (job := agenda.next_job()):
            under_way.append(job)
        if not under_way:
            break
        job = under_way.pop(rng.randrange(len(under_way)))
        done.append(by_id[job.run_id])  # a KeyError: another run was asked for
        agenda.complete(done[-1])
        if len(done) == stop:
            agenda, under_way = Agenda(spec, done), []
    assert agenda.finished
    assert {record.run_id for record in done} == set(by_id)


def test_a_longer_search_begins_with_the_shorter_one(study: Study) -> None:
    spec, records = study
    grown = pruning(search={"trials": 20}, runs=0)[0]
    kept = {record.run_id for record in Agenda(grown, records).records}
    assert extends(grown, spec)
    assert {record.run_id for record in records if record.job.stage == "tune"} <= kept


def one_search(spec: StudySpec) -> Search:
    return next(s for s in searches(spec) if s.name == "sam")


def sam_of(spec: StudySpec) -> Contender:
    return contender(spec, "SAM", "E")


def levels(study: Study, earlier: list[RunRecord]) -> dict[tuple[int, str], float]:
    """Return what the next trial would have to reach."""
    spec, _ = study
    job = tune_job(spec, one_search(spec), 15, Proposal(0.1, 0.1, 0.25))
    return {(rung, kind): score for rung, kind, score in with_rungs(spec, one_search(spec), job, earlier).stop_below}


def test_a_diverged_run_is_the_worst_a_failed_one_nothing_and_a_pruned_one_counts_as_far_as_it_got(
    study: Study,
) -> None:
    first, sam = tuned(study[1])[:4], sam_of(study[0])
    scores = sorted((score_at(6, sam, record) or 0 for record in first), reverse=True)
    best = max(first, key=lambda record: score_at(6, sam, record) or 0)
    others = [record for record in first if record is not best]
    assert levels(study, first)[6, "last+best"] == scores[1]  # the second of four: a third, rounded up
    assert levels(study, [diverged_run(best), *others])[6, "last+best"] == scores[2]
    assert levels(study, [failed_run(best), *others])[6, "last+best"] == scores[1]  # the first of three
    assert levels(study, [*map(diverged_run, first)]) == {}
    assert levels(study, [*map(failed_run, first)]) == {}
    short = [r.model_copy(update={"status": "pruned", "measurements": tuple(m for m in r.measurements if m.epoch <= 6)})
             for r in others]  # fmt: skip
    assert levels(study, [best, *short])[6, "last+best"] == scores[1]
    assert levels(study, [best, *short])[18, "last+best"] == score_at(18, sam, best)


@pytest.mark.parametrize(
    ("last", "best", "averaged", "ends"),
    [
        (0.7, 0.7, 0.7, True), (0.8, 0.8, 0.7, False), (0.7, 0.7, 0.9, False), (0.85, 0.85, 0.1, False),
        (0.5, 0.8, 0.1, False), (0.5, 0.79, 0.84, True),
    ],
)  # fmt: skip
def test_one_kind_of_weights_that_is_good_enough_keeps_a_run_going(
    last: float, best: float, averaged: float, ends: bool
) -> None:
    job = Job.model_construct(stop_below=((6, "last+best", 0.8), (6, "last+best+swa", 0.85)))
    here = [
        Measurement(weights="last", epoch=6, val_score=last),
        Measurement(weights="best", epoch=6, weights_epoch=4, val_score=best),
        Measurement(weights="swa@0.5", epoch=6, val_score=averaged),
        Measurement(weights="last", epoch=5, val_score=1.0),
    ]
    assert stopped(job, 6, here) is ends
    assert stopped(job, 18, here) is False


def test_a_pruned_run_is_never_selected_however_good_it_was(study: Study) -> None:
    spec, records = study
    trials = tuned(records)
    shining = [
        r.model_copy(update={"measurements": tuple(replace(m, val_score=1.0) for m in r.measurements)})
        if r.status == "pruned" else r
        for r in trials
    ]  # fmt: skip
    for one in one_search(spec).contenders:
        chosen = select(one, shining, spec.search)
        assert chosen == select(one, trials, spec.search)
        assert chosen is not None
        assert trials[chosen.trial].status == "completed"
        assert chosen.trials == 16


def test_the_findings_say_how_many_were_pruned(study: Study, findings: Findings) -> None:
    counted = sum(r.status == "pruned" for r in study[1] if r.job.search == "sam")
    caveats = {caveat.method: caveat.detail for caveat in findings.caveats if caveat.kind == "pruned runs"}
    assert set(caveats) == {"SGD", "SWA", "SAM", "WASAM"}
    assert caveats["SAM"] == (
        f"SAM: {counted} of 96 tuning runs ({counted / 96:.1%}) were pruned: "
        "stopped early and out of the running, which is hard on what gains late."
    )
    assert findings.counts.pruned == sum(r.status == "pruned" for r in study[1])
    assert findings.counts.finished
    assert not [c for c in findings.caveats if c.kind == "unfinished study"]


def test_a_pruned_run_stands_in_curves_at_what_it_had_reached(study: Study, findings: Findings) -> None:
    (curve,) = (c for c in findings.tuning_curves if (c.method, c.epochs_factor) == ("SAM", 1))
    trials, sam = tuned(study[1], replicate=None), sam_of(study[0])
    reached = [score_at(record.last_epoch, sam, record) for record in trials]
    assert curve.trials == tuple(range(1, 17))
    assert curve.expected[0] == pytest.approx(np.mean(reached))  # type: ignore[arg-type]
    assert curve.gradient_evaluations[-1] == pytest.approx(sum(r.gradient_evaluations for r in trials) / 6)
    (response,) = findings.rho_responses
    assert len(response.rho) == sum(r.status == "completed" for r in trials)


def test_the_frame_keeps_its_last_row(study: Study) -> None:
    frame = frame_of(study[1])
    last = frame[frame["final"] & (frame["weights"] == "last")]
    assert len(last) == len(study[1])
    assert set(last[last["status"] == "pruned"]["epoch"]) <= {6, 18, 12, 36}
    assert frame.groupby("run_id")["final"].any().all()


def test_optuna_sees_pruned_trials_as_pruned(study: Study, tmp_path: Path) -> None:
    spec, records = study
    agenda = Agenda(spec, tuned(records))
    OptunaStore(tmp_path / "optuna.db", agenda, agenda.records).close()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    trials = optuna.load_study(study_name="digits | SAM | replicate 1", storage=storage).trials
    pruned = [trial for trial in trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert len(pruned) == sum(r.status == "pruned" for r in tuned(records))
    assert all(len(trial.intermediate_values) == 1 for trial in pruned)
    storage.engine.dispose()


@pytest.mark.slow
def test_tpe_prunes_too_and_repeats_itself() -> None:
    spec, records = pruning(search={"sampler": "tpe", "trials": 12})
    assert any(record.status == "pruned" for record in records)
    again = pruning(search={"sampler": "tpe", "trials": 12})[1]
    assert [record.run_id for record in again] == [record.run_id for record in records]
    assert needed_outcomes(spec.search, 11) == needed_outcomes(pruning(runs=0)[0].search, 11) == 8


def test_sizes_say_what_pruning_can_save(study: Study) -> None:
    spec, records = study
    spent = sum(r.gradient_evaluations for r in records if r.job.stage == "tune")
    ends = [sum(size.gradient_evaluations[end] for size in sizes(spec) if size.stage == "tune") for end in (0, 1)]
    assert ends[0] < spent < ends[1]
    whole = sum(gradient_evaluations(record.job) for record in records if record.job.stage == "tune")
    assert spent < 0.9 * whole


def test_the_synthetic_runs_are_pruned_by_the_rule_itself(study: Study) -> None:
    assert all(pruned_run(record) == record for record in study[1] if record.status == "completed")


@pytest.fixture(scope="module")
def short() -> Job:
    return Job(
        stage="tune", cell="digits", task="digits",
        factors=default_factors("digits") | {"train_size": 300, "epochs": 6, "label_noise": 0.3},
        family="sam", epochs_factor=1, learning_rate=0.05, rho=0.1, average_start=0.3, average_starts=(0.5,),
        ema_decays=(0.9,), seed=0, trial=5, search="sam", reads=("last", "best", "swa", "ema"),
    )  # fmt: skip


def test_being_watched_at_a_rung_changes_no_bit_of_a_run_and_falling_short_ends_it(short: Job) -> None:
    torch.set_num_threads(1)
    data = load_data("digits")
    free = run(short, data, "cpu", "0")
    watched = run(short.model_copy(update={"rungs": (4,)}), data, "cpu", "0")
    assert [m for m in watched.measurements if m.epoch == 6] == [m for m in free.measurements if m.epoch == 6]
    at_rung = {m.weights: m.val_score for m in watched.measurements if m.epoch == 4}
    assert list(at_rung) == ["last", "best", "swa@0.5", "swa@0.3", "ema@0.9"]
    before = [m.val_score or 0 for m in free.measurements if m.weights == "last" and m.epoch <= 4]
    assert at_rung["best"] == max(before)
    reached = max(value or 0 for name, value in at_rung.items() if not name.startswith("ema"))
    wanted = "last+best+swa"
    kept = run(short.model_copy(update={"rungs": (4,), "stop_below": ((4, wanted, reached),)}), data, "cpu", "0")
    assert kept.status == "completed"
    higher = short.model_copy(update={"rungs": (4,), "stop_below": ((4, wanted, reached + 1e-6),)})
    ended = run(higher, data, "cpu", "0")
    assert (ended.status, ended.last_epoch, ended.error) == ("pruned", 4, None)
    assert ended.gradient_evaluations == gradient_evaluations(higher, 4) == free.gradient_evaluations * 4 // 6
    assert ended.measurements == watched.measurements[: len(ended.measurements)]
    assert all(m.test_score is None for m in ended.measurements)
