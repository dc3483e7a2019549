"""``tensorboard/``: every finished run as an event file, for ``tensorboard --logdir <results>/tensorboard``.

A view of the records. Ray's own logger is not used: it knows Tune's reports and not our curves, and writes its files
among Ray's. The event file is written at once, without tensorboardX's writer and its thread (15 ms a run; this: 3).
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar, text

from study.files import temporary_beside
from study.listeners.listener import Listener, metric_values, run_name
from study.records import RunRecord


class TensorBoardLog(Listener):
    """Writes the event file of each run; one that can't be written raises, and leaves nothing behind.

    Args:
        folder: One folder per run is made in it, named after it; made if need be, in one that is there.
        records: Written at once, if they are not there: an interrupted study did not get to them.
    """

    def __init__(self, folder: Path, records: Iterable[RunRecord]) -> None:
        self._folder = folder
        for record in records:
            if not self._home(record).exists():
                self.finished(record)

    def finished(self, record: RunRecord) -> None:
        """Write the run's curves, its final metrics and its job; a folder that is there is whole."""
        home = self._home(record)
        building = temporary_beside(home)
        self._folder.mkdir(exist_ok=True)  # not the one above: results that have vanished must not come back half
        try:
            building.mkdir()
            _write_events(str(building / "events.out.tfevents.0.run"), record)
            shutil.rmtree(home, ignore_errors=True)  # of the same run, before it was retried
            building.rename(home)
        finally:
            shutil.rmtree(building, ignore_errors=True)  # what an error has left

    def _home(self, record: RunRecord) -> Path:
        return self._folder / run_name(record)


def _write_events(path: str, record: RunRecord) -> None:
    writer = RecordWriter(path)
    try:
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        job = text("job", f"```\n{record.job.model_dump_json(indent=1)}\n```")
        writer.write(Event(summary=job).SerializeToString())
        for name, epoch, value in metric_values(record):
            writer.write(Event(step=epoch, summary=scalar(name, value)).SerializeToString())
        writer.flush()
    finally:
        writer.close()
