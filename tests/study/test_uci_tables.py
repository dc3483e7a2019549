"""UCI's tables are what the tables of tasks say, where Debian's package is here; where it isn't, a sentence says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_tables import VALIDATION
from matrices import repeated

from study.data import TaskError, load_data
from study.data.folders import data_folders
from study.data.mlbench import TABLES, find_table
from study.records import Job
from study.run import main
from study.specs.tasks import TASKS, default_factors
from study.tasks import build_task
from study.training.trial import run


def is_here() -> bool:
    try:
        return all(find_table(name).is_file() for name in TABLES)
    except TaskError:
        return False


needs_tables = pytest.mark.skipif(not is_here(), reason="UCI's tables are not here: make tables")


@needs_tables
@repeated("name", TABLES)
def test_a_table_is_what_its_entries_say(name: str) -> None:
    pool, entry, table = load_data(name), TASKS[name], TABLES[name]
    assert pool.validation_size == VALIDATION[name]
    assert entry.max_train_size == len(pool.labels) - pool.test_size - pool.validation_size
    assert (pool.classes, pool.test_size) == (entry.classes, entry.test_size)
    assert pool.inputs.shape[1:] == (table.columns,)
    assert {*pool.labels} == {*range(entry.classes)}
    assert np.isfinite(pool.inputs).all()
    assert pool.inputs.std(axis=0).min() > 0


@needs_tables
@repeated("name", TABLES)
def test_a_run_on_it_learns(name: str) -> None:
    torch.set_num_threads(1)
    pool = load_data(name)
    factors = default_factors(name) | {"train_size": 400, "epochs": 10, "batch_size": 20, "width": 0.5}
    one = Job(
        stage="confirm", cell=name, task=name, factors=factors, family="base", epochs_factor=1, learning_rate=0.03,
        rho=0.0, average_start=0.5, seed=1, test_seed=2, reads=("last",),
    )  # fmt: skip
    record = run(one, pool, "cpu", "0")
    assert record.error is None
    score = record.measurements[-1].test_score
    assert score is not None
    assert score > 2 / pool.classes
    assert record.versions[name].startswith("UCI by R's mlbench, CC BY 4.0 and GPL-2, sha256 ")


@needs_tables
def test_who_speaks_is_no_input_and_nothing_of_test_enters_the_scale() -> None:
    pool = load_data("vowel")
    assert not np.isin(pool.inputs[:, 0], range(15)).all()
    task = build_task("vowel", pool, default_factors("vowel"), 1, 2)
    known = pool.inputs[pool.development(2)]
    inputs, _ = task.train  # type: ignore[misc]
    rows = (known - known.mean(axis=0)) / known.std(axis=0)
    assert all(np.abs(rows - row).max(axis=1).min() < 1e-5 for row in np.asarray(inputs)[:20])


@repeated("name", TABLES)
def test_a_missing_table_is_said_in_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=f"mlbench/data/{TABLES[name].name}.rda.*in none of {tmp_path};.*make tables"):
        load_data(name, tmp_path)


def test_the_usual_folders_are_looked_into() -> None:
    assert Path("/usr/lib/R/site-library") in data_folders()


@pytest.mark.parametrize("content", [b"", b"no table", b"RDX3\nX\n\x00\x00"])
def test_a_damaged_table_is_said_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mlbench" / "data" / "Vowel.rda"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(TaskError, match=r"Vowel\.rda can't be read .*; remove it and get it anew"):
        load_data("vowel", tmp_path)


@needs_tables
def test_another_table_under_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mlbench" / "data" / "Vowel.rda"
    path.parent.mkdir(parents=True)
    path.write_bytes(find_table("dna").read_bytes())
    with pytest.raises(TaskError, match="can't be read"):
        load_data("vowel", tmp_path)


@pytest.mark.skipif(Path("/usr/lib/R/site-library/mlbench").is_dir(), reason="r-cran-mlbench is installed")
def test_the_command_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("WASAM_DATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert main(["atlas/vowel", "--out", "here"]) == 2
    assert "make tables" in capsys.readouterr().err
    assert not Path("here").exists()
