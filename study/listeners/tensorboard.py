"""``tensorboard/``: every finished run as an event file, for ``tensorboard --logdir <results>/tensorboard``.

A view of the records. Ray's own logger is not used: it knows Tune's reports and not our curves, and writes its files
among Ray's. The event file is written at once, without tensorboardX's writer and its thread (15 ms a run; this: 3).
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar, text

from study.listeners.listener import run_name, scalars
from study.records import RunRecord


class TensorBoardLog:
    """Writes the event file of each run.

    Args:
        folder: One folder per run is made in it, named after it.
        records: Written at once, if they are not there: an interrupted study did not get to them.
    """

    def __init__(self, folder: Path, records: Iterable[RunRecord]) -> None:
        self._folder = folder
        for record in records:
            if not self._home(record).exists():
                self.write(record)

    def write(self, record: RunRecord) -> None:
        """Write the run's curves, its final metrics and its job; a folder that is there is whole."""
        home = self._home(record)
        building = home.with_name(f".{home.name}")
        building.mkdir(parents=True, exist_ok=True)
        writer = RecordWriter(str(building / "events.out.tfevents.0.run"))
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        job = text("job", f"```\n{record.job.model_dump_json(indent=1)}\n```")
        writer.write(Event(summary=job).SerializeToString())
        for name, epoch, value in scalars(record):
            writer.write(Event(step=epoch, summary=scalar(name, value)).SerializeToString())
        writer.flush()
        writer.close()
        shutil.rmtree(home, ignore_errors=True)  # of the same run, before it was retried
        building.rename(home)

    def _home(self, record: RunRecord) -> Path:
        return self._folder / run_name(record)
