"""The Ray that a study starts for itself: what listens, and who is let in."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ray
TESTS = Path(__file__).parents[1]
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")

SESSION = """
import json, os, sys, time, urllib.error, urllib.request
from pathlib import Path
from engine_room import faulty_job, run_jobs
from study.engine.cluster import cluster

def answer(url):
    try:
        return urllib.request.urlopen(url, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code

def sockets():
    "Inodes of the sockets of all processes that were started for this one."
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"OWN_RAY=1" in (entry / "environ").read_bytes():
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

home = Path(sys.argv[1])
with cluster(None) as joined:
    records = run_jobs([faulty_job(home, seed) for seed in range(2)], home / "ray")
    url = joined.dashboard_url
    addresses, quiet, left, fewest = set(), 0, 600, 5 if sys.platform == "linux" else 0
    while (quiet < 10 or len(addresses) < fewest) and left:  # Ray's agents come up one after the other
        time.sleep(1)
        ours = sockets() if sys.platform == "linux" else set()
        seen = {address for address, socket in listening() if socket in ours} if ours else set()
        quiet, left = (0 if seen - addresses else quiet + 1), left - 1
        addresses |= seen
    print(json.dumps({
        "ends": [one.status for one in records.values()],
        "addresses": sorted(addresses), "url": url, "auth_mode": os.environ.get("RAY_AUTH_MODE"), "answer": answer(url),
    }))
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run two tiny jobs on a study's own Ray, in a process of its own, and return what was seen of it."""
    home = tmp_path_factory.mktemp("own-ray")
    # The project comes first, so that tests/study does not shadow study.
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "cluster" / "code")))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(home)], capture_output=True, text=True, check=True, cwd=home,
        env=environment | {"PYTHONPATH": paths, "OWN_RAY": "1"},
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_its_dashboard_answers(session: dict[str, Any]) -> None:
    assert session["ends"] == ["completed"] * 2
    assert session["answer"] in (200, 401)  # it may ask for a token


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are found through /proc")
def test_nothing_listens_beyond_loopback_and_a_token_is_asked_for(session: dict[str, Any]) -> None:
    assert len(session["addresses"]) >= 5
    assert [address for address in session["addresses"] if address.partition(":")[0] not in LOOPBACK] == []
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", session["url"])
    assert session["auth_mode"] == "token"
