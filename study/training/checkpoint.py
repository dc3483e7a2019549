"""The state of an unfinished run as bytes: versioned, named after its run, readable without pickle's powers.

The bytes begin with the SHA-256 of the rest, because torch does not check the tensors in its files: a disk that lost
a bit would else change a run's numbers and tell nobody.
"""

import hashlib
import io
from typing import Any

import torch

CHECKPOINT_VERSION = 5


class CheckpointError(ValueError):
    """A checkpoint that can't be used; the message says why. The run starts anew then: nothing is lost but time."""


def write_checkpoint(run_id: str, state: dict[str, Any]) -> bytes:
    """Return a run's state as bytes, under the name of the run and the version of the format."""
    buffer = io.BytesIO()
    torch.save({"version": CHECKPOINT_VERSION, "run_id": run_id, "state": state}, buffer)
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def read_checkpoint(run_id: str, content: bytes, device: torch.device) -> dict[str, Any]:
    """Return the state that `write_checkpoint` was given for the same run.

    ``weights_only`` lets tensors and plain values in and nothing else, so a checkpoint runs no code.

    Raises:
        CheckpointError: damaged, of another run (another spec or seed), or of another version.
    """
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise CheckpointError("the checkpoint is damaged or cut short; start the run anew")
    try:
        held = torch.load(io.BytesIO(content[size:]), map_location=device, weights_only=True)
        found = {key: held[key] for key in ("version", "run_id", "state")}
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"the checkpoint can't be read ({error}); start the run anew") from error
    if found["version"] != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"the checkpoint has version {found['version']}, and this program reads {CHECKPOINT_VERSION}; "
            "start the run anew"
        )
    if found["run_id"] != run_id:
        raise CheckpointError(
            f"the checkpoint belongs to run {found['run_id']}, not to {run_id}: another spec, seed or proposal; "
            "start the run anew"
        )
    state: dict[str, Any] = found["state"]
    return state
