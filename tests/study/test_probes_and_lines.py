"""Probed runs say how sharp their weights are and keep them; lines between runs are measured once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from study.data import Pool, load_data
from study.files import write_atomically
from study.models import build_model
from study.plan.agenda import Agenda
from study.plan.cells import confirm_jobs, gradient_evaluations, searches
from study.plan.replicates import replicates_of
from study.plan.selection import Selection, preferred_of
from study.records import PROBES, LineRecord, PlaneRecord, RunRecord
from study.specs.contenders import Contender
from study.specs.spec import StudySpec, parse_spec
from study.store.record_files import read_lines, read_planes
from study.training.landscape import measure_landscape, missing_landscapes, read_content
from study.training.trial import run

pytestmark = pytest.mark.slow

SPEC = parse_spec(
    """
name = "probed"
question = "?"
methods = ["SGD", "SWA", "SAM"]
budgets = ["E"]
primary_budget = "E"
replicates = 2
confirms = 2
average_starts = [0.5]
probes = true
probe_budget = 400.0
[search]
trials = 1
unperturbed_share = 0.0
[[problems]]
task = "digits"
factors.train_size = 200
factors.epochs = 3
factors.schedule = "constant"
""",
    "probed",
)


@pytest.fixture(scope="module")
def digits() -> Pool:
    torch.set_num_threads(1)
    return load_data("digits")


@pytest.fixture(scope="module")
def finished(digits: Pool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Agenda]:
    folder = tmp_path_factory.mktemp("probed")
    agenda = Agenda(SPEC)
    while job := agenda.next_job():
        path = folder / "weights" / f"{job.run_id}.safetensors"
        agenda.complete(
            run(job, digits, "cpu", SPEC.hash, lambda kept, path=path: write_atomically(path, kept, make_folder=True))
        )
    measure_all(folder, agenda, digits)
    return folder, agenda


def measure_all(folder: Path, agenda: Agenda, digits: Pool) -> None:
    for one in missing_landscapes(folder, agenda):
        write_atomically(one.path, measure_landscape(digits, one, read_content(folder, one)), make_folder=True)


def confirmed(agenda: Agenda) -> list[RunRecord]:
    return [record for record in agenda.records if record.job.stage == "confirm"]


def probed(agenda: Agenda) -> list[RunRecord]:
    """The runs of each replicate's first confirm seed."""
    first = {one.number: one.confirm[0] for one in replicates_of(SPEC)}
    return [record for record in confirmed(agenda) if record.job.seed == first[record.replicate]]


def test_the_first_confirm_seed_of_each_replicate_is_probed_and_no_other(finished: tuple[Path, Agenda]) -> None:
    folder, agenda = finished
    chosen = {record.run_id for record in probed(agenda)}
    assert len(chosen) == 2 * SPEC.replicates == len(confirmed(agenda)) / SPEC.confirms
    for record in confirmed(agenda):
        assert record.error is None
        assert bool(record.job.probed) == bool(record.probes) == (record.run_id in chosen)
        assert (folder / "weights" / f"{record.run_id}.safetensors").exists() == (record.run_id in chosen)


def test_where_there_is_one_tuning_every_seed_is_probed() -> None:
    spec = SPEC.model_copy(update={"replicates": 1, "confirms": 5})
    (some,) = [[search] for search in searches(spec) if search.family == "base"]
    chosen = [selection_of(spec, one) for one in some[0].contenders]
    assert [bool(job.probed) for job in confirm_jobs(spec, some, chosen)] == [True] * 5


@pytest.mark.slow
def test_every_probe_is_measured_for_the_weights_that_stand_for_a_method(finished: tuple[Path, Agenda]) -> None:
    """The last weights, and of the averages the one that validation prefers; the best epoch is not probed."""
    for record in probed(finished[1]):
        stands = {kind: preferred_of(record).by_kind[kind].weights for kind in record.job.probed}
        assert {(p.weights, p.name) for p in record.probes} <= {(w, n) for w in stands.values() for n in PROBES}
        assert {p.name for p in record.probes if p.weights == "last"} == set(PROBES)
        assert record.job.probed == (("last", "swa") if record.job.family == "base" else ("last",))
        assert {p.weights for p in record.probes} == {*stands.values()}


def test_probes_keep_within_their_budget_and_are_billed_apart(finished: tuple[Path, Agenda]) -> None:
    records = probed(finished[1])
    budget = int(400 * 600 / 2)  # of the baseline's 3 epochs on 200 examples, for two sets of weights
    assert {record.job.probe_evaluations for record in records} == {budget}
    assert {record.probe_evaluations for record in confirmed(finished[1]) if not record.job.probed} == {0}
    for record in records:
        assert 0 < record.probe_evaluations <= budget * len(record.job.probed)
        assert record.gradient_evaluations == gradient_evaluations(record.job)


def selection_of(spec: StudySpec, one: Contender) -> Selection:
    return Selection(
        "digits", 1, one.name, one.method, one.reads, one.lengths, 1, 0, 0.1, 0.1, 0.5, "last", None, 0.5, 1, 1, ()
    )


@pytest.mark.parametrize("share", [0.15, 1.0])
def test_probing_costs_a_share_of_the_cheapest_run(share: float) -> None:
    spec = SPEC.model_copy(update={"probe_budget": share})
    for search in searches(spec):
        for job in confirm_jobs(spec, [search], [selection_of(spec, search.contenders[0])]):
            first = job.seed == search.replicate.confirm[0]
            assert job.probe_evaluations == (max(100, int(share * 600 / 2)) if first else 0)


