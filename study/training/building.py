"""What a run trains with: its model, its optimizer and its averages."""

import torch
from torch import Tensor, nn

from study.plan.cells import first_perturbed_step
from study.records import Job
from study.specs.factors import factor_of
from study.specs.methods import FAMILIES
from study.tasks import Task
from study.tasks.adapted import Adapted
from study.tasks.examples import examples_of
from wasam_core import WASAM, WeightAverages, norm_layer_groups
from wasam_core.bare_torch import Eager


class SGD(Eager, torch.optim.SGD):
    """torch's own, in a worker that is ready two seconds earlier."""


class AdamW(Eager, torch.optim.AdamW):
    """torch's own, in a worker that is ready two seconds earlier."""


def adapted(task: Task) -> nn.Module:
    """Return the task's model as one that takes the inputs of a batch as one object and returns a tensor."""
    inputs, _ = next(examples_of(task.train, "train").first(1).batches(1))
    return task.model if isinstance(inputs, Tensor) and not hasattr(task.model, "config") else Adapted(task.model)


def build_optimizer(job: Job, model: nn.Module) -> WASAM:
    """Return the optimizer of a job's family over a model's parameters."""
    family = FAMILIES[job.family]
    weight_decay = float((job.factors | job.searched_factors)["weight_decay"])
    base: dict[str, dict[str, object]] = {
        "sgd": {"base_optimizer": SGD, "momentum": float(job.factors["momentum"])},
        "adamw": {"base_optimizer": AdamW},
    }
    named = list(model.named_parameters())
    return WASAM(
        norm_layer_groups(model, job.rho) if family.norm_layers_only else named,
        rho=job.rho,
        variant=family.rule or "sam",
        model=model,
        m=int(job.factors["ascent_batch"]) if family.micro_batches else None,
        start_step=first_perturbed_step(job),
        clip_norm=float(factor_of(job.factors, "clip_norm")) or None,
        lr=job.learning_rate,
        weight_decay=weight_decay,
        **base[family.base],  # type: ignore[arg-type]  # a class and its own options
    )


def build_averages(job: Job, model: nn.Module) -> WeightAverages:
    """Return the averages of a run, still empty: SWA at the grid of starts and the proposed one, EMA and LAWA.

    All of them, whichever are measured: averages of several starts share their sums, so leaving one out would change
    the others' last bits.
    """
    return WeightAverages(
        model,
        swa_starts=job.starts,
        max_epochs=job.epochs,
        ema_decays=job.ema_decays,
        lawa_windows=job.lawa_windows,
    )
