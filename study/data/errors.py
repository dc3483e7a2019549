"""What goes wrong with a task or its data."""

from study.spec import SpecError


class TaskError(SpecError):
    """A task that can't be used; the message says what was given and what is allowed."""


class SealedTestError(RuntimeError):
    """The test part was asked for outside the confirm stage."""
