"""Nobody is let in: what listens, what is unpickled, and where user-named paths lead."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from study.spec import StudySpec, load_spec

ROOT = Path(__file__).parent.parent.parent

LISTENERS = """
import os, time
from pathlib import Path
from study.engine.cluster import cluster

def sockets():
    "Inodes of the sockets of all processes that were started for this one."
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"LISTENERS=1" in (entry / "environ").read_bytes():
                found |= {os.readlink(link) for link in (entry / "fd").iterdir()}
        except OSError:
            pass
    return found

def listening():
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A":
                yield parts[1], f"socket:[{parts[9]}]"

with cluster(None) as joined:
    import ray
    actor = ray.remote(type("Anything", (), {})).remote()  # as a run has one: the rest of Ray starts with the first
    url = joined.dashboard_url.result(60)
    seen = set()
    for _ in range(12):  # Ray's agents come up one after the other
        time.sleep(1)
        ours = sockets()
        seen |= {address for address, socket in listening() if socket in ours}
print(*sorted(seen))
print(url, os.environ.get("RAY_AUTH_MODE"))
"""
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="sockets are found through /proc")
def test_nothing_listens_beyond_loopback_and_a_token_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENERS], capture_output=True, text=True, check=True, cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | {"LISTENERS": "1"},
    )  # fmt: skip
    addresses, last = done.stdout.splitlines()[-2:]
    assert len(addresses.split()) >= 5
    assert [address for address in addresses.split() if address.partition(":")[0] not in LOOPBACK] == []
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ token", last)


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
