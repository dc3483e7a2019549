"""The page of results that exist already, and the examples of the docs: each is run as it stands there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from markup import assert_closed
from run_tables import (
    Row,
    as_csv,
    as_mlflow_csv,
    as_optuna,
    as_parquet,
    as_wandb_documented,
    as_wandb_json,
    as_wandb_table,
    frame,
    table,
)  # fmt: skip

from study import judge as command
from study.findings import read_findings
from study.judge import judge, main
from study.stats import RULES

HERE = Path(command.__file__).parent
README = HERE / "existing" / "README.md"
HOSTILE = '<script>alert(1)</script>=1+1 & "é"'


def shaped(rows: list[Row], **values: object) -> list[Row]:
    return [row | values for row in rows]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the examples name."""
    folder = tmp_path_factory.mktemp("work")
    rows = [row | {"flops": {"SAM": 2.0}.get(row["optimizer"], 1.0)} for row in table(seeds=6)]
    as_csv(rows, folder)
    for write in (as_wandb_table, as_wandb_documented, as_wandb_json, as_optuna):
        write(table(seeds=5, problems=("digits",)), folder)
    mlflow = Path(as_mlflow_csv(table(seeds=5), folder / "..")).rename(folder / "mlflow.csv")
    assert mlflow.exists()
    as_parquet([row | {"ema": ema, "model": "mlp"} for row in rows for ema in (True, False)], folder)
    named = {"SGD": "SGD last", "Lion": "SGD best"}
    frame(row | {"optimizer": named.get(row["optimizer"], "SAM")} for row in rows).to_csv(
        folder / "baselines.csv", index=False
    )
    frame({**row, "mae": 100 * (1 - row["test_acc"])} for row in rows).drop(columns="test_acc").to_csv(
        folder / "mae.csv", index=False
    )
    return folder


def examples(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        found = re.match(r"\s*python -m study\.judge (.*?)(?:\s{3,}.*)?$", line)
        if found:
            yield found[1]


COMMANDS = [
    *(line for block in re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
      for line in examples(block)),
    *examples(command._EXAMPLES),
]  # fmt: skip


@pytest.mark.parametrize("line", dict.fromkeys(COMMANDS))
def test_every_example_of_the_docs_and_of_help_runs(
    line: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert main(shlex.split(line)) == 0, capsys.readouterr().err
    assert re.search(r"helps|no material effect|inconclusive|hurts", capsys.readouterr().out)


def test_the_python_of_the_docs_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert {path.name for path in Path("verdicts").iterdir()} == {"report.html", "findings.json", "verdicts.csv"}


def hostile() -> list[Row]:
    rows = table({"SGD": 0.0, "SAM": 0.012, HOSTILE: 0.0})
    rows = [row | {"seed": f"s{row['seed']}", "dataset": f"{row['dataset']} {HOSTILE}"} for row in rows]
    return [row | {"seed": f"other {row['seed']}"} if row["optimizer"] == HOSTILE else row for row in rows]


def test_the_page_is_closed_and_says_what_the_verdicts_are() -> None:
    found = judge(frame(hostile()), baseline="SGD")
    text = found.to_html()
    page = assert_closed(text, scripts=3)
    assert HOSTILE not in text
    said = ("Not tuned here.", "Unpaired.", "At each method's own cost", "Welch's t", *RULES.values())
    assert [words for words in said if words not in page.words] == []
    assert "tuned anew" not in page.words
    assert "best epoch" not in page.words.partition("Appendix")[0]
    assert text == judge(frame(hostile()), baseline="SGD").to_html()


def test_the_page_has_every_run_and_leaves_out_what_only_records_tell() -> None:
    rows = table({"SGD last": -0.01, "SGD best": 0.0, "SAM": 0.012}, problems=("digits",), seeds=7)
    found = judge(frame(rows), baseline=["SGD last", "SGD best"])
    text = found.to_html()
    page = assert_closed(text, scripts=3)
    assert text.count('cy="9"') == len(rows)
    ids = set(page.attributes("id"))
    assert {"answer", "accuracies", "verdicts", "forest", "caveats", "comparisons", "provenance"} <= ids
    assert not ids & {"why", "tuning", "runs", "methods", "curves"}
    assert "Switched off" not in page.tables["verdicts"]
    assert "the strongest of SGD last and SGD best" in page.words
    assert "runs.parquet" not in text.partition("</script>")[2]  # `study.judge` writes none


def test_the_command_on_the_page_judges_the_table_again(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    told = {
        "baselines.csv": {"baseline": ["SGD last", "SGD best"], "delta": 0.004, "paired": False},
        "mae.csv": {"score": "mae", "baseline": "SGD", "unit": "k$", "delta": {"": 2.0, "letters": 0.5}},
    }
    for name, options in told.items():
        found = judge(name, **options)
        found.save("first")
        line = re.search(r"python -m (study\.judge .*?)</code>", (workplace / "first/report.html").read_text("utf-8"))
        assert line
        arguments = shlex.split(line[1].replace("&#39;", "'"))[1:]
        assert main([*arguments, "--out", "again"]) == 0
        first, again = (read_findings(Path(folder) / "findings.json") for folder in ("first", "again"))
        assert repr(first.effects) == repr(again.effects)
        assert first.deltas == again.deltas
