"""Who may import whom: each module is imported in a new process, and what came along is read from sys.modules."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "ray", "optuna", "plotly"}
WASAM_CORE = [path.stem for path in sorted((ROOT / "wasam_core").glob("*.py")) if path.stem != "__init__"]
DASHBOARDS = [path.stem for path in sorted((ROOT / "dashboards").glob("*.py")) if not path.stem.startswith("__")]
# Reading results must be instant.
READERS = ["records", "spec", "factors", "plan", "selection", "stats", "findings", "summary"]


def modules_after(statement: str) -> set[str]:
    """Run a statement in a new process and return the top-level packages that it loaded, and ours in full."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = done.stdout.split()
    return {name.partition(".")[0] for name in names} | {n for n in names if n.startswith(("study.", "dashboards."))}


@pytest.mark.parametrize("module", ["", *WASAM_CORE])
def test_wasam_core_stands_alone(module: str) -> None:
    loaded = modules_after(f"import wasam_core{'.' + module if module else ''}")
    assert not loaded & {"ray", "optuna", "plotly", "pandas", "study", "dashboards"}


@pytest.mark.parametrize("module", READERS)
def test_reading_results_needs_neither_torch_nor_ray(module: str) -> None:
    loaded = modules_after(f"import study.{module}")
    assert not loaded & {*HEAVY, "dashboards", "wasam_core"}


@pytest.mark.parametrize("module", DASHBOARDS)
def test_dashboards_never_train(module: str) -> None:
    loaded = modules_after(f"import dashboards.{module}")
    assert not loaded & {"torch", "ray", "wasam_core", "study.trial", "study.train", "study.run"}


def test_listing_and_help_start_nothing_heavy() -> None:
    loaded = modules_after("import study.run; study.run.main(['--list'])")
    assert not loaded & {"torch", "ray", "dashboards"}


def test_ray_is_imported_in_one_file() -> None:
    users = [
        path.name
        for path in (ROOT / "study").rglob("*.py")
        if "import ray" in path.read_text() or "from ray" in path.read_text()
    ]
    assert users == ["search.py"]


def test_study_asks_for_the_report_in_one_place() -> None:
    users = [
        path.name
        for path in (ROOT / "study").rglob("*.py")
        if "dashboards" in path.read_text() and "from dashboards" in path.read_text()
    ]
    assert users == ["run.py"]
