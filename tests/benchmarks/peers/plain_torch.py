"""One run in plain torch: the data in memory, `torch.optim.swa_utils`, and SAM of pytorch_optimizer."""

import math
from collections.abc import Callable

import torch
from benchmarks.peers.problem import (
    BATCH,
    EPOCHS,
    MOMENTUM,
    WEIGHT_DECAY,
    Configuration,
    Scores,
    accuracy,
    problem_of,
)  # fmt: skip
from pytorch_optimizer import SAM
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, update_bn


def fit(configuration: Configuration, seed: int, report: Callable[[float], None] | None = None) -> Scores:
    """Train one configuration and score its last and its averaged weights.

    Args:
        configuration, seed: What to train.
        report: Called with the validation accuracy after every epoch, where the library wants it.
    """
    torch.set_num_threads(1)
    problem = problem_of(configuration, seed)
    model, (inputs, targets) = problem.model, problem.train
    options = {"lr": configuration.learning_rate, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
    sam = configuration.rho > 0
    optimizer = (
        SAM(model.parameters(), torch.optim.SGD, rho=configuration.rho, **options)
        if sam
        else torch.optim.SGD(model.parameters(), **options)
    )
    average = AveragedModel(model)
    order = torch.Generator().manual_seed(seed)
    steps = len(inputs) // BATCH
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for step, picked in enumerate(torch.randperm(len(inputs), generator=order)[: steps * BATCH].split(BATCH)):
            done = (epoch - 1 + step / steps) / EPOCHS
            for group in optimizer.param_groups:
                group["lr"] = configuration.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            x, y = inputs[picked], targets[picked]

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                loss = functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            closure()
            optimizer.step(closure) if sam else optimizer.step()
            optimizer.zero_grad()
        if epoch >= int(configuration.average_start * EPOCHS):
            average.update_parameters(model)
        if report and epoch < EPOCHS:
            report(accuracy(model, problem.val))
    update_bn(inputs.split(BATCH), average)
    nets = {"": model, "average": average.module}
    val = {name: accuracy(net, problem.val) for name, net in nets.items()}
    test = {name: accuracy(net, problem.test) for name, net in nets.items()}
    return Scores(val[""], val["average"], test[""], test["average"])
