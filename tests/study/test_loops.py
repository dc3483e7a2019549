"""Loops of one's own: they get the verdicts of a task that trains alike, resume exactly, and are told what is wrong."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from study import new
from study.data import TaskError
from study.findings import find
from study.plan.agenda import Agenda
from study.records import Job, RunRecord
from study.specs.spec import StudySpec, parse_spec
from study.specs.tasks import default_factors
from study.tasks import build_task
from study.training import loop_preflight
from study.training.checkpoint import CheckpointError
from study.training.loop_preflight import LoopTrials
from study.training.loops import LoopRun, Turns
from study.training.preflight import Preflight, PreflightError, preflight
from study.training.trial import begin, run

HERE = Path(__file__).parent
ALL = ("last", "best", "swa")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)
    for limit in ("_SLOW_S", "_LONG_S"):  # on a busy machine everything is slow
        monkeypatch.setattr(loop_preflight, limit, float("inf"))


def job(name: str = "run", **changes: Any) -> Job:
    task = name if ":" in name else f"own_loops:{name}"
    factors = default_factors(task) | {"train_size": 40, "epochs": 4, "batch_size": 10} | changes.pop("factors", {})
    return Job(
        stage="confirm", cell=name, task=task, factors=factors, family="sam", epochs_factor=1, learning_rate=0.1,
        rho=0.1, average_start=0.4, average_starts=(0.5,), seed=7, test_seed=3, reads=ALL, tested_of=ALL, loop=True,
    ).model_copy(update=changes)  # fmt: skip


def completed(one: Job) -> RunRecord:
    record = run(one, None, "cpu", "0")
    assert record.error is None
    return record


Change = Callable[[str, dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], str]:
    """Make a loop that does what `own_loops.run` does, but for what it reports."""
    import own_loops  # noqa: PLC0415  # on the path inside a test alone

    def make(change: Change) -> str:
        def odd(trial: Any) -> None:
            own_loops.run(trial, change)

        monkeypatch.setattr(own_loops, "odd", odd, raising=False)
        return "odd"

    return make


def study(**changes: Any) -> StudySpec:
    factors = {"train_size": 40, "epochs": 3, "batch_size": 10}
    content: dict[str, Any] = {
        "name": "loops", "question": "?", "methods": ["SGD", "SWA", "SAM", "WASAM"], "replicates": 2, "confirms": 2,
        "search": {"trials": 3}, "problems": [{"task": "own_loops:run", "factors": factors}],
    }  # fmt: skip
    return StudySpec.model_validate(content | changes)


def problem(task: str, **factors: Any) -> dict[str, Any]:
    return {"task": f"own_loops:{task}", "factors": {"train_size": 40, "epochs": 3, "batch_size": 10} | factors}


def carried_out(spec: StudySpec) -> list[RunRecord]:
    agenda = Agenda(spec)
    while planned := agenda.next_job():
        agenda.complete(completed(planned))
    assert agenda.finished
    return agenda.records


def tried(spec: StudySpec) -> tuple[StudySpec, Preflight]:
    found = preflight(spec)
    return found.spec, found


# What it comes to


def test_a_loop_that_trains_like_a_task_gets_its_findings() -> None:
    """Selections, gains and verdicts of the study's own training are those of the same training by hand."""
    found = {}
    for name in ("twin", "twin_task"):
        spec = study(problems=[problem(name, schedule="constant")], budgets=["E", "G"])
        spec = spec.model_copy(update={"loops": {"own_loops:twin": ALL}} if name == "twin" else {})
        found[name] = find(spec, carried_out(spec))
    by_hand, ours = found["twin"], found["twin_task"]
    assert len(by_hand.effects) == len(ours.effects) == 6
    for one, other in zip(by_hand.effects, ours.effects, strict=True):
        assert (one.method, one.baseline, one.verdict, one.off) == (
            other.method,
            other.baseline,
            other.verdict,
            other.off,
        )
        assert one.differences == pytest.approx(other.differences, abs=1e-12)
    alike = [
        [(s.contender, s.trial, s.epochs_factor, s.weights, s.weights_epoch, s.candidates) for s in each.selections]
        for each in (by_hand, ours)
    ]
    assert alike[0] == alike[1]
    assert by_hand.counts.completed > ours.counts.completed  # what differs in weights is tested in runs of its own


