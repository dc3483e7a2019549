"""``python -m study.training.once RECORD``: train one run again, in this process: without Ray, and nothing is written.

For a look inside: ``python -m pdb -c continue -m study.training.once results/quick/records/RUN_ID.json`` stops where a
run raises, as does a breakpoint in a task, a loss or an optimizer.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError

from study.command_line import execute
from study.data import load_data
from study.records import RunRecord
from study.training.trial import Run


class _Raising(Run):
    """A run whose errors are its caller's."""

    @contextmanager
    def _watched(self) -> Iterator[None]:
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m study.training.once", description="Train one run again, here.")
    parser.add_argument("record", type=Path, metavar="RECORD", help="the run's record, a file of FOLDER/records")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cuda:0 (default: cpu)")
    given = parser.parse_args(arguments)
    try:
        before = RunRecord.model_validate_json(given.record.read_bytes())
    except (OSError, ValidationError) as error:
        print(
            f"{given.record} was given, which can't be read as a record ({str(error).splitlines()[0]}); needed is a "
            "file of FOLDER/records that this version has written.",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, "")  # a task of the user's own is looked for where the study was started
    torch.set_num_threads(1)  # as in a worker: other numbers of threads round otherwise
    run = _Raising(before.job, load_data(before.job.task), given.device, before.spec_hash)
    run.advance()
    print(run.record().model_dump_json(indent=1))
    return 0


if __name__ == "__main__":
    execute(main)
