"""Tracebacks for the people whose code went wrong: their own frames, without those of the machinery round it."""

import traceback
from collections.abc import Sequence

from study.tasks.source import folder_of, is_users

_MOST = 8  # frames, where none is the user's


def user_traceback(error: BaseException, task: str = "") -> str:
    """Format an exception with the frames of the user's code; where there is none, with the innermost eight.

    The innermost frame stays, whoever's it is, because it says what was asked of the library that refused.

    A package of the user's, by which the ``task`` is named, may be an installed one.
    """
    own = folder_of(task.partition(":")[0].partition(".")[0]) if ":" in task else None
    shown = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = shown
    while part is not None:
        part.stack = traceback.StackSummary.from_list(_kept(part.stack, own))
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(shown.format())


def first_line(error: BaseException) -> str:
    """Return the kind of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _kept(frames: Sequence[traceback.FrameSummary], own: str | None) -> list[traceback.FrameSummary]:
    users = [frame for frame in frames if is_users(frame.filename, own)]
    if not users:
        return list(frames[-_MOST:])
    return users if users[-1] is frames[-1] else [*users, frames[-1]]