def test_tune_runs_are_not_probed(finished: tuple[Path, Agenda]) -> None:
    assert not any(record.probes for record in finished[1].records if record.job.stage == "tune")


@pytest.mark.slow
def test_kept_weights_are_those_that_were_measured(finished: tuple[Path, Agenda], digits: Pool) -> None:
    folder, agenda = finished
    record = next(r for r in probed(agenda) if r.job.family == "sam")
    kept = load((folder / "weights" / f"{record.run_id}.safetensors").read_bytes())
    again: list[bytes] = []
    run(record.job, digits, "cpu", SPEC.hash, again.append)
    assert all(torch.equal(value, load(again[0])[name]) for name, value in kept.items())
    model = build_model(record.job.factors, (1, 8, 8), 10, record.job.seed)
    names = {name.removeprefix("last/") for name in kept if name.startswith("last/")}
    assert names == dict(model.named_parameters()).keys()


def test_a_line_begins_and_ends_at_the_weights_of_its_methods(finished: tuple[Path, Agenda], digits: Pool) -> None:
    folder, agenda = finished
    lines = read_lines(folder)
    assert {(line.start, line.end) for line in lines} == {("SGD", "SWA"), ("SGD", "SAM")}
    assert len(lines) == 2 * SPEC.replicates
    assert {(line.replicate, line.seed) for line in lines} == {(r.replicate, r.job.seed) for r in probed(agenda)}
    by_end = {(line.seed, line.end): line for line in lines}
    for record in probed(agenda):
        if record.job.family == "base":
            line, average = by_end[record.job.seed, "SWA"], preferred_of(record).by_kind["swa"].weights
            # Averages are measured under the population's BatchNorm statistics, and so is every point of a line.
            measured = next(m for m in record.measurements if m.weights == average)
            assert (line.alphas[0], line.alphas[-1]) == (0, 1)
            assert line.test_errors[-1] == pytest.approx(1 - (measured.test_score or 0), abs=1.5 / 397)
            assert line.test_losses[-1] == pytest.approx(measured.test_loss, rel=1e-3)


def test_what_is_measured_is_missing_no_more(finished: tuple[Path, Agenda]) -> None:
    folder, agenda = finished
    assert missing_landscapes(folder, agenda) == []
    path = next((folder / "lines").iterdir())
    text = path.read_text()
    path.unlink()
    assert [landscape.path for landscape in missing_landscapes(folder, agenda)] == [path]
    path.write_text(text)


def test_a_line_whose_weights_are_gone_is_left_out(finished: tuple[Path, Agenda], tmp_path: Path) -> None:
    assert missing_landscapes(tmp_path, finished[1]) == []


def test_the_plane_passes_through_the_weights_of_its_methods(finished: tuple[Path, Agenda]) -> None:
    folder, agenda = finished
    (found,) = read_planes(folder)  # one a cell: the first replicate's
    assert found.replicate == 1
    assert [name for name, _, _ in found.corners] == ["SGD", "SAM", "SWA"]
    assert found.corners[0][1:] == (0, 0)
    assert found.corners[1][2] == pytest.approx(0, abs=1e-5)
    base = next(r for r in probed(agenda) if r.job.family == "base" and r.job.seed == found.seed)
    sam = next(r for r in probed(agenda) if r.job.family == "sam" and r.job.seed == found.seed)
    ends = [load((folder / "weights" / f"{run.run_id}.safetensors").read_bytes()) for run in (base, sam)]
    apart = [(ends[0][key] - ends[1][key]).square().sum() for key in ends[0] if key.startswith("last/")]
    assert found.corners[1][1] == pytest.approx(sum(apart).item() ** 0.5, rel=1e-4)
    for values in (found.train_losses, found.test_losses):
        assert (len(values), {len(row) for row in values}) == (len(found.y), {len(found.x)})
    # Both trajectories began at the same weights; three epochs keep two snapshots.
    assert {name: len(points) for name, points in found.trajectories.items()} == {"SGD": 2, "SAM": 2}
    assert found.captured is not None
    assert 0 <= found.captured <= 1


def test_trajectories_are_kept_for_the_plane_alone(finished: tuple[Path, Agenda]) -> None:
    for record in probed(finished[1]):
        kept = load((finished[0] / "weights" / f"{record.run_id}.safetensors").read_bytes())
        epochs = {name.split("/")[0] for name in kept if name.startswith("epoch@")}
        assert epochs == ({"epoch@1", "epoch@2"} if record.replicate == 1 else set())


def test_line_files_hold_nothing_but_the_record(finished: tuple[Path, Agenda]) -> None:
    for path in (finished[0] / "lines").iterdir():
        assert set(json.loads(path.read_text())) == set(LineRecord.model_fields)
    for path in (finished[0] / "planes").iterdir():
        assert set(json.loads(path.read_text())) == set(PlaneRecord.model_fields)


def test_probing_changes_no_measurement(digits: Pool, finished: tuple[Path, Agenda]) -> None:
    record = probed(finished[1])[0]
    plain = run(record.job.model_copy(update={"probed": ()}), digits, "cpu", SPEC.hash)
    assert plain.measurements == record.measurements
