"""A character-level language model on text that every Python ships: the help topics of `pydoc`.

The text differs between releases of Python, so the task names its hash, which goes into every record. Of every ten
stretches of the text eight are the training part, one is the validation and one the test part, by position alone, so
that no character is in two of them and each part has something of every topic.
"""

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.records import FactorValue
from study.streams import stream, torch_seed
from study.tasks.task import Task, TaskError, next_token

Windows = npt.NDArray[np.int64]

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(ALPHABET) + 1  # the last id stands for every character that is not in the alphabet
POSITIONS = 32
_STRETCH = 2048  # characters
_VALIDATION_SIZE, _TEST_SIZE = 300, 600
_LAYERS, _HEADS, _DROPOUT = 2, 4, 0.1


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
        return _shifted(self._test)


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


def text_task(corpus: Corpus, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return one seed's task: its training windows (a smaller set is a prefix of a larger one), its weights."""
    chosen = stream(seed, "split").permutation(len(corpus.train))[: int(factors["train_size"])]
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        model = Transformer(float(factors["width"]))
    task = next_token(
        model, _shifted(corpus.train[chosen]), _shifted(corpus.val), corpus.open_test, vocabulary=VOCABULARY
    )
    return replace(task, origin=corpus.origin)


class Transformer(nn.Module):
    """A causal transformer: two pre-norm layers of four heads, dropout on each branch, 32 × ``width`` channels.

    Attention is written out, because torch's fused kernels can't be differentiated twice, which curvature needs.

    Source: Vaswani et al. 2017, arXiv 1706.03762; Radford et al. 2019 for the place of the norms.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = max(_HEADS, round(32 * width / _HEADS) * _HEADS)
        self.characters = nn.Embedding(VOCABULARY, channels)
        self.positions = nn.Parameter(0.02 * torch.randn(POSITIONS, channels))
        self.layers = nn.Sequential(*(_Layer(channels) for _ in range(_LAYERS)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``(n, positions, VOCABULARY)`` of the next character."""
        found: Tensor = self.head(self.norm(self.layers(self.characters(ids) + self.positions)))
        return found


class _Layer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mix, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.feed = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.out(self._attend(self.mix(self.norm1(x)))))
        found: Tensor = x + self.dropout(self.feed(self.norm2(x)))
        return found

    def _attend(self, mixed: Tensor) -> Tensor:
        """Return the values of earlier positions, weighted: ``(n, positions, 3 × channels)`` to ``channels``."""
        query, key, value = (part.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in mixed.chunk(3, dim=-1))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        weights = functional.softmax(scores.masked_fill(later, float("-inf")), dim=-1)
        found: Tensor = (weights @ value).transpose(1, 2).flatten(2)
        return found


def _windows(codes: npt.NDArray[np.int64]) -> Windows:
    length = POSITIONS + 1
    return codes[: len(codes) // length * length].reshape(-1, length)


def _spread(windows: Windows, most: int) -> Windows:
    """Return at most ``most`` of the windows, evenly spaced."""
    count = min(most, len(windows))
    return windows[np.arange(count) * len(windows) // max(1, count)]


def _shifted(windows: Windows) -> tuple[Windows, Windows]:
    """Return inputs and targets: at each position the next character."""
    return windows[:, :-1], windows[:, 1:]
