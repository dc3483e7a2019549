"""Which tests may run side by side, with ``pytest -n 2 --dist loadscope``.

Files whose tests start Ray follow each other on one worker: two Rays on one machine are in each other's way. Every
other file is one piece, so that its fixtures are made once. (xdist has marks for this, ``xdist_group``, but pytest 9.2
took away what its release 3.8 does with them.)
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return OneRayAtATime(config, log) if config.getvalue("dist") == "loadscope" else None


class OneRayAtATime(LoadScopeScheduling):
    """Hands out whole files, and those that start Ray as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if "pytest.mark.ray" in (self.config.rootpath / file).read_text(encoding="utf-8") else file
