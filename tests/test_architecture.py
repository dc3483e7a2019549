"""Who may import whom: read off the imports that stand in the files, and off what a new process has loaded.

Ray has a room of its own, `study.engine`: one file for it had grown past what one can hold in mind.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("wasam_core", "study", "dashboards")

# The rooms of the house, lowest first. A room is a folder of `study`, a module that lies flat in it, or a package.
FLOORS: tuple[set[str], ...] = (
    {"wasam_core"},
    {"study.streams", "study.files", "study.garbage", "study.command_line", "study.records"},
    {"study.specs"},
    {"study.data", "study.models", "study.plan", "study.stats"},
    {"study.tasks", "study.findings", "study.listeners"},
    {"study.store", "study.training", "study.templates", "study.existing"},
    {"study.engine", "study.simulations"},
    {"study.driver", "study.atlas"},
    {
        "study",
        "study.run",
        "study.calibrate",
        "study.replicate",
        "study.new",
        "study.judge",
        "study.advise",
        "study.deploy",
    },
    {"dashboards"},
)
UPWARD = {  # whose import points up, and why
    ("study.run", "dashboards.report"): "the command's last line asks for the report",
    ("study.run", "dashboards.closing"): "and for what the terminal says of it",
    ("study.run", "dashboards.watch"): "as the line before, while the study runs",
    ("study.judge", "dashboards.report"): "the page of its verdicts",
    ("study.judge", "dashboards.closing"): "the answer, as the page gives it",
    ("study.store.results", "dashboards.notebook"): "a study shows itself in a notebook",
}
MOST_FLAT = 16  # modules that lie in `study` itself
KNOWN_BY = {  # the rooms that may import a package
    "ray": {"study.engine"},
    "optuna": {"study.plan", "study.listeners", "study.existing"},
    "dashboards": {"study.run", "study.store", "study.judge"},
}


def modules_of(package: str) -> list[str]:
    """Return the dotted names of all modules of one of our packages."""
    paths = [path for path in sorted((ROOT / package).rglob("*.py")) if not path.stem.startswith("__")]
    return [package.replace("/", "."), *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)]


@cache
def files() -> dict[str, Path]:
    """Return the file of every module of ours by its dotted name; a package's is its ``__init__``."""
    paths = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of all that a file imports: late, and for types alone, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno}: a relative import; give the whole name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in files() else node.module


@cache
def our_imports() -> list[tuple[str, int, str]]:
    """Return importer, line and imported of every import of ours by ours that is not among `UPWARD`."""
    return [
        (module, line, name)
        for module, path in files().items()
        for line, name in imports_of(path)
        if name in files() and (module, name) not in UPWARD
    ]


def room_of(module: str) -> str:
    package, _, rest = module.partition(".")
    return f"study.{rest.partition('.')[0]}" if package == "study" and rest else package


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room_of(module) in rooms)


def test_every_room_has_a_floor() -> None:
    missing = {room_of(module) for module in files()} - {room for rooms in FLOORS for room in rooms}
    assert not missing, f"give them a floor in FLOORS: {', '.join(sorted(missing))}"


def test_imports_point_down() -> None:
    wrong = [
        f"{files()[module].relative_to(ROOT)}:{line}: {module} (floor {floor_of(module)}) imports {name} (floor "
        f"{floor_of(name)})"
        for module, line, name in our_imports()
        if room_of(module) != room_of(name) and floor_of(name) >= floor_of(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_that_may_point_up_is_forgotten() -> None:
    found = {(module, name) for module, path in files().items() for _, name in imports_of(path)}
    stale = {pair for pair in UPWARD if {*pair} <= files().keys()} - found
    assert not stale, f"strike from UPWARD: {stale}"


def test_there_is_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {module: set() for module in files()}
    for module, _, name in our_imports():
        graph[module].add(name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_few_modules_lie_flat_in_study() -> None:
    flat = sorted(path.name for path in (ROOT / "study").glob("*.py"))
    assert len(flat) <= MOST_FLAT, f"give some a room: {', '.join(flat)}"


@pytest.mark.parametrize("package", KNOWN_BY)
def test_few_rooms_know_it(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module} imports {name}"
        for module, path in files().items()
        if room_of(module) not in KNOWN_BY[package] | {package}
        for line, name in imports_of(path)
        if name.partition(".")[0] == package
    ]
    assert not wrong, "\n".join(wrong)


def test_wasam_core_imports_torch_and_numerics_alone() -> None:
    allowed = {"wasam_core", "torch", "numpy", "scipy", *sys.stdlib_module_names}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in (ROOT / "wasam_core").rglob("*.py")
        for line, name in imports_of(path)
        if name.partition(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


# What a new process has loaded: imports of imports count, and imports that stand in a function don't.
# Reading results must be instant.
READERS = [
    *(
        "study.records",
        "study.specs.spec",
        "study.specs.tasks",
        "study.plan.cells",
        "study.plan.selection",
    ),
    *modules_of("study/stats")[1:],
    *modules_of("study/findings")[1:],
    "study.store.folder",
    "study.store.results",
    "study.judge",
]
RULES = {
    "wasam_core stands alone": (
        modules_of("wasam_core"),
        {"ray", "optuna", "plotly", "pandas", "study", "dashboards"},
    ),
    "a spec is read in an instant": (
        modules_of("study/specs"),
        {"torch", "ray", "optuna", "plotly", "pandas", "scipy", "sklearn", "study.data", "study.tasks", "dashboards"},
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
        ["study.training.trial", "study.training.estimate", *modules_of("study/tasks")],
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


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_imports_flow_one_way(rule: str) -> None:
    modules, forbidden = RULES[rule]
    assert not modules_after(f"import {', '.join(modules)}") & forbidden


@pytest.mark.slow
def test_listing_starts_nothing_heavy() -> None:
    loaded = modules_after("import study.run; study.run.main(['--list'])")
    assert not loaded & {"torch", "ray", "dashboards", "pandas", "scipy", "optuna", "sklearn"}


@pytest.mark.slow
def test_a_study_is_imported_at_once_and_read_without_plotly() -> None:
    ours = modules_after("import study; study.load")
    assert not ours & {"torch", "ray", "optuna", "plotly", "pandas", "numpy", "pydantic", "dashboards"}
