"""A run as it is trained where every method and every start of averaging has trainings of its own.

It is built by the study's own code (task, net, optimizer, data order, averages), so that what differs is what is done
with it: which weights one training answers for, and whether they are measured after every epoch or at the end.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from study.records import Job, Measurement
from study.tasks import EVALUATION_BATCH
from study.training.measure import DivergedError
from study.training.trial import Run
from wasam_core import recalibrate_batchnorm


class OneByOne(Run):
    """A run that is measured as the public example of WASAM measures it."""

    def scores(self, weights: Sequence[str], every_epoch: bool) -> dict[str, Any]:
        """Train to the end and return the final metrics of the weights that were asked for.

        Args:
            weights: ``last`` or names of averages.
            every_epoch: Measure them on validation after every epoch, an average under BatchNorm statistics of its own
                from the epoch on in which it begins, and the last weights until then.
        """
        sets = {"val": self._sets["val"]}
        try:
            for result in self._training():
                self._epoch = result.epoch
                if not math.isfinite(result.train_loss):
                    raise DivergedError
                if every_epoch and result.epoch < self._job.epochs:
                    for name in weights:
                        self._score(name, sets)
            if self._job.stage == "confirm":
                sets |= {"test": self._task.open_test(self._job.stage)}
            return {name: _metrics(self._score(name, sets)) for name in weights}
        except DivergedError:
            return {name: {"val": self._guess.score, "test": self._guess.score} for name in weights}

    def _score(self, name: str, sets: Mapping[str, Any]) -> Measurement:
        if name == "last" or name not in self._averages.ready:
            return self._measure("last", sets)[0]
        with self._averages.average_parameters(name):
            batches = (inputs for inputs, _ in self._sets["train"].batches(EVALUATION_BATCH))
            recalibrate_batchnorm(self._model, batches, forward_fn=lambda model, inputs: model(inputs))
            return self._measure(name, sets)[0]


def _metrics(found: Measurement) -> dict[str, float | None]:
    return {"val": found.val_score, "test": found.test_score}


class OneByOneActor(tune.Trainable):
    """Trains what its configuration says and reports the scores, as JSON."""

    def setup(self, config: dict[str, Any], data: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take the data; one thread a run, as the study has it."""
        import torch  # noqa: PLC0415  # in the worker, before its first step, as the study has it

        torch.set_num_threads(1)
        self._data = data
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Point a reused actor at its next training."""
        self._wanted = new_config["training"]
        return True

    def step(self) -> dict[str, Any]:
        """Train and report."""
        job = Job.model_validate(self._wanted["job"])
        run = OneByOne(job, self._data[job.task], "cpu", "0")
        return {"scores": json.dumps(run.scores(self._wanted["weights"], self._wanted["every_epoch"])), "done": True}
