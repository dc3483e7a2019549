"""Tracebacks for the people whose code went wrong: their own frames, without those of the machinery round it."""

import traceback
from collections.abc import Sequence
from types import TracebackType

from study.tasks.source import folder_of, is_users

_MOST = 8  # frames, where none is the user's


def user_traceback(error: BaseException, task: str = "") -> str:
    """Format an exception with the frames of the user's code; where there is none, with the innermost eight.

    The innermost frame stays, whoever's it is, because it says what was asked of the library that refused.

    Args:
        error: The exception, with its causes.
        task: The task's name: a package of the user's may be an installed one.
    """
    own = folder_of(task.partition(":")[0].partition(".")[0]) if ":" in task else None
    shown = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = shown
    while part is not None:
        part.stack = traceback.StackSummary.from_list(_kept(part.stack, own))
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(shown.format())


def concerns_user(trace: TracebackType | None, task: str) -> bool:
    """Tell whether an exception went through the user's code."""
    own = folder_of(task.partition(":")[0].partition(".")[0])
    return any(is_users(frame.filename, own) for frame in traceback.extract_tb(trace))


def _kept(frames: Sequence[traceback.FrameSummary], own: str | None) -> list[traceback.FrameSummary]:
    users = [frame for frame in frames if is_users(frame.filename, own)]
    if not users:
        return list(frames[-_MOST:])
    return users if users[-1] is frames[-1] else [*users, frames[-1]]
