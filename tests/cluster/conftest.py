"""One Ray cluster for the tests of this folder: two CPUs, two GPUs that are but numbers to Ray, no dashboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

FAST = {
    "RAY_metrics_report_interval_ms": "1000",  # 10 s otherwise
    "RAY_AUTH_MODE": "disabled",  # `cluster_utils` makes no token
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Ray leave sockets to the garbage collector: its node looks for a free port and never closes the probe."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="package")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Cluster"]:
    """Join a cluster whose driver stands in an empty folder, so that a user's module must travel to its workers."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  # Ray takes seconds to import; these tests may be deselected

    from study.engine.cluster import cluster  # noqa: PLC0415

    patch = pytest.MonkeyPatch()
    patch.chdir(tmp_path_factory.mktemp("cwd"))
    patch.syspath_prepend(Path(__file__).parent / "code")
    for name, value in FAST.items():
        patch.setenv(name, value)
    head = {"num_cpus": 2, "num_gpus": 2, "include_dashboard": False, "dashboard_agent_listen_port": 0}
    nodes = Cluster(initialize_head=True, head_node_args=head)  # port 0: another Ray on this machine has the usual one
    try:
        with cluster(nodes.address, tasks=["faulty:build", "dying_loops:run", "digits"]):
            yield nodes
    finally:
        nodes.shutdown()
        patch.undo()
