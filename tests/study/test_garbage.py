"""Work without Python's collector leaves the collector as it was, and nothing that it could not find."""

import gc
from weakref import ref

import pytest

from study.garbage import without_collector


class Loop:
    """What holds itself, as garbage does that the collector alone can find."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before_and_finds_what_was_made_meanwhile(enabled: bool) -> None:
    @without_collector()
    def work(*, divided_by: int) -> ref[Loop]:
        assert not gc.isenabled()
        _ = 1 / divided_by
        return ref(Loop())

    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            work(divided_by=0)
        assert gc.isenabled() == enabled
        found = work(divided_by=1)
        assert gc.isenabled() == enabled
        assert not gc.get_freeze_count()
        gc.collect()
        assert found() is None
    finally:
        (gc.enable if was else gc.disable)()


def test_what_somebody_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with without_collector():
            pass
        assert 0 < gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()
