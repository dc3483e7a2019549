"""Who may import whom: modules are imported in a new process, and what came along is read from sys.modules.

Ray has a room of its own, `study.engine`: one file for it had grown past what one can hold in mind.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def modules_of(package: str) -> list[str]:
    """Return the dotted names of all modules of one of our packages."""
    paths = [path for path in sorted((ROOT / package).rglob("*.py")) if not path.stem.startswith("__")]
    return [package.replace("/", "."), *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)]


# Reading results must be instant.
READERS = [
    *(
        "study.records",
        "study.specs.spec",
        "study.specs.factors",
        "study.plan.cells",
        "study.plan.selection",
        "study.driver.summary",
    ),
    *modules_of("study/stats")[1:],
    *modules_of("study/findings")[1:],
    "study.store.folder",
    "study.store.results",
]
RULES = {
    "wasam_core stands alone": (
        modules_of("wasam_core"),
        {"ray", "optuna", "plotly", "pandas", "study", "dashboards"},
    ),
    "reading results needs neither torch nor ray": (
        READERS,
        {"torch", "ray", "optuna", "plotly", "dashboards", "wasam_core"},
    ),
    "the driver loads data without torch, which takes it seconds": (
        modules_of("study/data"),
        {"torch", "torchvision", "ray", "scipy", "sklearn", "study.tasks", "dashboards"},
    ),
    "a run starts without torchvision, which takes as long to import as torch": (
        ["study.training.trial", "study.training.estimate"],
        {"torchvision", "ray", "dashboards"},
    ),
    "dashboards never train": (
        modules_of("dashboards"),
        {"torch", "ray", "optuna", "wasam_core", "study.training.trial", "study.training.train", "study.run"},
    ),
}


def modules_after(statement: str) -> set[str]:
    """Run a statement in a new process and return the packages that it loaded, and our modules in full."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = done.stdout.split()
    return {name.partition(".")[0] for name in names} | {name for name in names if name.startswith("study.")}


@pytest.mark.parametrize("rule", RULES)
def test_imports_flow_one_way(rule: str) -> None:
    modules, forbidden = RULES[rule]
    assert not modules_after(f"import {', '.join(modules)}") & forbidden


def test_listing_starts_nothing_heavy() -> None:
    loaded = modules_after("import study.run; study.run.main(['--list'])")
    assert not loaded & {"torch", "ray", "dashboards", "pandas", "scipy", "optuna", "sklearn"}


@pytest.mark.parametrize(
    ("package", "allowed"), [("ray", {"engine"}), ("dashboards", {"run.py", "notebook.py"})], ids=["ray", "dashboards"]
)
def test_few_rooms_of_study_know_it(package: str, allowed: set[str]) -> None:
    imports = (f"import {package}\n", f"from {package}")
    users = {
        path.relative_to(ROOT / "study").parts[0]
        for path in (ROOT / "study").rglob("*.py")
        if any(line.strip().startswith(imports) for line in path.read_text().splitlines(keepends=True))
    }
    assert users == allowed


def test_a_study_is_imported_at_once_and_read_without_plotly() -> None:
    ours = modules_after("import study; study.load")
    assert not ours & {"torch", "ray", "optuna", "plotly", "pandas", "numpy", "pydantic", "dashboards"}
