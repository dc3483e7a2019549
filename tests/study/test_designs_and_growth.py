"""Designs give the cells that they promise; a study may grow, and nothing that it measured is lost."""

import itertools
import tomllib
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from study.driver.opening import open_folder
from study.driver.suite import claim_specs
from study.plan.agenda import Agenda
from study.plan.cells import cells, epochs_factors, searches
from study.records import Job, Measurement, RunRecord
from study.specs.methods import epochs_factor_of_baseline
from study.specs.problems import Problem, cell_factors
from study.specs.spec import (
    SpecError,
    StudySpec,
    builtin_specs,
    extends,
    json_schema,
    parse_spec,
)
from study.specs.tasks import default_factors
from study.store.folder import ResultsError, frozen_spec, records_of
from study.store.record_files import write_record

TEXT = """
name = "small"
question = "?"
confirm_seeds = 2
budgets = ["E", "G", "T"]
[search]
trials = 4
[reference_times]
base = 1.0
sam = 1.84
[[problems]]
task = "digits"
"""


def small(*changes: tuple[str, str]) -> tuple[StudySpec, str]:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_spec(text, "small"), text


def done(job: Job) -> RunRecord:
    measured = Measurement(weights="last", epoch=job.epochs, val_score=0.5, val_loss=1.0)
    return RunRecord(
        run_id=job.run_id, spec_hash=small()[0].hash, job=job, status="completed", measurements=(measured,)
    )


def finish(agenda: Agenda, folder: Path) -> list[str]:
    ids = []
    while job := agenda.next_job():
        agenda.complete(done(job))
        write_record(folder, done(job))
        ids.append(job.run_id)
    return ids


@pytest.mark.parametrize("factors", [3, 4])
def test_a_half_design_is_balanced_and_confounds_no_two_main_effects(factors: int) -> None:
    levels = {"label_noise": [0.0, 0.3], "width": [1.0, 2.0], "schedule": ["cosine", "constant"], "epochs": [5, 10]}
    names = list(levels)[:factors]
    problem = Problem(task="digits", factors={name: levels[name] for name in names}, design="half")
    found = cell_factors(problem)
    assert len(found) == 2 ** (factors - 1)
    coded = np.array([[1 if cell[name] == levels[name][1] else -1 for name in names] for cell in found])
    assert (coded.sum(axis=0) == 0).all()
    assert all(abs(coded[:, a] @ coded[:, b]) == 0 for a, b in itertools.combinations(range(factors), 2))
    assert (coded.prod(axis=1) == 1).all()


