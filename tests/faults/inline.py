"""The command ``python -m study.run`` with an engine that trains in the driver, one run after the other.

For faults of the driver and of its files: they strike the same code as under Ray, without the seconds that Ray takes to
start. Faults of workers, and what Ray does to signals, need the real engine.
"""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from study.listeners.listener import Listener


@contextmanager
def cluster(*_: Any) -> Iterator[Any]:
    yield SimpleNamespace(resources={"CPU": 1}, dashboard_url="", let_it_go=lambda: None, warning="")


def run_agenda(agenda: Any, data: Any, *, spec_hash: str, take: Any, listeners: Any, **_: Any) -> None:
    from study.training.trial import run  # noqa: PLC0415

    while job := agenda.next_job():
        for listener in listeners:
            listener.started(job)
        record = run(job, data[job.task], "cpu", spec_hash)
        take(record, b"")
        for listener in listeners:
            listener.finished(record)
            listener.tick()


class Gauges(Listener):
    def __init__(self, *_: Any) -> None:
        pass


def _pretend(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


if __name__ == "__main__":
    _pretend("study.engine.cluster", cluster=cluster)
    _pretend("study.engine.drive", run_agenda=run_agenda, HANG_AFTER_S=1.0)
    _pretend("study.engine.gauges", Gauges=Gauges)
    _pretend(
        "study.engine.landscapes", measure_landscapes=lambda folder, data, landscapes: None
    )  # no run of the tiny study is probed
    runpy.run_module("study.run", run_name="__main__", alter_sys=True)
