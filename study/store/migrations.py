"""Records of older versions, brought to the present one, a step a version. Plain dicts in, plain dicts out."""

from collections.abc import Callable
from typing import Any, Final, Literal

RECORD_VERSION: Final[Literal[2]] = 2  # of `RunRecord.schema_version`

Content = dict[str, Any]


def migrated(content: object) -> Content | None:
    """Return a record's content in the present version; None if it is no older record.

    Raises:
        ValueError: the record comes from a newer version of this program.
    """
    if not isinstance(content, dict):
        return None
    version = content.get("schema_version")
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        if type(version) is int and version > RECORD_VERSION:
            raise ValueError(f"it has version {version}; this program reads up to {RECORD_VERSION}: update the program")
        return None
    if version == RECORD_VERSION:
        return None
    for step in range(version, RECORD_VERSION):
        content = _STEPS[step](content)
    return content


def _scores_for_accuracies(content: Content) -> Content:
    """Version 2 calls a task's metric its score, because not every task is a classification."""
    measurements = [
        {name.replace("_accuracy", "_score"): value for name, value in measurement.items()}
        for measurement in content.get("measurements", ())
    ]
    return content | {"schema_version": 2, "measurements": measurements}


_STEPS: dict[int, Callable[[Content], Content]] = {1: _scores_for_accuracies}
