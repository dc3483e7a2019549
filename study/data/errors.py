"""What goes wrong with a task or its data."""

from study.specs.spec import SpecError


class TaskError(SpecError):
    """A task that can't be used; the message says what was given and what is allowed."""


class SealedTestError(RuntimeError):
    """The test part was asked for outside the confirm stage."""


def check_unsealed(stage: str) -> None:
    """Make sure that the test part may be opened in a stage.

    Raises:
        SealedTestError: the stage is not ``confirm``.
    """
    if stage != "confirm":
        raise SealedTestError(
            f"the test part was asked for in stage {stage!r}; it opens in 'confirm' only, because a "
            "configuration that was selected on test can't be judged on it"
        )
