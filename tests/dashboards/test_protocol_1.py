"""A study of protocol 1 is read as it is, and its page says above everything that it is one."""

import shutil
from pathlib import Path

import pytest
from markup import Page
from synthetic import spec_text, synthetic_study

from dashboards.closing import closing
from dashboards.report import build_report
from dashboards.studies import line_of
from study.findings import Findings, find
from study.records import RunRecord
from study.specs.spec import StudySpec, parse_spec
from study.store.folder import freeze_spec
from study.store.frame import frame_of
from study.store.record_files import migrated, write_record

SEEDS = 6
_ADDED = ("replicates ", "confirms ", "seed ", "weights ", "gradient_ceiling ")  # keys that came with protocol 2


def version_2(record: RunRecord) -> dict[str, object]:
    """Return a record as the program wrote it before there were replicates and best epochs."""
    content = record.model_dump(mode="json")
    job = content["job"]
    for name in ("replicate", "test_seed", "reads"):
        del job[name]
    del content["replicate"]
    job["measured"] = ["swa"] if "swa" in record.job.reads else []
    content["measurements"] = [
        {name: value for name, value in m.items() if name != "weights_epoch"}
        for m in content["measurements"]
        if m["weights"] != "best"
    ]
    return content | {"schema_version": 2}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, list[RunRecord], Path]:
    spec, made = synthetic_study(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3, confirm_seeds=SEEDS)
    records = []
    for record in made:
        job = record.job.model_copy(update={"test_seed": 0})
        same = record.model_copy(update={"job": job, "run_id": job.run_id})
        older = migrated(version_2(same))
        assert older is not None
        records.append(RunRecord.model_validate(older, strict=False))
    return spec, records, tmp_path_factory.mktemp("old")


def test_records_of_version_2_are_read(old) -> None:
    spec, records, _ = old
    assert spec.protocol == 1
    assert {record.schema_version for record in records} == {4}
    assert {record.replicate for record in records} == {1}


@pytest.fixture(scope="module")
def findings(old) -> Findings:
    spec, records, _ = old
    return find(spec, records)


def test_its_page_is_marked_above_its_answer(old, findings: Findings) -> None:
    _, records, _ = old
    page = build_report(findings, frame_of(records), records=records)
    text = Page(page).words
    assert "The study was made under protocol 1" in text
    assert text.index("made under protocol 1") < text.index("At equal gradient evaluations, all of them spent,")
    assert "minus that of tuned SGD with its last weights" in text
    assert f"Over {SEEDS} paired seeds of one tuning" in text
    assert page == build_report(findings, frame_of(records), records=records)


def test_its_terminal_and_its_line_of_the_index_are_marked(old, findings: Findings) -> None:
    spec, records, root = old
    text = "\n".join(line for line in spec_text(spec).splitlines() if not line.startswith(_ADDED))
    assert parse_spec(text, "old", frozen=True).hash == spec.hash
    assert "PROTOCOL 1: The study was made under protocol 1" in closing(findings, frame_of(records))
    folder = root / "study"
    folder.mkdir()
    freeze_spec(folder, spec, text)
    for record in records:
        write_record(folder, record)
    line = line_of(folder, root)
    shutil.rmtree(folder)
    assert (line.error, line.mark) == ("", "protocol 1")
    assert line.finished
