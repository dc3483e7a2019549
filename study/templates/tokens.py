"""A task for `python -m study.run`: predict the next token of sequences that repeat with a gap."""

from typing import Any

import torch
from torch import Tensor, nn

from study.streams import stream
from study.tasks import Task, next_token

VOCABULARY, LENGTH = 12, 16


def sequences(count: int, name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets ``(count, LENGTH)``: each token is the one of three places before plus 1, mostly."""
    rng = stream(0, name)
    tokens = rng.integers(VOCABULARY, size=(count, LENGTH + 1))
    for place in range(3, LENGTH + 1):
        follows = rng.random(count) < 0.8
        tokens[follows, place] = (tokens[follows, place - 3] + 1) % VOCABULARY
    return torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(tokens[:, 1:].copy())


class Model(nn.Module):
    """A recurrent net: logits ``(n, positions, VOCABULARY)``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.enter, self.dropout = nn.Embedding(VOCABULARY, hidden), nn.Dropout(0.1)
        self.memory, self.head = nn.GRU(hidden, hidden, batch_first=True), nn.Linear(hidden, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Read the tokens from left to right."""
        states, _ = self.memory(self.dropout(self.enter(tokens)))
        logits: Tensor = self.head(states)
        return logits


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    inputs, targets = sequences(1000, "my training sequences")
    train = torch.from_numpy(stream(seed, "split").permutation(1000)[: factors["train_size"]])
    model = Model(factors["hidden"])  # a factor of your own: the spec says `factors.hidden = 32`
    # Targets of -100 are left out of loss and score. The test part is a function: it is called after tuning alone.
    return next_token(
        model,
        (inputs[train], targets[train]),
        sequences(300, "my validation sequences"),
        lambda: sequences(500, "my test sequences"),
        vocabulary=VOCABULARY,
    )
