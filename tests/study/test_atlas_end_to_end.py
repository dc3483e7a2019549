"""A part of the atlas from its first run to advice from it: run, added, read, answered, paged, advised from."""

from pathlib import Path

import pytest
from simulated_atlas import write_simulated

from dashboards.atlas import build_atlas
from study.advise import main as advise
from study.atlas.__main__ import main as atlas
from study.atlas.frames import load_gains, load_trials
from study.run import main as run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC = """
name = "toy"
question = "Does a part go all the way?"
methods = ["SGD", "SWA", "EMA", "SAM", "WASAM"]
budgets = ["E", "G"]
replicates = 5
confirms = 1
features = true
average_starts = [0.5]
[search]
trials = 2
[[problems]]
task = "wine"
factors.label_noise = [0.0, 0.3]
factors.train_size = 60
factors.epochs = 2
factors.batch_size = 20
"""


def test_a_part_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(SPEC)
    parts = write_simulated(tmp_path / "parts", mean=0.02)
    assert run(["toy.toml", "--out", "toy"]) == 0
    assert atlas(["add", "toy", "--parts", str(parts)]) == 0
    capsys.readouterr()
    gains = load_gains(parts)
    own = gains[gains["part"] == "toy"]
    assert len(own) == 2 * 4 * 2 * 5  # cells, methods, budgets, replicates
    assert {*own["domain"]} == {"tables"}
    assert own[["score", "gain", "crossed", "base_score", "gradient_noise"]].notna().all(axis=None)
    assert "toy" in {*load_trials(parts)["part"]}
    assert atlas(["answers", "--parts", str(parts)]) == 0
    said = capsys.readouterr().out
    assert "| SWA | G | 50 | 7 | " in said
    assert "wine +" in said or "wine -" in said
    assert "50 cells of 7 small tasks" in build_atlas(parts)
    assert advise(["toy.toml", "--parts", str(parts)]) == 0
    advice = capsys.readouterr().out
    assert advice.splitlines()[0].startswith(("This advice has no skill", "For tasks that were left out"))
    assert advice.count("| WASAM | ") == 2  # in each cell
    assert "It resembles wine" in advice  # itself
