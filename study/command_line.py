"""What all commands share: a parser that shows examples, numbers with bounds, an error in a line, a table, an end."""

import argparse
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NoReturn

EXIT_DONE, EXIT_USAGE = 0, 2
EXIT_UNREAD = 128 + signal.SIGPIPE  # what shells make of the signal that ends other tools


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


def execute(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and end the process with its exit code.

    Where nobody reads its output to the end (``| head``), it ends at once, without a word, with `EXIT_UNREAD`.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _watched(stream))
    try:
        code = main()
    except SystemExit as end:  # after --help
        code = end.code  # type: ignore[assignment]  # a text, too, is what `sys.exit` takes
    print(end="", flush=True)  # what Python itself can't write when it ends is a traceback
    sys.exit(code)


def _watched(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a standard stream as it is, buffered or not, but for its end."""
    stream.flush()
    output = _Output(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        output if stream.write_through else io.BufferedWriter(output),  # as Python makes them
        stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


class _Output(io.FileIO):
    """A standard stream that ends the process when its reader is gone.

    As an exception that is no error, so that nobody takes it for a full disk, and not as the signal itself, which would
    also come of a socket of Ray's or of a tracker's.
    """

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise SystemExit(EXIT_UNREAD) from None
