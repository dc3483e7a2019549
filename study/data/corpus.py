"""Text that every Python ships, the help topics of `pydoc`, as characters to predict.

The text differs between releases of Python, so the task names its hash, which goes into every record. Of every ten
stretches of the text eight are the training part, one is the validation and one the test part, by position alone, so
that no character is in two of them and each part has something of every topic.
"""

import hashlib
import importlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from study.data.pool import TaskError

Windows = npt.NDArray[np.int64]

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(ALPHABET) + 1  # the last id stands for every character that is not in the alphabet
POSITIONS = 32
_STRETCH = 2048  # characters
_VALIDATION_SIZE, _TEST_SIZE = 300, 600


@dataclass(frozen=True, slots=True)
class Corpus:
    """Windows of a text, ``(n, POSITIONS + 1)`` character ids each; windows don't overlap.

    ``origin`` says what text it was.
    """

    train: Windows
    val: Windows
    origin: str
    _test: Windows = field(repr=False)

    def open_test(self) -> tuple[Windows, Windows]:
        """Return the test inputs and targets; a task calls it in the confirm stage alone."""
        return shifted(self._test)


def load_corpus() -> Corpus:
    """Read the topics and cut them into windows.

    Raises:
        TaskError: this Python was installed without them.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise TaskError(
            'task = "characters" was given; this Python has no module pydoc_data.topics, whose text the task reads; '
            "install the whole standard library, or leave the task out"
        ) from error
    return cut("\n".join(topics[name] for name in sorted(topics)))


def cut(text: str) -> Corpus:
    """Cut a text into the windows of its three parts."""
    ids = {character: index for index, character in enumerate(ALPHABET)}
    codes = np.array([ids.get(character, VOCABULARY - 1) for character in text], np.int64)
    windows = [_windows(codes[begin : begin + _STRETCH]) for begin in range(0, len(codes), _STRETCH)]
    train, val, test = (
        np.concatenate([part for index, part in enumerate(windows) if index % 10 in places], axis=0)
        for places in (range(8), (8,), (9,))
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Corpus(
        train, _spread(val, _VALIDATION_SIZE), f"sha256 {digest}, {len(text):,} characters", _spread(test, _TEST_SIZE)
    )


def _windows(codes: npt.NDArray[np.int64]) -> Windows:
    length = POSITIONS + 1
    return codes[: len(codes) // length * length].reshape(-1, length)


def _spread(windows: Windows, most: int) -> Windows:
    """Return at most ``most`` of the windows, evenly spaced."""
    count = min(most, len(windows))
    return windows[np.arange(count) * len(windows) // max(1, count)]


def shifted(windows: Windows) -> tuple[Windows, Windows]:
    """Return inputs and targets: at each position the next character."""
    return windows[:, :-1], windows[:, 1:]
