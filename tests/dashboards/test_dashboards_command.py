"""``python -m dashboards``: what it writes, prints and refuses."""

from pathlib import Path

import pytest
from synthetic import synthetic_study, write_results

from dashboards.__main__ import main
from study.store.results import load


@pytest.fixture
def results(tmp_path: Path) -> Path:
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=2, replicates=5)
    return write_results(tmp_path, spec, records)


def test_it_writes_beside_the_records_and_prints_the_path(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    assert capsys.readouterr().out.strip() == str(results / "report.html")
    assert (results / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert load(results).findings.study in (results / "report.html").read_text(encoding="utf-8")


def test_it_writes_elsewhere_when_asked(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "deep" / "page.html"
    assert main([str(results), "-o", str(path)]) == 0
    assert path.is_file()
    assert not (results / "report.html").exists()


def test_it_draws_the_verdicts_of_one_study(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = results.parent / "verdicts.svg"
    for arguments in ([str(results.parent)], [str(results), "--watch"]):
        assert main([*arguments, "-o", str(picture)]) == 2
        assert "a picture is of one study" in capsys.readouterr().err
        assert not picture.exists()
    assert main([str(results), "-o", str(picture)]) == 0
    assert picture.read_text(encoding="utf-8").startswith("<svg ")


def test_rebuilds_are_identical_and_dated_only_by_source_date_epoch(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    main([str(results)])
    first = (results / "report.html").read_bytes()
    main([str(results)])
    assert (results / "report.html").read_bytes() == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    main([str(results)])
    assert b"1970-01-02 00:00 UTC" in (results / "report.html").read_bytes()


def test_a_folder_without_a_study_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "nothing") in error
    assert len(error.strip().splitlines()) == 1


def test_a_damaged_record_is_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = next((results / "records").glob("*.json"))
    damaged.write_text("{")
    assert main([str(results)]) == 2
    assert damaged.name in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m dashboards results/quick" in capsys.readouterr().out


def test_the_report_of_an_unfinished_study_says_so_far(tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=["digits"], trials=3, runs=10)
    folder = write_results(tmp_path / "unfinished", spec, records)
    assert main([str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "So far 10 of " in page
    assert "No verdict yet" in page
