"""`wasam_core` as a distribution of its own: built, installed where only torch's requirements are, and used."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

import wasam_core

ROOT = Path(__file__).parents[2]
CORE = ROOT / "wasam_core"
PROJECT = tomllib.loads((CORE / "pyproject.toml").read_text(encoding="utf-8"))["project"]

USE = """
import json, sys
at, site, blocked = json.loads(sys.argv[1])
class Installed:
    def find_spec(name, path=None, target=None, finder=sys.meta_path.pop()):
        return None if name.partition(".")[0] in blocked else finder.find_spec(name, path, target)
sys.meta_path.append(Installed)
sys.path += [at, site]
import torch, wasam_core
from torch import nn
from wasam_core import WASAM, WeightAverages, recalibrate_batchnorm
assert wasam_core.__file__.startswith(at), wasam_core.__file__
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
x, y = torch.randn(64, 4), torch.randn(64, 1)
optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9, model=model)
averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=20, ema_decays=(0.9,))
def closure():
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    return loss
losses = []
for epoch in range(1, 21):
    losses.append(optimizer.step(closure).item())
    averages.update_step(optimizer.updated)
    averages.update(epoch)
assert losses[-1] < losses[0]
with averages.average_parameters("swa@0.5"):
    recalibrate_batchnorm(model, [x])
from wasam_core.probes.landscape import line
from wasam_core.probes.surface import LossSurface
try:
    from wasam_core.probes.sharpness import measure_sharpness
except ImportError as error:
    print(error)
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {*blocked}, loaded & {*blocked}
"""


def closure_of(distribution: str) -> set[str]:
    """Return the names of a distribution and of all that it needs here."""
    found, open_ends = set(), [distribution]
    while open_ends:
        name = re.sub(r"[-_.]+", "-", open_ends.pop()).lower()
        if name not in found:
            found.add(name)
            try:
                open_ends += [re.split(r"[\s\[<>=!~;(]", one)[0] for one in requires(name) or () if "extra" not in one]
            except PackageNotFoundError:
                found.discard(name)  # for another platform
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CORE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index",
               "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_asks_for_torch_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        asked = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    modules = {f"wasam_core/{path.relative_to(CORE).as_posix()}" for path in CORE.rglob("*.py")}
    assert modules | {"wasam_core/py.typed", "wasam_core/SUPPORT.md"} <= names
    assert not [name for name in names if not name.startswith(("wasam_core/", "wasam_core-0"))]
    needed = [{*re.split(r"(?=[<>]=?)|,", one)} - {""} for one in asked if "extra" not in one]
    assert needed == [{*re.split(r"(?=[<>]=?)|,", one)} - {""} for one in PROJECT["dependencies"]]


@pytest.mark.slow
def test_the_wheel_works_where_there_is_torch_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    at = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
               "--no-deps", "--target", str(at), str(wheel)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    here = closure_of("torch")
    owners = packages_distributions().items()
    blocked = [
        module for module, owned_by in owners if not {re.sub(r"[-_.]+", "-", one).lower() for one in owned_by} & here
    ]
    assert {"ray", "pandas", "scipy", "optuna", "plotly", "numpy"} <= {*blocked}
    site = str(Path(pytest.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", USE, json.dumps([str(at), site, [m for m in blocked if m != "wasam_core"]])],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install 'wasam-core[probes]'" in done.stdout


def test_both_distributions_ask_for_the_same_versions() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["probes"]]
    assert {*asked} <= {*whole["dependencies"]}
    assert PROJECT["requires-python"] == whole["requires-python"]
    assert PROJECT["version"] == whole["version"]


def test_the_page_of_names_is_that_of_the_docstrings() -> None:
    page = (CORE / "README.md").read_text(encoding="utf-8").partition("## What there is")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", page, re.MULTILINE))
    assert list(rows) == wasam_core.__all__
    for name, words in rows.items():
        doc = getattr(wasam_core, name).__doc__
        assert name == "RULES" or words == doc.partition("\n")[0], name
