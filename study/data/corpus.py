"""Text that every Python ships, the help topics of `pydoc`, as characters to predict.

The text differs between releases of Python, so the task names its hash, which goes into every record. Of every ten
stretches of the text eight are the training part, one is the validation and one the test part, which ones the replicate
draws for every ten anew, so that no character is in two of them and each part has something of every topic.
"""

import importlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from study.data.pool import TaskError, check_unsealed, origin_of
from study.streams import stream

Windows = npt.NDArray[np.int64]

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(ALPHABET) + 1  # the last id stands for every character that is not in the alphabet
POSITIONS = 32
_STRETCH = 2048  # characters
_VALIDATION, _TEST = 300, 600  # windows at most


@dataclass(frozen=True, slots=True)
class Corpus:
    """Windows of a text, ``(n, POSITIONS + 1)`` character ids each; windows don't overlap.

    ``stretches`` holds them by stretch, in the order of the text; ``origin`` says what text it was.
    """

    stretches: tuple[Windows, ...]
    origin: str

    def development(self, test_seed: int) -> tuple[Windows, Windows]:
        """Return the training and the validation windows of a replicate."""
        _, val, train = self._parts(test_seed)
        return train, _spread(val, _VALIDATION)

    def open_test(self, stage: str, test_seed: int) -> tuple[Windows, Windows]:
        """Return the test inputs and targets of a replicate.

        Raises:
            SealedTestError: in any stage but ``confirm``.
        """
        check_unsealed(stage)
        return shifted(_spread(self._parts(test_seed)[0], _TEST))

    def _parts(self, test_seed: int) -> tuple[Windows, Windows, Windows]:
        """Return the windows of the test, the validation and the training part of a replicate."""
        count, rng = len(self.stretches), stream(test_seed, "characters test part")
        places = np.concatenate([rng.permutation(10) for _ in range(0, count, 10)])[:count].clip(max=2)
        test, val, train = (
            np.concatenate([one for one, place in zip(self.stretches, places, strict=True) if place == part])
            for part in range(3)
        )
        return test, val, train


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
    """Cut a text into stretches, and these into windows."""
    ids = {character: index for index, character in enumerate(ALPHABET)}
    codes = np.array([ids.get(character, VOCABULARY - 1) for character in text], np.int64)
    stretches = tuple(_windows(codes[begin : begin + _STRETCH]) for begin in range(0, len(codes), _STRETCH))
    return Corpus(stretches, origin_of(f"Python's help topics, PSF licence, {len(text):,} characters", text.encode()))


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
