"""A task for `python -m study.run`: a Hugging Face model classifies sequences (`pip install transformers`)."""

from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from study.streams import stream
from study.tasks import Task, classification

VOCABULARY, LENGTH = 20, 12


class Sequences(Dataset[dict[str, Any]]):
    """Which of two tokens is there more often? Items are dicts with ``labels``, as those of tokenized data sets."""

    def __init__(self, count: int, rng: Any) -> None:
        self.tokens = torch.from_numpy(rng.integers(1, VOCABULARY, size=(count, LENGTH)))
        self.lengths = torch.from_numpy(rng.integers(LENGTH // 2, LENGTH + 1, size=count))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        mask = (torch.arange(LENGTH) < self.lengths[index]).long()
        tokens = self.tokens[index] * mask
        label = int((tokens > 10).sum() > ((tokens > 0) & (tokens <= 10)).sum())
        return {"input_ids": tokens, "attention_mask": mask, "labels": label}


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    hidden = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=LENGTH,
        num_labels=2,
        attn_implementation="eager",  # fused attention can't be differentiated twice, which `probes = true` needs
    )
    model = BertForSequenceClassification(config)  # or .from_pretrained("…", num_labels=2): then the head is drawn
    train = Sequences(factors["train_size"], stream(seed, "my training sequences"))
    val = Sequences(300, stream(0, "my validation sequences"))
    # DataLoaders do as well, with your collate function. The test part is a function: called after tuning alone.
    return classification(model, train, val, lambda: Sequences(500, stream(0, "my test sequences")), classes=2)
