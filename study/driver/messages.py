"""What a study says while it is conducted: lines for the user, who may have asked for quiet, and warnings."""

import sys
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console

Say = Callable[[str], None]


def speaker(console: Console, quiet: bool) -> Say:
    """Return what prints a line for the user, or nothing when they asked for quiet."""

    def say(text: str) -> None:
        if not quiet:
            with suppress(OSError):  # a pipe or a terminal that is gone, or a log on a full disk
                console.print(text, markup=False)

    return say


def warn(text: str) -> None:
    """Tell the user, whether they asked for quiet or not."""
    with suppress(OSError):  # as above
        print(text, file=sys.stderr)
