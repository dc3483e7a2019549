"""What a run trains with: its model, its optimizer and its averages."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from study.data.pool import TaskError
from study.plan.cells import first_perturbed_step
from study.records import Job
from study.specs.factors import factor_of
from study.specs.methods import family_of
from study.tasks import Task
from study.tasks.adapted import Adapted
from study.tasks.examples import examples_of
from study.tasks.groups import Groups, groups_of
from study.training.own_optimizers import OwnSteps, built_in, own_optimizer
from wasam_core import WASAM, WeightAverages, norm_layer_groups
from wasam_core.moved import weights_moved


def adapted(task: Task) -> nn.Module:
    """Return the task's model as one that takes the inputs of a batch as one object and returns a tensor."""
    inputs, _ = next(examples_of(task.train, "train").first(1).batches(1))
    return task.model if isinstance(inputs, Tensor) and not hasattr(task.model, "config") else Adapted(task.model)


def build_optimizer(job: Job, model: nn.Module, task: Task | None = None, **options: Any) -> WASAM | OwnSteps:
    """Return the optimizer of a job's family over a model's parameters, in the groups that its task makes of them.

    Args:
        job, model, task: Whose it is; without a task there is one group.
        options: More of `WASAM`'s. An optimizer that is not built in and not perturbed has none of them; gradients
            that are accumulated are its gradients.

    Raises:
        TaskError: it has none of these options.
    """
    family = family_of(job)
    groups = groups_of(task, model) if task else [{"params": [*model.named_parameters()]}]
    clip_norm = float(factor_of(job.factors, "clip_norm")) or None
    made: WASAM | OwnSteps
    if family.brings_optimizer and family.rule is None:
        if unknown := [name for name in options if name != "gradient_accumulation_steps"]:
            raise TaskError(
                f"build_optimizer was given {unknown[0]}, an option of WASAM; {family.base} is neither built in nor "
                "perturbed, so nothing is wrapped round it"
            )
        made = OwnSteps(own_optimizer(job, groups, model), job, model, clip_norm)
    else:
        brought = partial(own_optimizer, job, model=model)
        made = WASAM(
            _of_norm_layers(groups, model, job.rho) if family.norm_layers_only else groups,
            brought if family.brings_optimizer else built_in(family.base, job),
            rho=job.rho,
            variant=family.rule or "sam",
            model=model,
            m=int(job.factors["ascent_batch"]) if family.micro_batches else None,
            start_step=first_perturbed_step(job),
            clip_norm=clip_norm,
            **options,
        )
    switch_mode(made.base_optimizer, training=True)
    return made


def _of_norm_layers(groups: Groups, model: nn.Module, rho: float) -> Groups:
    """Return each group in two: what normalization layers hold, which is perturbed, and the rest."""
    inside = {p for _, p in norm_layer_groups(model)[0]["params"]}
    parts = [
        group | {"params": [(name, p) for name, p in group["params"] if (p in inside) == perturbed], "rho": radius}
        for perturbed, radius in ((True, rho), (False, 0.0))
        for group in groups
    ]
    return [part for part in parts if part["params"]]


def switch_mode(optimizer: Optimizer, *, training: bool) -> bool:
    """Put an optimizer that has a training and an evaluation mode of its own into one; tell whether it has them.

    Source: Defazio et al. 2024 (arXiv 2405.15682), whose weights to evaluate are not those that gradients are taken at.
    """
    modes = [getattr(optimizer, name, None) for name in ("train", "eval")]
    if not all(map(callable, modes)):
        return False
    modes[not training]()  # type: ignore[misc]  # they are callable
    weights_moved()
    return True


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
