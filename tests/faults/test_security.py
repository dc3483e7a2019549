"""Nobody is let in: what listens, what is unpickled, and where user-named paths lead."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from study.specs.spec import StudySpec, load_spec

ROOT = Path(__file__).parent.parent.parent

UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}


def python_files() -> list[Path]:
    return [path for room in ("study", "dashboards", "wasam_core") for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_can_run_code_is_read(path: Path) -> None:
    """No pickle, no eval, no YAML; `torch.load` with ``weights_only``, `numpy.load` without pickles."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {name.name.partition(".")[0] for name in node.names} & (UNPICKLERS | {"yaml"})
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNPICKLERS | {"yaml"}
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            assert name not in ("eval", "exec", "pd.read_pickle", "os.system")
            assert name != "torch.load" or given.get("weights_only") == "True"
            assert name not in ("np.load", "numpy.load") or given.get("allow_pickle", "False") == "False"
            assert given.get("shell", "False") == "False"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/abs", "a\\b", "a\n", "a\0", ".hidden", "-flag", "x" * 65, "näme"]
)
def test_no_name_of_a_study_leads_out_of_its_folder(name: str) -> None:
    content = load_spec("smoke")[0].model_dump()
    with pytest.raises(ValidationError):
        StudySpec.model_validate(content | {"name": name})


@pytest.mark.slow
def test_no_secret_is_in_the_tree() -> None:
    """A coarse net: private keys and the tokens of common services, by their shapes."""
    shapes = re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}\b"
        r"|\bsk-[A-Za-z0-9]{32,}\b|\bhf_[A-Za-z]{34}\b|\bxox[abprs]-[\w-]{10,}|\bpypi-[\w-]{50,}"
    )
    suffixes = {".py", ".toml", ".md", ".html", ".js", ".css", ".json", ".yml", ".yaml", ".sh", ".cfg", ""}
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    names = [name for name in listed.stdout.split("\0") if name and Path(name).suffix in suffixes]
    for name in names:
        path = ROOT / name
        if path.is_file():
            assert not shapes.search(path.read_text(errors="replace")), name