def test_every_run_of_a_loop_is_tested_once_and_by_its_own_choice() -> None:
    spec = study().model_copy(update={"loops": {"own_loops:run": ALL}})
    records = carried_out(spec)
    for record in records:
        tested = [one for one in record.measurements if one.test_score is not None]
        assert len(tested) == (record.job.stage == "confirm")
        if tested:
            final = [one for one in record.measurements if one.epoch == record.job.epochs]
            asked = [one for one in final if one.weights.partition("@")[0] in record.job.tested_of]
            assert tested[0].val_score == max(one.val_score or 0.0 for one in asked)
    kinds = {(record.job.family, record.job.tested_of) for record in records if record.job.stage == "confirm"}
    assert kinds == {("base", ("last",)), ("base", ("best",)), ("base", ALL), ("sam", ("last", "best")), ("sam", ALL)}


def test_loops_mix_with_tasks_and_without_a_checkpoint_there_is_one_baseline_less(
    changed: Callable[[Change], str],
) -> None:
    name = changed(without("weights", "best"))
    small = {"replicates": 1, "confirms": 1, "search": {"trials": 2}}
    spec, found = tried(study(problems=[problem(name), problem("twin_task")], **small))
    assert found.spec.loops == {"own_loops:odd": ("last", "swa")}
    assert found.spec.test_parts == {"own_loops:odd": "loop", "own_loops:twin_task": "anew"}
    findings = find(spec, carried_out(spec))
    held_against = {effect.task: {one.baseline for one in effect.against} for effect in findings.effects}
    assert held_against["own_loops:odd"] == {"SGD last", "SGD last, 2× epochs"}
    assert held_against["own_loops:twin_task"] == {"SGD last", "SGD best", "SGD last, 2× epochs", "SGD best, 2× epochs"}
    said = {caveat.kind: caveat.detail for caveat in findings.caveats}
    assert "own_loops:odd" in said["no best epoch"]
    assert "own_loops:odd" in said["own loop"]


