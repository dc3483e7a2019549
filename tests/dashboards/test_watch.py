"""The report of a running study: rewritten when records have changed, still once the study is finished or left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import synthetic_study, write_results

from dashboards.__main__ import main
from dashboards.report import write_report
from dashboards.watch import in_background, until_parent_exits, watch
from study.records import RunRecord
from study.store.folder import ResultsError
from study.store.record_files import write_record
from study.store.results import load

RELOADS = 'data-reload="7"'


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, list[RunRecord]]:
    """A study of which nothing is measured yet, and the records that are to come."""
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=2, replicates=5)
    return write_results(tmp_path / "study", spec, []), records


class Running:
    """Stands for the time between two looks: each lets the study go on by some runs, and notes the page before."""

    def __init__(self, folder: Path, records: list[RunRecord], step: int) -> None:
        self.folder, self.records, self.step = folder, records, step
        self.pages: list[str] = []

    def wait(self, seconds: float) -> None:
        assert seconds == 7
        self.pages.append((self.folder / "report.html").read_text(encoding="utf-8"))
        now, self.records = self.records[: self.step], self.records[self.step :]
        for record in now:
            write_record(self.folder, record)


def test_it_follows_the_study_and_ends_with_it(begun) -> None:
    folder, records = begun
    running, said = Running(folder, records, step=8), []
    study = watch(folder, every_s=7, wait=running.wait, say=said.append)
    assert study.findings.counts.finished
    assert len(running.pages) == -(-len(records) // 8)
    assert all(RELOADS in page and "Unfinished study." in page for page in running.pages)
    assert all('http-equiv="refresh" content="7"' in page for page in running.pages)
    assert [line.partition(": ")[2].split()[0] for line in said][:2] == ["0", "8"]
    last = (folder / "report.html").read_bytes()
    assert RELOADS.encode() not in last
    assert b'http-equiv="refresh"' not in last
    write_report(load(folder))
    assert (folder / "report.html").read_bytes() == last


def test_a_page_is_written_only_when_records_have_changed(begun) -> None:
    folder, records = begun
    written = []

    def wait(_: float) -> None:
        written.append((folder / "report.html").stat().st_mtime_ns)
        if len(written) == 3:
            for record in records:
                write_record(folder, record)

    watch(folder, every_s=7, wait=wait)
    assert len(set(written)) == 1


def test_a_watch_that_is_left_leaves_a_page_that_stays_as_it_is(begun) -> None:
    folder, records = begun
    write_record(folder, records[0])

    def interrupted(_: float) -> None:
        assert RELOADS in (folder / "report.html").read_text(encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(folder, every_s=7, wait=interrupted)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert RELOADS not in page
    assert "So far 1 of " in page


def test_half_a_record_and_a_temporary_file_disturb_nothing(begun) -> None:
    folder, records = begun
    (folder / "records").mkdir()
    (folder / "records" / ".half.json.1.tmp").write_text("{")
    running = Running(folder, records, step=len(records))
    assert watch(folder, every_s=7, wait=running.wait).findings.counts.finished


def test_the_command_exits_with_130_when_interrupted(begun, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dashboards.__main__.until_parent_exits", lambda: interrupted)
    assert main(["--watch", str(begun[0]), "--every", "7", "--with-parent"]) == 130


def test_the_command_ends_with_the_study_and_prints_what_it_wrote(begun, capsys: pytest.CaptureFixture[str]) -> None:
    folder, records = begun
    for record in records:
        write_record(folder, record)
    assert main(["--watch", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}: {len(records)} of {len(records)} runs\n"


def test_there_must_be_a_study_to_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--watch", str(tmp_path)]) == 2
    assert "has no spec.toml" in capsys.readouterr().err
    with pytest.raises(ResultsError):
        watch(tmp_path)
    with pytest.raises(SystemExit):
        main(["--watch", str(tmp_path), "--every", "0"])
    assert "a whole number of seconds from 1 is needed" in capsys.readouterr().err


def test_waiting_ends_when_the_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    wait = until_parent_exits(waited.append)
    wait(1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        wait(2)
    assert waited == [1, 2]


@pytest.mark.slow
def test_the_background_process_ends_with_the_block(begun, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def sleeper(command: list[str], **settings: object) -> subprocess.Popen[bytes]:
        assert command[1:] == ["-m", "dashboards", "--watch", str(begun[0]), "--every", "3", "--with-parent"]
        started.append(real([sys.executable, "-c", "input()"], **settings | {"stdin": subprocess.PIPE}))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", sleeper)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with in_background(begun[0], every_s=3):
            assert started[0].poll() is None
        assert started[0].returncode == -15
        with pytest.raises(ZeroDivisionError), in_background(begun[0], every_s=3):
            raise ZeroDivisionError
        assert started[1].returncode not in (None, -15)
    finally:
        signal.signal(signal.SIGINT, before)
    for process in started:
        assert process.stdin
        process.stdin.close()
