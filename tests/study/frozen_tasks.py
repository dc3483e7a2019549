"""Own tasks whose models keep some layers in eval mode, each in a way that users have."""

from dataclasses import replace
from typing import Any

import torch
from own_tasks import Joined, Net, tensors, tuples

from study.tasks import Task


class FrozenByTrain(Joined):
    """Keeps its normalization in eval mode whatever `train` is told, as recipes for fine-tuning do."""

    def train(self, mode: bool = True) -> "FrozenByTrain":
        """Set the mode of everything else."""
        super().train(mode)
        self.norm.eval()
        return self


def _pretrained(model: Net) -> Net:
    torch.nn.init.constant_(model.norm.running_mean, 0.3)
    torch.nn.init.constant_(model.norm.running_var, 2.0)
    return model


def by_train(seed: int, factors: dict[str, Any]) -> Task:
    """Frozen by a `train` of the model's own."""
    return replace(tensors(seed, factors), model=_pretrained(FrozenByTrain()))


def by_hand(seed: int, factors: dict[str, Any]) -> Task:
    """Frozen when the model is built."""
    model = _pretrained(Joined())
    model.norm.eval()
    return replace(tensors(seed, factors), model=model)


def by_hand_in_tuples(seed: int, factors: dict[str, Any]) -> Task:
    """The same for a model of two inputs."""
    model = _pretrained(Net())
    model.norm.eval()
    return replace(tuples(seed, factors), model=model)


def without_dropout(seed: int, factors: dict[str, Any]) -> Task:
    """Dropout is kept off, too."""
    model = _pretrained(Joined())
    model.norm.eval()
    model.dropout.eval()
    return replace(tensors(seed, factors), model=model)


def all_in_eval_mode(seed: int, factors: dict[str, Any]) -> Task:
    """A model as hubs return it: all of it is to be trained."""
    return replace(tensors(seed, factors), model=_pretrained(Joined()).eval())


def all_in_eval_mode_in_tuples(seed: int, factors: dict[str, Any]) -> Task:
    """The same for a model of two inputs."""
    return replace(tuples(seed, factors), model=_pretrained(Net()).eval())
