"""GPUs that are but numbers to Ray: who gets which does not need the hardware."""

from pathlib import Path

import pytest
from engine_room import faulty_job, run_jobs

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(("gpus", "used"), [(1, 2), (0.5, 1)])
def test_two_runs_side_by_side_share_a_gpu_only_at_a_half_each(
    ray_cluster: object, tmp_path: Path, gpus: float, used: int
) -> None:
    records = run_jobs([faulty_job(tmp_path, seed, "meet") for seed in range(2)], tmp_path / "ray", gpus=gpus)
    assert [record.status for record in records.values()] == ["completed"] * 2
    ids = [record.device_ids for record in records.values()]
    assert all(len(given) == 1 for given in ids)
    assert len(set(ids)) == used
