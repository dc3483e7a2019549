"""Which tests may run side by side, with ``pytest -n 2 --dist loadscope``.

Files whose tests start Ray follow each other on one worker: two Rays on one machine are in each other's way. Every
other file is one piece, so that its fixtures are made once. (xdist has marks for this, ``xdist_group``, but pytest 9.2
took away what its release 3.8 does with them.)
"""

import os
import subprocess
import sys

import pytest
import torch  # noqa: F401  # it may start a process when it is imported first, whichever test that is in
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Ray's workers give way to all others (nice 15): on a busy machine a test would wait for minutes until one has started.
os.environ.setdefault("RAY_worker_niceness", "0")
# The brief part is the same at every run: a change is not held up by a case that has lain hidden elsewhere. New cases
# are looked for by the whole one.
settings.register_profile("brief", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("whole", deadline=None)
NOT_FAST = frozenset(("ray", "browser", "slow"))  # `make test-fast` leaves them out


def pytest_configure(config: pytest.Config) -> None:
    """Generate fewer cases where the whole matrices are left out. The files of tests are read after this."""
    settings.load_profile("brief" if "not exhaustive" in config.getoption("markexpr") else "whole")


@pytest.fixture(autouse=True)
def _no_python_in_the_fast_part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test start another Python, which imports for seconds, unless it is marked."""
    if NOT_FAST & {mark.name for mark in request.node.iter_markers()}:
        return
    start = subprocess.Popen.__init__

    def refuse(process: subprocess.Popen[bytes], command: object, *arguments: object, **options: object) -> None:
        if isinstance(command, list) and command[0] == sys.executable:
            raise AssertionError(f"mark this test as slow: it starts {command}")
        start(process, command, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return OneRayAtATime(config, log) if config.getvalue("dist") == "loadscope" else None


class OneRayAtATime(LoadScopeScheduling):
    """Hands out whole files, and those that start Ray as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if "pytest.mark.ray" in (self.config.rootpath / file).read_text(encoding="utf-8") else file
