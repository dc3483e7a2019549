"""A run as it is trained where every method and every start of averaging has trainings of its own.

It is built by the study's own code (task, net, optimizer, data order, averages), so that what differs is what is done
with it: which weights one training answers for, and whether they are measured after every epoch or where it counts.
"""

from collections.abc import Mapping
from typing import Any

from ray import tune

from study.records import Job, RunRecord
from study.training.trial import Run


class OneByOne(Run):
    """A run that is measured as the public example of WASAM measures it."""

    def _take(self, epoch: int, train_loss: float) -> None:
        """Look at all weights after every epoch; what is seen where the study doesn't look is thrown away."""
        super()._take(epoch, train_loss)
        sets = {"val": self._sets["val"]}
        if epoch < self._job.epochs:
            self._measure("last", sets)
            for name in {*self._job.averages} & {*self._averages.ready}:
                with self._average(name):
                    self._measure(name, sets)


def train(job: Job, data: Any, every_epoch: bool) -> RunRecord:
    """Train a job to its end and return its record."""
    run = (OneByOne if every_epoch else Run)(job, data, "cpu", "0")
    run.advance()
    return run.record()


class OneByOneActor(tune.Trainable):
    """Trains the job of its configuration and reports its record, as JSON."""

    def setup(self, config: dict[str, Any], data: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take the data; one thread a run, as the study has it."""
        import torch  # noqa: PLC0415  # in the worker, before its first step, as the study has it

        torch.set_num_threads(1)
        self._data = data
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Point a reused actor at its next training."""
        self._wanted = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Train and report."""
        job = Job.model_validate_json(self._wanted["job"])
        return {
            "record": train(job, self._data[job.task], self._wanted["every_epoch"]).model_dump_json(),
            "done": True,
        }
