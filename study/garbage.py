"""Python's search for garbage that holds itself, kept out of work that makes millions of objects and none of it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the collector out of a block, or of a function as its decorator; of large studies it takes a third."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # what was made is old at once, and not looked through as if it were young
                gc.freeze()
                gc.unfreeze()
            gc.enable()