def test_what_a_study_can_only_see_at_its_end_is_a_caveat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that spends more than it did in miniature, and keeps a worse checkpoint than it has reported."""
    import own_loops  # noqa: PLC0415

    def odd(trial: Any) -> None:
        def report(**told: Any) -> None:
            if trial.rho and not trial.miniature and "gradient_evaluations" in told:
                told["gradient_evaluations"] *= 2
            if told["weights"] == "best" and "val" in told and not trial.miniature:
                told["val"] -= 0.5
            trial.report(**told)

        own_loops.run(Told(trial, report=report))  # type: ignore[arg-type]

    monkeypatch.setattr(own_loops, "odd", odd, raising=False)
    spec, _ = tried(study(problems=[problem("odd")], replicates=1, confirms=1, search={"trials": 2}))
    findings = find(spec, carried_out(spec))
    said = {(caveat.kind, caveat.method): caveat.detail for caveat in findings.caveats}
    assert (
        "SAM reported 480 gradient evaluations a run in own_loops:odd, where budget G allows 240"
        in (said["over the ceiling", "SAM"])
    )
    assert "SGD" not in {method for kind, method in said if kind == "over the ceiling"}
    assert "scores below an epoch that it has reported" in said["best is not the best", ""]


@pytest.mark.parametrize("better", [True, False])
def test_a_run_that_diverges_counts_like_guessing(better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_loops  # noqa: PLC0415

    monkeypatch.setattr(own_loops, "metric", own_loops.LoopMetric("error", 0.5, higher_is_better=better, unit="k$"))
    for value in (float("nan"), float("inf"), 1e301):
        monkeypatch.setattr(own_loops, "odd", stops_at(2, value), raising=False)
        record = completed(job("odd"))
        assert (record.status, record.metric, record.unit, record.higher_is_better) == (
            "diverged", "error", "k$", better,
        )  # fmt: skip
        final = {one.weights: one for one in record.measurements if one.epoch == 4}
        assert set(final) == {"last", "best", "swa@0.5", "swa@0.4"}
        assert {(one.val_score, one.test_score) for one in final.values()} == {(0.5, 0.5) if better else (-0.5, -0.5)}
        assert [one.epoch for one in record.measurements if one.epoch < 4] == [1, 2]


def stops_at(last: int, value: float) -> Callable[[Any], None]:
    """Return a loop that reports a value after some epochs, and hides every error that it can."""

    def odd(trial: Any) -> None:
        for epoch in range(trial.epochs):
            try:
                told = value if epoch >= last else 0.6
                trial.report(epoch=epoch, weights="last", val=told, gradient_evaluations=40 * (epoch + 1))
            except Exception:  # a loop that goes on whatever happens
                continue

    return odd


def test_a_run_is_pruned_at_a_rung_that_it_has_reported(changed: Callable[[Change], str]) -> None:
    pruned = job(stage="tune", tested_of=(), rungs=(2,), stop_below=((2, "last+best+swa", 2.0),))
    record = completed(pruned)
    assert record.status == "pruned"
    assert record.last_epoch == 2
    assert {one.weights for one in record.measurements if one.epoch == 2} == {"last", "best"}
    whole = completed(pruned.model_copy(update={"stop_below": ()}))  # what others are pruned by
    assert [one for one in whole.measurements if one.epoch == 2] == [
        one for one in record.measurements if one.epoch == 2
    ]
    silent = changed(lambda what, told: None if told.get("epoch") == 1 else told)
    assert completed(
        job(silent, **pruned.model_dump(include={"stage", "tested_of", "rungs", "stop_below"}))
    ).status == ("completed")


# Going on


def broken_off(one: Job, times: int) -> RunRecord:
    """Run a job that is lost after every time that it has saved, up to so many times, and goes on in a new process."""
    current = begin(one, None, "cpu", "0")
    while not current.advance(0.0):
        if current.resumable and times:
            state, times = current.state(), times - 1
            current.end()  # type: ignore[union-attr]
            current = begin(one, None, "cpu", "0")
            current.restore(state)
    assert times == 0
    return current.record()


@pytest.mark.parametrize("times", [1, 4])
def test_a_run_that_is_lost_ends_with_the_same_numbers(times: int) -> None:
    whole, lost = completed(job()), broken_off(job(), times)
    assert lost.measurements == whole.measurements
    assert lost.gradient_evaluations == whole.gradient_evaluations


def test_a_loop_that_saves_nothing_reports_and_starts_anew(changed: Callable[[Change], str]) -> None:
    reports: list[str] = []

    def silent(what: str, told: dict[str, Any]) -> dict[str, Any] | None:
        reports.extend(["val"] if "val" in told else [])
        return None if what == "save" else told

    one = begin(job(changed(silent)), None, "cpu", "0")
    turns = 0
    while not one.advance(0.0):
        turns += 1
        assert not one.resumable
    assert turns == len(reports)
    assert one.record().measurements == completed(job()).measurements


def test_a_checkpoint_of_another_run_is_refused() -> None:
    one = begin(job(), None, "cpu", "0")
    while not one.resumable:
        assert not one.advance(0.0)
    with pytest.raises(CheckpointError, match="belongs to run"):
        LoopRun(job(seed=8), "cpu", "0").restore(one.state())
    one.end()  # type: ignore[union-attr]


def test_either_of_two_works_at_a_time() -> None:
    seen: list[int] = []

    def work() -> None:
        for number in range(3):
            seen.append(number)
            turns.pause()

    turns = Turns(work)
    assert [turns.go_on() for _ in range(4)] == [False, False, False, True]
    assert seen == [0, 1, 2]


# What is wrong


def at(number: int, **changes: Any) -> Change:
    """Change the n-th report."""
    count = iter(range(1000))
    return lambda what, told: told | changes if what == "report" and next(count) == number else told


def where(name: str, value: Any, **changes: Any) -> Change:
    """Change the reports that have a value."""
    return lambda what, told: told | changes if told.get(name) == value else told


def without(name: str, start: str) -> Change:
    """Leave out the reports that have a value which starts like this."""
    return lambda what, told: None if str(told.get(name, "-")).startswith(start) else told


def with_test(**changes: Any) -> Change:
    return lambda what, told: told | changes if "test" in told else told


def uncounted(what: str, told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "gradient_evaluations"}


WRONG: dict[str, tuple[Change, str]] = {
    "counts from 1": (lambda what, told: told | {"epoch": told.get("epoch", 0) + 1}, "from 0 to 3"),
    "no epoch": (at(0, epoch=None), r"epoch = None was reported; epochs are counted as in range\(trial.epochs\)"),
    "half an epoch": (at(0, epoch=0.5), "epoch = 0.5"),
    "goes back": (where("epoch", 2, epoch=0, weights="last"), "epoch = 0 was reported after epoch = 1"),
    "twice": (where("weights", "swa@0.5", weights="last"), "'last' was reported twice at epoch = 3"),
    "unknown weights": (
        where("weights", "swa@0.5", weights="polyak"),
        "allowed are 'last', 'best' .* 'swa@0.5', 'swa@",
    ),
    "no score": (at(0, val=None), "val = None was reported; give a number"),
    "a text": (at(0, val="0.5"), "val = '0.5'"),
    "increments": (lambda what, told: told | {"gradient_evaluations": 80}, "80 was reported after 80 of an earlier ep"),
    "a count that falls": (at(3, gradient_evaluations=1), "1 was reported after .*the count so far"),
    "a negative count": (at(0, gradient_evaluations=-1), "give a whole number"),
    "no count": (uncounted, "has not reported its gradient_evaluations"),
    "no average": (without("weights", "swa"), "'swa@0.5' or 'swa@0.4' were not reported at its last epoch"),
    "no last": (without("weights", "last"), "'last' were not reported"),
    "no checkpoint": (without("weights", "best"), "'best' were not reported"),
    "another's test": (with_test(weights="swa@0.4"), "validation prefers 'last'"),
    "both": (with_test(val=0.5), "val and test were reported together"),
    "no test": (without("test", "0"), "without a test"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_fails_the_run_with_a_sentence(name: str, changed: Callable[[Change], str]) -> None:
    change, message = WRONG[name]
    record = run(job(changed(change)), None, "cpu", "0")
    assert record.status == "failed"
    assert re.search(message, (record.error or "").splitlines()[-1])


def test_a_test_is_refused_where_validation_decides_and_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_loops  # noqa: PLC0415

    def odd(trial: Any) -> None:
        for epoch in range(4):
            trial.report(epoch=epoch, weights="last", val=0.5, gradient_evaluations=40 * (epoch + 1))
        for _ in range(2):
            try:  # to catch it changes nothing
                trial.report(weights=trial.chosen, test=0.5)
            except TaskError as error:
                said.append(str(error))

    said: list[str] = []
    monkeypatch.setattr(own_loops, "odd", odd, raising=False)
    for stage, message in (("tune", "in the tune stage, where validation alone decides"), ("confirm", "a second test")):
        record = run(job("odd", stage=stage, reads=("last",), tested_of=("last",)), None, "cpu", "0")
        assert record.status == "failed"
        assert message in (record.error or "")
        assert message in said[-1]
    assert len(said) == 3


def test_a_loop_is_told_from_a_task_by_its_one_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_loops  # noqa: PLC0415

    def forms() -> Iterator[tuple[Any, bool, str]]:
        yield (lambda trial: None), True, "has not reported|were not reported"
        yield (lambda trial, depth=2: None), True, "were not reported"
        yield (lambda t: None), False, r"takes \(t\); that of a task takes \(seed, factors\)"
        yield (lambda trial, factors, more: None), False, r"takes \(trial, factors, more\)"
        yield (lambda: None), False, r"takes \(nothing\)"
        yield (lambda seed, factors: None), False, "returned NoneType; it must return a Task"

    for function, loop, message in forms():
        monkeypatch.setattr(own_loops, "odd", function, raising=False)
        planned = job("odd", loop=loop)
        assert re.search(message, run(planned, None, "cpu", "0").error or "")
        with pytest.raises(PreflightError, match="never reports weights" if loop else message):
            preflight(study(problems=[problem("odd")]))
    # And one that has become the other since the study was planned.
    monkeypatch.setattr(own_loops, "odd", own_loops.twin_task)
    assert "whose one argument is called trial" in (run(job("odd"), None, "cpu", "0").error or "")
    monkeypatch.setattr(own_loops, "odd", own_loops.run)
    with pytest.raises(TaskError, match="that of a loop of your own takes one argument"):
        build_task("own_loops:odd", None, job().factors, 1, 2)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (None, "there is none: write metric = LoopMetric"),
        ("accuracy", "it is str"),
        (lambda loops: loops.LoopMetric("accuracy", float("nan")), "a finite guess"),
        (lambda loops: loops.LoopMetric("", 0.5), "it needs a name"),
    ],
)
def test_a_loop_has_to_say_what_it_reports(metric: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_loops  # noqa: PLC0415

    monkeypatch.setattr(own_loops, "metric", metric(own_loops) if callable(metric) else metric)
    assert message in (run(job(), None, "cpu", "0").error or "")
    with pytest.raises(PreflightError, match=re.escape(message)):
        preflight(study())


# Before a study


class Told:
    """A trial that tells a loop something else."""

    def __init__(self, trial: Any, **changes: Any) -> None:
        self.trial, self.changes = trial, changes

    def __getattr__(self, name: str) -> Any:
        return self.changes[name] if name in self.changes else getattr(self.trial, name)


def loops_with(name: str) -> Any:
    """Return a loop that goes wrong in one way."""
    import own_loops  # noqa: PLC0415

    from wasam_core import WASAM  # noqa: PLC0415

    def same_optimizer(trial: Any) -> None:
        _ = trial.method, trial.rho
        plain = lambda model: WASAM(model.parameters(), torch.optim.SGD, rho=0.0, lr=trial.learning_rate)  # noqa: E731
        own_loops.run(Told(trial, build_optimizer=plain))  # type: ignore[arg-type]

    def own_rate(trial: Any) -> None:
        plain = lambda model: WASAM(model.parameters(), torch.optim.SGD, rho=trial.rho, lr=0.1)  # noqa: E731
        own_loops.run(Told(trial, build_optimizer=plain))  # type: ignore[arg-type]

    def own_seed(trial: Any) -> None:
        torch.manual_seed(0)
        own_loops.run(Told(trial, seed=0))  # type: ignore[arg-type]

    def drawn_anew(trial: Any) -> None:
        torch.seed()
        own_loops.run(trial)

    def half_restored(trial: Any) -> None:
        def save(state: Any) -> None:
            trial.save(lambda: state() | {"model": {name: 0 * value for name, value in state()["model"].items()}})

        own_loops.run(Told(trial, save=save))  # type: ignore[arg-type]

    def odd_state(trial: Any) -> None:
        own_loops.run(Told(trial, save=lambda state: trial.save({"it": own_loops.metric})))  # type: ignore[arg-type]

    def dear(trial: Any) -> None:
        def report(**told: Any) -> None:
            count = told.get("gradient_evaluations", 0)
            trial.report(**told | {"gradient_evaluations": count * (2 if trial.rho else 1)})

        own_loops.run(Told(trial, report=report))  # type: ignore[arg-type]

    def frugal(trial: Any) -> None:
        def report(**told: Any) -> None:
            trial.report(**told | {"gradient_evaluations": told["gradient_evaluations"] // 2})

        own_loops.run(Told(trial, report=report))  # type: ignore[arg-type]

    def raises(trial: Any) -> None:
        if trial.stage == "confirm":
            raise KeyError("no such column")
        own_loops.run(trial)

    def sometimes_best(trial: Any) -> None:
        def report(**told: Any) -> None:
            if not (told["weights"] == "best" and trial.rho):
                trial.report(**told)

        own_loops.run(Told(trial, report=report))  # type: ignore[arg-type]

    def without_best(trial: Any) -> None:
        own_loops.run(Told(trial, report=lambda **told: told["weights"] == "best" or trial.report(**told)))  # type: ignore[arg-type]

    def without_average(trial: Any) -> None:
        own_loops.run(Told(trial, averages=()))  # type: ignore[arg-type]

    return locals()[name]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "same_optimizer": ({}, "the same numbers .* for the trajectories 'base' and 'sam'"),
    "own_rate": ({}, "never reads trial.learning_rate"),
    "own_seed": ({}, "four seeds .* the same scores"),
    "half_restored": ({}, "was interrupted after it had saved, .* reported other scores"),
    "odd_state": ({}, "trial.save was given can't be read again"),
    "dear": ({}, r"gradient_ceiling = 2 allows \d+: mend the count"),
    "raises": ({}, "in miniature, the confirm stage of base .*KeyError: 'no such column'"),
    "sometimes_best": ({}, "'best' of some trajectories and not of sam"),
    "without_best": ({"weights": ["best"]}, "never reports weights 'best'"),
    "without_average": ({}, r"never reports weights of the kind 'swa' .*SWA would have none: report 'swa@0.5' or"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loop_that_a_study_can_not_be_made_of_is_refused_before_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import own_loops  # noqa: PLC0415

    changes, message = REFUSED[name]
    monkeypatch.setattr(own_loops, "odd", loops_with(name), raising=False)
    before = torch.get_rng_state()
    with pytest.raises(PreflightError) as raised:
        preflight(study(problems=[problem("odd")], **changes))
    assert re.search(message, str(raised.value))
    assert torch.equal(torch.get_rng_state(), before)


NOTED = {
    "drawn_anew": ("twice with one seed", "says less"),
    "frugal": ("gradient evaluations in miniature", "where the spec plans"),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_a_user_should_know_of_a_loop_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_loops  # noqa: PLC0415

    monkeypatch.setattr(own_loops, "odd", loops_with(name), raising=False)
    (said,) = preflight(study(problems=[problem("odd")])).notes
    assert all(part in said for part in NOTED[name])


def test_a_slow_loop_is_tried_less_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then each value of each factor is tried, and not each combination; and fewer choices among weights."""
    spec = study(problems=[problem("run", batch_size=[4, 6], momentum=[0.0, 0.9])])
    run_it, cells, runs = LoopTrials._run_anew, dict[float, set[str]](), dict[float, int]()
    for limit in (float("inf"), 0.0):
        jobs: list[Job] = []
        for name in ("_SLOW_S", "_LONG_S"):
            monkeypatch.setattr(loop_preflight, name, limit)
        monkeypatch.setattr(
            LoopTrials, "_run_anew", lambda self, one, jobs=jobs: (jobs.append(one), run_it(self, one))[1]
        )
        notes = preflight(spec).notes
        assert any("it may do less where trial.miniature is true" in note for note in notes) == (limit == 0)
        cells[limit], runs[limit] = {one.cell for one in jobs}, len(jobs)
    assert (len(cells[0.0]), len(cells[float("inf")])) == (3, 4)
    assert runs[0.0] < runs[float("inf")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": [problem("run", depth=[1, 2])]}, "factors.depth, which its loop never reads"),
        ({"problems": [problem("run", schedule="constant")]}, "factors.schedule, which its loop never reads"),
        ({"budgets": ["E", "T"], "primary_budget": "E"}, "budget T was given with the loop"),
    ],
)
def test_what_a_loop_can_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        preflight(study(**changes))


