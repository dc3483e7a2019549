"""The actor that trains: one process of the study, reused from run to run."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from study.engine.bare_ray import discard_half_saved
from study.engine.lost_workers import error_line
from study.records import Job
from study.training.heap import keep_freed_memory

if TYPE_CHECKING:
    from study.training.loops import LoopRun
    from study.training.trial import Run

_CHECKPOINT = "run.pt"  # the file in Tune's checkpoint folder


@dataclass(frozen=True, slots=True)
class NotSaved:
    """What Tune is told of a save that failed: there is no checkpoint, and the run goes on."""

    checkpoint: None = None


class StudyRun(tune.Trainable):
    """One actor of the study: trains the job in its config and reports the record. The dashboard shows its name.

    One Tune step is a slice of the run, so a run that is shorter than a slice costs one report and no checkpoint.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask Ray for what the config says. (`ray.tune.with_resources` would hide this class's name on the dashboard.)

        A run that goes alone, because memory was short, gets a process of its own, too: the last one may hold what an
        earlier run leaked. Tune makes a new actor where the request differs, so it asks for a few bytes in addition.
        """
        own = {"memory": config["alone"]} if config["alone"] else {}
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]} | own])

    def setup(  # type: ignore[override]  # Ray's own way to hand shared objects over
        self, config: dict[str, Any], data: Mapping[str, Any], spec_hash: str, slice_s: float, checkpoints: bool
    ) -> None:
        """Take the shared data. What is slow to import is imported here at the latest, before the first step."""
        import torch  # noqa: PLC0415

        from study.training import trial  # noqa: PLC0415

        self._new_run = trial.begin
        torch.set_num_threads(max(1, int(config["cpus"])))
        keep_freed_memory()
        self._data, self._spec_hash = data, spec_hash
        self._slice_s, self._checkpoints = slice_s, checkpoints
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Point the actor at its next job; nothing of the last run is kept."""
        self._job = Job.model_validate(new_config["job"])
        self._run: Run | LoopRun | None = None
        self._note = ""
        self._device_ids = tuple(str(number) for number in ray.get_gpu_ids())
        self._device = _prepared_device(self._device_ids, 1.0 if new_config["alone"] else new_config["gpus"])
        return True

    def step(self) -> dict[str, Any]:
        """Train one slice; report the record after the last one, and ask for a checkpoint after any other."""
        run = self._begun()
        note, self._note = self._note, ""
        if not run.advance(self._slice_s):
            return {"done": False, "note": note, SHOULD_CHECKPOINT: self._checkpoints and run.resumable}
        report = {"record": run.record().model_dump_json(), "weights": base64.b64encode(run.weights()).decode()}
        del run
        self._run = None  # an actor that waits for its next job needs no model on its device
        _release_memory(self._device)
        return report | {"done": True, "note": note, SHOULD_CHECKPOINT: False}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save the run if that can be: a checkpoint saves time and nothing else, so a full disk stops no run."""
        try:
            with TemporaryDirectory() as folder:
                return super().save(checkpoint_dir or folder)
        except (OSError, RuntimeError) as error:  # the latter is Ray's where the storage has vanished
            why = getattr(error, "strerror", None) or error_line(str(error))
            self._note = f"it can't be saved ({why}); it goes on, and would be set back if its worker were lost"
            discard_half_saved(self)
            return NotSaved()

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a checkpoint if that can be; from one that is gone or damaged every retry would fail alike."""
        try:
            super().restore(checkpoint_path)
        except (OSError, ValueError) as error:
            self._run = None
            self._note = f"it starts anew, because {str(error).partition(';')[0]}"

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the run's exact state; Tune moves the folder into its storage."""
        (Path(checkpoint_dir) / _CHECKPOINT).write_bytes(self._begun().state())

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on where a lost worker had saved; Tune has fetched the folder to this node."""
        self._begun().restore((Path(checkpoint) / _CHECKPOINT).read_bytes())

    def _begun(self) -> "Run | LoopRun":
        if self._run is None:
            self._run = self._new_run(
                self._job, self._data[self._job.task], self._device, self._spec_hash, device_ids=self._device_ids
            )
        return self._run


def _prepared_device(device_ids: tuple[str, ...], share: float) -> str:
    """Return the torch device of this actor, ready: no more of its memory than the share, matrices in TF32.

    The assigned resources decide, not torch: a trial without a GPU still sees all of the node's. And a GPU that is
    but a number to Ray (`ray start --num-gpus 2` on a machine without one) is the CPU.
    """
    import torch  # noqa: PLC0415

    if not device_ids or not torch.cuda.is_available():
        return "cpu"
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    torch.set_float32_matmul_precision("high")  # convolutions are in TF32 without being told
    return "cuda:0"


def _release_memory(device: str) -> None:
    """Give cached memory back: an idle actor's is missed by its neighbours on the same GPU."""
    import torch  # noqa: PLC0415

    if device != "cpu":
        torch.cuda.empty_cache()
