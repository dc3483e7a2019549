"""Lines and planes between finished runs, measured on the cluster's free cores."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from study.engine.lost_workers import lost_worker
from study.engine.slots import EngineError
from study.files import write_atomically
from study.training.heap import keep_freed_memory
from study.training.landscape import Content, Landscape, measure_landscape, read_content

_RETRIES = 2  # a landscape whose process dies is tried again this often
_IN_FLIGHT_PER_CORE = 2  # weights wait in memory, so not all landscapes are handed out at once


def measure_landscapes(folder: Path, data: Mapping[str, Any], landscapes: Iterable[Landscape]) -> None:
    """Measure every landscape and write its record as it is done; a core each.

    ``folder`` is the results folder, which the driver alone reads and writes; ``data`` are those of each task.

    Raises:
        EngineError: the process that measures a landscape failed, or was lost again and again.
    """
    shared: dict[str, ray.ObjectRef[Any]] = {}
    waiting: dict[ray.ObjectRef[str], Path] = {}
    most = max(2, _IN_FLIGHT_PER_CORE * int(ray.cluster_resources().get("CPU", 1)))
    measure = ray.remote(num_cpus=1, max_retries=_RETRIES)(_on_one_thread)
    for landscape in landscapes:
        task = landscape.job.task
        if task not in shared:
            shared[task] = ray.put(data[task])
        if len(waiting) >= most:
            _write_next(waiting)
        waiting[measure.remote(shared[task], landscape, read_content(folder, landscape))] = landscape.path
    while waiting:
        _write_next(waiting)


def _write_next(waiting: dict["ray.ObjectRef[str]", Path]) -> None:
    (done, *_), _ = ray.wait(list(waiting), num_returns=1)
    path = waiting.pop(done)
    try:
        content = ray.get(done)
    except RayError as error:
        raise EngineError(
            f"{path} can't be measured: {lost_worker(str(error)).cause}; every finished run is kept: mend that and "
            "give the command again."
        ) from error
    write_atomically(path, content, make_folder=True)


def _on_one_thread(data: Any, landscape: Landscape, content: Content) -> str:
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    keep_freed_memory()
    return measure_landscape(data, landscape, content)
