"""What a run trains with: its model, on its device, its optimizer and its averages."""

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from study.methods import FAMILIES
from study.plan import first_perturbed_step
from study.records import Job
from study.tasks import Task
from study.tasks.adapted import Adapted
from study.tasks.examples import examples_of
from wasam_core import WASAM, WeightAverages, norm_layer_groups


def adapted(task: Task) -> nn.Module:
    """Return the task's model as one that takes the inputs of a batch as one object and returns a tensor."""
    inputs, _ = next(examples_of(task.train, "train").first(1).batches(1))
    return task.model if isinstance(inputs, Tensor) and not hasattr(task.model, "config") else Adapted(task.model)


def placed(model: nn.Module, device: torch.device, *, built_in: bool) -> nn.Module:
    """Return a model on a device; on a GPU with matrices in TF32 and images channels last, its fast ways.

    A user's own model keeps its layout: it may `view` what a convolution returns, which another layout does not allow.
    """
    if device.type != "cuda":
        return model.to(device)
    torch.set_float32_matmul_precision("high")  # convolutions are in TF32 without being told
    return channels_last(model.to(device)) if built_in else model.to(device)


def channels_last(model: nn.Module) -> nn.Module:
    """Lay a model's convolution weights out channels last, so that its convolutions work and answer in that order."""
    return model.to(memory_format=torch.channels_last)


def measured_twin(model: nn.Module, device: torch.device, *, built_in: bool) -> nn.Module:
    """Return the model that stands in for a model when it is measured; see `follow`.

    On a CPU that is a copy with its 2-D convolutions channels last: passes without gradients take half to three
    quarters of the time there. Training keeps the other layout, from which its steps gain less. Everywhere else it is
    the model itself.
    """
    if device.type != "cpu" or not built_in or not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model
    return channels_last(copy.deepcopy(model))


@torch.no_grad()
def follow(twin: nn.Module, model: nn.Module) -> None:
    """Give a model's twin the weights and buffers that the model holds."""
    if twin is not model:
        for ours, theirs in zip(_tensors(twin), _tensors(model), strict=True):
            ours.copy_(theirs)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def build_optimizer(job: Job, model: nn.Module) -> WASAM:
    """Return the optimizer of a job's family over a model's parameters."""
    family = FAMILIES[job.family]
    weight_decay = float((job.factors | job.searched_factors)["weight_decay"])
    base: dict[str, dict[str, object]] = {
        "sgd": {"base_optimizer": torch.optim.SGD, "momentum": float(job.factors["momentum"])},
        "adamw": {"base_optimizer": torch.optim.AdamW},
    }
    named = list(model.named_parameters())
    return WASAM(
        norm_layer_groups(model, job.rho) if family.norm_layers_only else named,
        rho=job.rho,
        variant=family.rule or "sam",
        model=model,
        m=int(job.factors["ascent_batch"]) if family.micro_batches else None,
        start_step=first_perturbed_step(job),
        lr=job.learning_rate,
        weight_decay=weight_decay,
        **base[family.base],  # type: ignore[arg-type]  # a class and its own options
    )


def build_averages(job: Job, model: nn.Module) -> WeightAverages:
    """Return the averages of a run, still empty: SWA at the grid of starts and the proposed one, EMA and LAWA."""
    return WeightAverages(
        model,
        swa_starts=_starts(job),
        max_epochs=job.epochs,
        ema_decays=job.ema_decays,
        lawa_windows=job.lawa_windows,
    )


def average_names(job: Job) -> tuple[str, ...]:
    """Return the names of a run's averages: SWA by start, then EMA, then LAWA."""
    return (
        *(f"swa@{start!r}" for start in _starts(job)),
        *(f"ema@{decay!r}" for decay in job.ema_decays),
        *(f"lawa@{window}" for window in job.lawa_windows),
    )


def _starts(job: Job) -> tuple[float, ...]:
    """Return the starts of a run's SWA averages: the grid's and the proposed one, each once."""
    return tuple(dict.fromkeys((*job.average_starts, job.average_start)))
