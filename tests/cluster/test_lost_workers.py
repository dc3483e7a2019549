"""Workers that never get to work: what Ray says of them, in pages, is a sentence in the record."""

from pathlib import Path
from typing import Any

import pytest
from engine_room import Diary, faulty_job, run_jobs

pytestmark = pytest.mark.ray
CAUSE = "it could not start: ImportError: libsomething.so.1: cannot open shared object file"


def test_a_worker_that_cannot_start_is_one_sentence_with_the_real_cause(ray_cluster: object, tmp_path: Path) -> None:
    from study.engine.worker import StudyRun  # noqa: PLC0415  # Ray takes seconds to import

    class Broken(StudyRun):
        def setup(self, config: dict[str, Any], **shared: Any) -> None:  # type: ignore[override]
            raise ImportError("libsomething.so.1: cannot open shared object file\nand more")

    diary = Diary()
    options: Any = {"trainable": Broken}
    [record] = run_jobs([faulty_job(tmp_path, 0)], tmp_path / "ray", diary=diary, **options).values()
    assert record.status == "failed"
    assert record.error == f"the worker was lost 3 times: {CAUSE}"
    assert {why for _, why in diary.retries()} == {f"its worker was lost: {CAUSE}"}
