"""What all commands share: a parser that shows examples, numbers with bounds, an error in a sentence, a table."""

import argparse
import math
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

EXIT_DONE, EXIT_USAGE = 0, 2


def command(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return the parser of ``python -m NAME``."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def number(needed: str, allows: Callable[[float], bool], kind: type = float) -> Callable[[str], Any]:
    """Return what reads an option's number, or says what was given and what is needed.

    Args:
        needed: What is allowed, in words.
        allows: The same as a test of a finite number.
        kind: ``float`` or ``int``.
    """

    def read(text: str) -> Any:
        with suppress(ValueError, OverflowError):  # the latter of a whole number of hundreds of digits
            value = kind(text)
            if math.isfinite(value) and allows(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} was given; {needed} is needed")

    return read


def whole_number(least: int = 1) -> Callable[[str], Any]:
    """Return what reads an option's whole number."""
    return number(f"a whole number from {least}", lambda value: value >= least, int)


def refused(error: Exception, code: int = EXIT_USAGE) -> int:
    """Tell an error in one line, and return the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return rows of texts as lines with aligned columns.

    Args:
        rows: The head first; all of one length.
        right: Numbers of the columns that are flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.rjust if number in right else str.ljust for number in range(len(widths))]
    return "\n".join(
        "  ".join(side(text, width) for side, text, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    )
