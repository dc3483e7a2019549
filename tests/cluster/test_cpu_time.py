"""The CPU time of an actor is told, on this node and by another one."""

import time
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_actors_cpu_time_moves_when_it_works(
    ray_cluster: object, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray  # noqa: PLC0415  # Ray takes seconds to import

    from study.engine import watch  # noqa: PLC0415

    class Worker:
        def burn(self) -> None:
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass

    worker = ray.remote(num_cpus=0)(Worker).remote()
    ray.get(worker.burn.remote())
    if elsewhere:  # this process takes itself for one on another node
        monkeypatch.setattr(watch.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "another"))
    before = watch.cpu_seconds_of(worker).result()
    ray.get(worker.burn.remote())
    assert watch.cpu_seconds_of(worker).result() >= before + 0.2  # it is counted in ticks
    ray.kill(worker)
