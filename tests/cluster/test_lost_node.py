"""A node is lost in the middle of a study: its runs go on elsewhere, and the study measures what it would have."""

from pathlib import Path
from typing import Any

import pytest
from engine_room import Diary

from study.plan.agenda import Agenda
from study.records import RunRecord
from study.specs.spec import parse_spec

pytestmark = pytest.mark.ray
EPOCHS, BATCHES = 10, 2
SPEC = """
name = "lost"
question = "Does a lost node change anything?"
methods = ["SGD", "SWA"]
budgets = ["E"]
primary_budget = "E"
replicates = 2
confirms = 1
[search]
trials = 2
[[problems]]
task = "faulty:build"
factors.train_size = 64
factors.batch_size = 32
factors.epochs = {epochs}
factors.fault = "none"
factors.marks = "{marks}"
"""


def trained_here(agenda: Agenda) -> dict[str, RunRecord]:
    """Run an agenda in this process, one run after the other: the undisturbed study."""
    from study.training.trial import Run  # noqa: PLC0415  # torch takes seconds to import

    while job := agenda.next_job():
        run = Run(job, None, "cpu", "0")
        run.advance()
        agenda.complete(run.record())
    return {record.run_id: record for record in agenda.records}


class Saboteur(Diary):
    """Takes a node away once a run on it has been saved."""

    def __init__(self, cluster: Any, node: Any, marks: Path) -> None:
        super().__init__()
        self._cluster, self._node, self._marks, self.done = cluster, node, marks, False

    def tick(self) -> None:
        # Three epochs are behind it, so the first slices are saved; more than half of the run is still to come.
        if not self.done and any(
            steps.stat().st_size >= 3 * BATCHES + 1 for steps in self._marks.glob(f"steps-{self._node.node_id}-*")
        ):
            self.done = True
            self._cluster.remove_node(self._node, allow_graceful=False)


def test_a_lost_node_changes_no_measurement(ray_cluster: Any, tmp_path: Path) -> None:
    from study.engine.drive import run_agenda  # noqa: PLC0415  # Ray takes seconds to import
    from study.engine.slots import Slots  # noqa: PLC0415

    spec = parse_spec(SPEC.format(epochs=EPOCHS, marks=tmp_path), "lost")
    undisturbed = trained_here(Agenda(spec))
    for mark in tmp_path.iterdir():
        mark.unlink()
    (tmp_path / "slow").touch()
    agenda = Agenda(spec)
    saboteur = Saboteur(ray_cluster, ray_cluster.add_node(num_cpus=1), tmp_path)
    run_agenda(
        agenda, dict.fromkeys(agenda.tasks), name="lost", spec_hash="0", slots=Slots(1, 0, 3),
        storage=str(tmp_path / "ray"), take=lambda record, weights: agenda.complete(record),
        listeners=[saboteur], slice_s=1e-6,
    )  # fmt: skip
    assert len(saboteur.retries()) == 1
    assert {record.run_id: record.measurements for record in agenda.records} == {
        run_id: record.measurements for run_id, record in undisturbed.items()
    }
    # The run went on where it was saved: an epoch or two were trained again, not the whole.
    trained = sum(steps.stat().st_size for steps in tmp_path.glob("steps-*"))
    planned = len(undisturbed) * EPOCHS * BATCHES
    assert planned < trained <= planned + 2 * BATCHES
