"""A character-level language model."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.data.corpus import POSITIONS, VOCABULARY, Corpus, shifted
from study.records import FactorValue
from study.streams import stream, torch_seed
from study.tasks.task import Task, next_token

_LAYERS, _HEADS, _DROPOUT = 2, 4, 0.1


def text_task(corpus: Corpus, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return one seed's task: its training windows (a smaller set is a prefix of a larger one), its weights."""
    train, val = corpus.development(test_seed)
    chosen = stream(seed, "split").permutation(len(train))[: int(factors["train_size"])]
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        model = Transformer(float(factors["width"]))
    task = next_token(
        model, shifted(train[chosen]), shifted(val), partial(corpus.open_test, "confirm", test_seed),
        vocabulary=VOCABULARY,
    )  # fmt: skip
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
