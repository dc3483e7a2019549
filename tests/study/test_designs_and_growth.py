"""Designs give the cells that they promise; a study may grow, and nothing that it measured is lost."""

import itertools
import json
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from study.driver.messages import Say
from study.driver.resume import opened
from study.driver.suite import specs_of
from study.plan.agenda import Agenda
from study.plan.cells import cells, searches
from study.records import Job, Measurement, RunRecord
from study.run import main
from study.specs.contenders import baseline_lengths
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
from study.stats.effects import MIN_UNITS
from study.store.folder import (
    ResultsError,
    extended_from,
    freeze_spec,
    frozen_spec,
    records_of,
    set_aside_superseded,
)
from study.store.record_files import write_record
from study.store.results import load, write_frame_and_findings

TEXT = """
name = "small"
question = "?"
replicates = 2
confirms = 2
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
    rng = np.random.default_rng(int(job.run_id, 16))
    score = {"val_score": round(rng.random(), 3), "val_loss": 1.0}
    if job.stage == "confirm":
        score |= {"test_score": round(rng.random(), 3), "test_loss": 1.0}
    kinds = ["last", *(["best"] if "best" in job.reads else []), *job.averages]
    measured = [
        Measurement(weights=name, epoch=job.epochs, weights_epoch=1 if name == "best" else None, **score)
        for name in kinds
    ]
    return RunRecord(
        run_id=job.run_id, spec_hash=small()[0].hash, job=job, status="completed", measurements=tuple(measured)
    )


def open_folder(spec: StudySpec, text: str, folder: Path, say: Say) -> tuple[StudySpec, Agenda]:
    with opened(spec, text, folder, fresh=False, say=say) as study:
        return study.spec, study.agenda


def finish(agenda: Agenda, folder: Path, runs: int | None = None) -> list[str]:
    ids: list[str] = []
    while len(ids) != runs and (job := agenda.next_job()):
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
        ("replicates = 2", "replicates = 3"),
        ("confirms = 2", "confirms = 5"),
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
        ("replicates = 2", "replicates = 1"),
        ("confirms = 2", "confirms = 1"),
        ("confirms = 2", "confirms = 2\nseed = 1"),
        ("confirms = 2", 'confirms = 2\nweights = ["last"]'),
        ("confirms = 2", "confirms = 2\ngradient_ceiling = 3.0"),
        ("trials = 4", "trials = 4\nrho = { low = 0.1, high = 0.2 }"),
        ("confirms = 2", "confirms = 2\ndelta = 0.1"),
        ('task = "digits"', 'task = "mnist1d"'),
        ("trials = 4", 'trials = 8\nsampler = "tpe"'),
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


# What a folder says of a study that has grown.


def grown_folder(folder: Path, change: tuple[str, str], *, runs: int | None = None) -> Path:
    """Run a study in a folder, or its first runs, and open it again with more."""
    _, agenda = open_folder(*small(), folder, say=print)
    finish(agenda, folder, runs)
    open_folder(*small(change), folder, say=print)
    return folder


@pytest.mark.parametrize(
    ("change", "marked"),
    [
        (("replicates = 2", "replicates = 5"), 2),
        (("confirms = 2", "confirms = 3"), 2),
        (("trials = 4", "trials = 6"), 2),
        (('task = "digits"', 'task = "digits"\n[[problems]]\ntask = "digits"\nfactors.label_noise = 0.3'), 0),
    ],
)
def test_a_study_that_grows_after_it_could_be_seen_is_marked(
    change: tuple[str, str], marked: int, tmp_path: Path
) -> None:
    """New cells leave the gains of the old ones as they are; all else changes them after they were looked at."""
    folder = grown_folder(tmp_path / "study", change)
    assert extended_from(folder) == marked
    header = (folder / "spec.toml").read_text().splitlines()[:4]
    assert ("# replicates before it was extended: 2" in header) == bool(marked)
    found = [caveat for caveat in load(folder).findings.caveats if caveat.kind == "extended after looking"]
    assert len(found) == bool(marked)
    assert all("after its first 2 replicates could be looked at" in caveat.detail for caveat in found)


def test_the_mark_stays_and_what_has_not_run_is_not_marked(tmp_path: Path) -> None:
    folder = grown_folder(tmp_path / "study", ("replicates = 2", "replicates = 3"))
    spec, text = small(("replicates = 2", "replicates = 4"))
    open_folder(spec, text, folder, say=print)
    open_folder(spec, text, folder, say=print)
    assert extended_from(folder) == 2  # what had been looked at first
    assert (folder / "spec.toml").read_text().count("before it was extended") == 1
    assert frozen_spec(folder) == spec
    assert extended_from(grown_folder(tmp_path / "other", ("replicates = 2", "replicates = 3"), runs=0)) == 0
    copied = (folder / "spec.toml").read_text()
    open_folder(parse_spec(copied, "copied"), copied, tmp_path / "copy", say=print)
    assert extended_from(tmp_path / "copy") == 0


# Replicates that run elsewhere.


def run_part(folder: Path, numbers: Sequence[int] | None) -> list[str]:
    with opened(*small(), folder, fresh=False, replicates=numbers, say=lambda _: None) as study:
        return finish(study.agenda, folder)


def test_records_from_elsewhere_count_and_any_order_ends_with_the_same_findings(tmp_path: Path) -> None:
    texts = []
    for order in ([None], [[1], [2]], [[2], [1]], [[2], None]):
        name = "-".join(map(str, order))
        home, elsewhere = tmp_path / name, tmp_path / f"{name} elsewhere"
        *others, last = order
        for part in others:
            run_part(elsewhere, part)
        if others:  # records are files, and where they were made has no say
            freeze_spec(home, *small())
            shutil.copytree(elsewhere / "records", home / "records")
        run_part(home, last)
        write_frame_and_findings(load(home))
        texts.append((home / "findings.json").read_bytes())
        assert load(home).findings.counts.finished
    assert len(set(texts)) == 1


def test_a_part_that_is_whole_leaves_the_others_alone(tmp_path: Path) -> None:
    """Failed runs of one part are done again; the records of another part are not superseded by that."""
    folder = tmp_path / "study"
    run_part(folder, None)
    spec = small()[0]
    first = next(r for r in records_of(folder, spec) if r.job.replicate == 2 and r.job.stage == "tune")
    write_record(folder, first.model_copy(update={"status": "failed", "measurements": ()}))
    with opened(*small(), folder, fresh=False, retry_failed=True, replicates=[2], say=lambda _: None) as study:
        finish(study.agenda, folder)
        set_aside_superseded(folder, spec, study.agenda)
    assert {record.job.replicate for record in records_of(folder, spec)} == {1, 2}
    assert Agenda(spec, records_of(folder, spec)).finished
    assert not (folder / "records" / "superseded").exists()


# Folders of protocol 1.


@pytest.fixture
def old_folder(tmp_path: Path) -> Path:
    """A results folder as protocol 1 left it: spec and records, run ids and numbers as they were made then."""
    folder = tmp_path / "old"
    (folder / "records").mkdir(parents=True)
    (folder / "spec.toml").write_text(OLD["spec.toml"], encoding="utf-8")
    for record in OLD["records"]:
        (folder / "records" / f"{record['run_id']}.json").write_text(json.dumps(record))
    return folder


OLD = json.loads((Path(__file__).parent / "data" / "protocol-1-study.json").read_text(encoding="utf-8"))


def test_a_folder_of_protocol_1_is_read_as_it_is(old_folder: Path) -> None:
    study = load(old_folder)
    assert (study.spec.protocol, study.findings.protocol) == (1, 1)
    assert [record.run_id for record in study.records] == [record["run_id"] for record in OLD["records"]]
    gains = {f"{e.method} {e.budget}": e.mean for e in study.findings.effects}
    assert gains == pytest.approx(OLD["gains"])  # what protocol 1 said of them
    assert {(e.unit, e.n) for e in study.findings.effects} == {("seed", 5)}
    assert "protocol 1" in {caveat.kind for caveat in study.findings.caveats}
    assert study.findings.counts.finished


def test_a_folder_of_protocol_1_is_not_continued(
    old_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in old_folder.rglob("*") if path.is_file()}
    monkeypatch.chdir(old_folder.parent)
    for arguments in (["--resume", "old"], ["--resume", "old", "--retry-failed"], ["smoke", "--out", "old"]):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert "old holds a study of protocol 1" in said.err
        assert "python -m dashboards old" in said.err
    after = {path: path.read_bytes() for path in old_folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    again = old_folder.with_name("again.toml")
    again.write_text(OLD["spec.toml"])
    assert main(["again.toml"]) == 2
    assert "replicates = 10" in capsys.readouterr().err
    assert not extends(small()[0], parse_spec(OLD["spec.toml"], "old", frozen=True))


# Reference times.


def test_reference_time_buys_the_baseline_what_was_measured() -> None:
    spec, _ = small()
    assert baseline_lengths(spec, "SAM", "T") == (1, 1.84)
    lengths = [(s.epochs_factor, s.trials) for s in searches(spec) if s.family == "base" and s.replicate.number == 1]
    assert lengths == [(1, 4), (1.84, 1), (2, 2)]  # ⌊4 · .84/1.84⌋ and ⌊4/2⌋ of the same trials once more


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
        jsonschema.validate(tomllib.loads(TEXT.replace("confirms", "seeds")), schema)


def test_thirteen_claims_each_name_what_they_expect() -> None:
    claims = specs_of("claims")
    assert [name[:2] for name in claims] == [f"{number:02}" for number in range(1, 14)]
    assert all(spec.hypotheses for spec, _ in claims.values())
    # Those whose papers report last weights are about these; in the others a baseline may keep its best epoch.
    assert {name[:2] for name, (spec, _) in claims.items() if spec.weights == ("last",)} == {"01", "02", "10"}
    assert {spec.weights for spec, _ in claims.values()} == {("last",), ("last", "best")}
    assert all(spec.replicates >= MIN_UNITS for spec, _ in claims.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('kind = "slope"', "factor = ''"),
        ('kind = "difference"', "other is missing"),
        ('kind = "gain"\nbudget = "T"', "the study has E, G"),
        ('kind = "gain"\nother = "ASAM"', "names 'ASAM'"),
        ('kind = "magic"', "'magic'"),
        ('kind = "checkpoint"', r"the study has weights = \['last'\]"),
    ],
)
def test_a_hypothesis_that_can_not_be_judged_is_refused(line: str, message: str) -> None:
    text = (
        'weights = ["last"]\n'
        + builtin_specs()["smoke"]
        + f'\n[[hypotheses]]\nid = "x"\nclaim = "?"\nmethod = "SAM"\nexpected = "+"\n{line}\n'
    )
    with pytest.raises(SpecError, match=message):
        parse_spec(text, "mine")


def test_defaults_cover_every_factor() -> None:
    assert set(default_factors("digits")) == set(default_factors("mnist1d"))