def test_the_centre_is_half_way_and_stands_once() -> None:
    problem = Problem(task="digits", factors={"label_noise": [0.0, 0.4], "epochs": [5, 10]}, centre=True)
    found = cell_factors(problem)
    assert len(found) == 5
    assert (found[-1]["label_noise"], found[-1]["epochs"]) == (0.2, 8)
    assert isinstance(found[-1]["epochs"], int)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"factors": {"label_noise": [0.0, 0.1, 0.2], "epochs": [1, 2]}, "design": "half"}, "exactly two values"),
        ({"factors": {"label_noise": [0.0, 0.1], "epochs": [1, 2]}, "design": "half"}, "at least three factors"),
        ({"factors": {"schedule": ["cosine", "constant"]}, "centre": True}, "a number"),
    ],
)
def test_a_design_that_can_not_be_is_refused(problem: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Problem.model_validate({"task": "digits"} | problem)


@pytest.mark.parametrize(
    "change",
    [
        ("trials = 4", "trials = 9"),
        ("confirm_seeds = 2", "confirm_seeds = 5"),
        ('task = "digits"', 'task = "digits"\n[[problems]]\ntask = "digits"\nfactors.label_noise = 0.3'),
    ],
)
def test_a_grown_study_keeps_all_runs_that_still_belong_to_it(change: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    spec, text = small()
    _, agenda = open_folder(spec, text, folder, say=print)
    before = finish(agenda, folder)
    grown, grown_text = small(change)
    assert extends(grown, spec)
    said: list[str] = []
    held, agenda = open_folder(grown, grown_text, folder, say=said.append)
    assert "all that it measured is kept" in said[0]
    assert held == grown == frozen_spec(folder)
    assert not set(before) & set(finish(agenda, folder))
    assert agenda.finished
    assert set(before) <= {record.run_id for record in records_of(folder, grown)}
    # Every cell goes by its new name, whatever it was called when its runs were made.
    assert {record.job.cell for record in records_of(folder, grown)} == {cell.name for cell in cells(grown)}


def test_a_spec_copied_from_a_results_folder_starts_a_study_of_its_own(tmp_path: Path) -> None:
    open_folder(*small(), tmp_path / "first", say=print)
    copied = (tmp_path / "first" / "spec.toml").read_text()
    open_folder(parse_spec(copied, "copied"), copied, tmp_path / "second", say=print)
    assert frozen_spec(tmp_path / "second") == small()[0]
    assert (tmp_path / "second" / "spec.toml").read_text().count("# spec hash") == 1


@pytest.mark.parametrize(
    "change",
    [
        ("trials = 4", "trials = 3"),
        ("confirm_seeds = 2", "confirm_seeds = 1"),
        ("trials = 4", "trials = 4\nrho = { low = 0.1, high = 0.2 }"),
        ("confirm_seeds = 2", "confirm_seeds = 2\ndelta = 0.1"),
        ('task = "digits"', 'task = "mnist1d"'),
        ("trials = 4", 'trials = 4\nsampler = "tpe"'),
    ],
)
def test_any_other_change_is_refused_and_changes_nothing(change: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    spec, text = small()
    open_folder(spec, text, folder, say=print)
    before = (folder / "spec.toml").read_bytes()
    assert not extends(small(change)[0], spec)
    with pytest.raises(ResultsError, match="another study"):
        open_folder(*small(change), folder, say=print)
    assert (folder / "spec.toml").read_bytes() == before


def test_reference_time_stretches_the_baseline_by_what_was_measured() -> None:
    spec, _ = small()
    assert epochs_factor_of_baseline("SAM", "T", spec.reference_times) == 1.84
    assert epochs_factors(spec, "SGD") == [1.0, 1.84, 2.0]
    assert sorted(s.epochs_factor for s in searches(spec) if s.family == "base") == [1.0, 1.84, 2.0]


def test_reference_times_are_measured_before_the_first_run_and_frozen(tmp_path: Path) -> None:
    text = TEXT.replace("[reference_times]\nbase = 1.0\nsam = 1.84\n", "")
    spec = parse_spec(text, "small")
    held, _ = open_folder(spec, text, tmp_path / "study", say=print)
    assert set(held.reference_times) == {"base", "sam"}
    assert held.reference_times["base"] == 1
    assert 1.2 < held.reference_times["sam"] < 4
    assert frozen_spec(tmp_path / "study") == held
    again, _ = open_folder(spec, text, tmp_path / "study", say=print)
    assert again == held


def test_reference_times_without_sgd_are_in_steps_of_the_first_family(tmp_path: Path) -> None:
    text = TEXT.replace("[reference_times]\nbase = 1.0\nsam = 1.84\n", "")
    text = text.replace('question = "?"', 'question = "?"\nmethods = ["AdamW", "AdamW+SAM"]')
    held, _ = open_folder(parse_spec(text, "small"), text, tmp_path / "study", say=print)
    assert set(held.reference_times) == {"adamw", "adamw-sam"}
    assert held.reference_times["adamw"] == 1
    assert 1.2 < held.reference_times["adamw-sam"] < 4


def test_the_schema_accepts_every_builtin_spec_and_refuses_a_misspelling() -> None:
    schema = json_schema()
    for text in builtin_specs().values():
        jsonschema.validate(tomllib.loads(text), schema)
    with pytest.raises(jsonschema.ValidationError, match="seeds"):
        jsonschema.validate(tomllib.loads(TEXT.replace("confirm_seeds", "seeds")), schema)


def test_twelve_claims_each_name_what_they_expect() -> None:
    claims = claim_specs()
    assert [name[:2] for name in claims] == [f"{number:02}" for number in range(1, 13)]
    assert all(spec.hypotheses for spec, _ in claims.values())
    larger = claim_specs(scale=2.0)
    for name, (spec, _) in claims.items():
        assert larger[name][0].confirm_seeds == 2 * spec.confirm_seeds
        assert larger[name][0].search.trials == 2 * spec.search.trials


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('kind = "slope"', "factor = ''"),
        ('kind = "difference"', "other is missing"),
        ('kind = "gain"\nbudget = "T"', "the study has E, G"),
        ('kind = "gain"\nother = "ASAM"', "names 'ASAM'"),
        ('kind = "magic"', "'magic'"),
    ],
)
def test_a_hypothesis_that_can_not_be_judged_is_refused(line: str, message: str) -> None:
    text = (
        builtin_specs()["smoke"] + f'\n[[hypotheses]]\nid = "x"\nclaim = "?"\nmethod = "SAM"\nexpected = "+"\n{line}\n'
    )
    with pytest.raises(SpecError, match=message):
        parse_spec(text, "mine")


def test_defaults_cover_every_factor() -> None:
    assert set(default_factors("digits")) == set(default_factors("mnist1d"))