def test_a_good_loop_passes_with_nothing_to_say_and_its_weight_decay_searched() -> None:
    search = {"trials": 3, "weight_decay": {"low": 1e-4, "high": 1e-2, "log": True}}
    found = preflight(study(search=search, probes=True))
    assert found.spec.loops == {"own_loops:run": ALL}
    (said,) = found.notes
    assert "are not probed" in said


# On the real packages

STEPS = "gradient_accumulation_steps"
PACKAGES = {"loop": (), "lightning": ("lightning",), "huggingface": ("transformers", "accelerate")}


@pytest.fixture
def _quiet() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(lightning|transformers|accelerate)")  # advice on workers and loggers
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("kind", [kind for kind, what in new.KINDS.items() if what.function == "run"])
def test_each_example_of_a_loop_is_tried_and_goes_on_after_a_loss(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in PACKAGES[kind]:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"example_{kind}.py"
    assert new.main([str(path), "--kind", kind]) == 0
    spec = parse_spec(path.with_suffix(".toml").read_text(), kind)
    spec, found = tried(spec)
    assert found.spec.loops == {f"example_{kind}:run": ALL}
    assert not found.notes
    planned = Agenda(spec).next_job()
    assert planned is not None
    perturbed = {"loop": "sam", "lightning": "sam", "huggingface": "adamw-sam"}[kind]
    small = planned.factors | {"train_size": 80, "epochs": 3}
    changes = {"stage": "confirm", "factors": small, "family": perturbed, "rho": 0.05, "reads": ALL, "tested_of": ALL}
    one = planned.model_copy(update=changes)
    whole, lost = completed(one), broken_off(one, 2)
    assert lost.error is None
    assert lost.measurements == whole.measurements
    # The perturbed passes are counted: of two batches that make a step under Lightning, one is taken again.
    assert lost.gradient_evaluations == whole.gradient_evaluations == 80 * 3 * (1.5 if kind == "lightning" else 2)
    rungs = {"rungs": (2,), "stop_below": ((2, "last+best+swa", 2.0),)}  # every score is below this one
    pruned = completed(one.model_copy(update={"stage": "tune", "tested_of": ()} | rungs))
    assert (pruned.status, pruned.last_epoch) == ("pruned", 2)
    if kind != "loop":  # gradients that are accumulated are those of the larger batch; Lightning's SAM takes one again
        plain = {"family": "base", "rho": 0.0} if kind == "lightning" else {}
        if kind == "huggingface":  # with dropout, the masks of two batches are others than those of one
            module = sys.modules[f"example_{kind}"]
            off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            monkeypatch.setattr(module, "BertConfig", partial(module.BertConfig, **off))
        parts, whole = (
            completed(one.model_copy(update=plain | {"factors": small | {"batch_size": size, STEPS: count}}))
            for size, count in ((10, 2), (20, 1))
        )
        losses = [[found.val_loss for found in each.measurements] for each in (parts, whole)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert parts.gradient_evaluations == whole.gradient_evaluations


def test_the_example_of_the_docs_is_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (HERE.parent.parent / "study" / "tasks" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# my_loop.py\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "loop_of_the_docs.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    small = {"train_size": 40, "epochs": 3, "batch_size": 40}
    spec, found = tried(study(problems=[{"task": "loop_of_the_docs:run", "factors": small}], search={"trials": 2}))
    assert found.spec.loops == {"loop_of_the_docs:run": ("last", "swa")}
    assert not found.notes
    planned = Agenda(spec).next_job()
    assert planned
    assert completed(planned).higher_is_better is False
