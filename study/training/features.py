"""Features: what a run of the baseline is like, in numbers that may tell whether another method would gain.

They are measured on as many training examples whatever the cell, so that cells can be compared, in evaluation mode, and
describe the training objective as it is: without augmentation and with its noisy labels. What they cost is billed with
the probes.
"""

import math
from typing import Any

import torch

from study.tasks.adapted import by_number, numbered
from study.tasks.examples import Examples
from study.tasks.nests import examples_in
from study.training.measure import Evaluator
from wasam_core import Cost
from wasam_core.modes import eval_mode

EXAMPLES = 200  # that gradients and curvature are measured on
COST = 40 * EXAMPLES  # gradient evaluations that all of them take, about
_BUDGET = 64  # gradient evaluations an example: enough for the curvature of all of them
_MICRO_BATCHES = 40  # whose gradients are compared; each is a backward pass


def features_at_end(evaluator: Evaluator, examples: Examples, seed: int, cost: Cost) -> dict[str, float]:
    """Return the features of the last weights, which the model holds: of `study.records.FEATURES` all that are finite.

    Args:
        evaluator, examples: Of the model, and the training examples.
        seed: Root seed of the run.
        cost: Billed.
    """
    some = examples.first(EXAMPLES)
    found = {one.name: one.value for one in evaluator.probe("last", some, seed, _BUDGET * len(some), cost)}
    found |= noise_of_gradients(evaluator, examples, cost)
    memorized = memorized_share(evaluator, examples, cost)
    return found | ({} if memorized is None else {"memorized": memorized})


def noise_of_gradients(evaluator: Evaluator, examples: Examples, cost: Cost) -> dict[str, float]:
    """Return ``gradient_noise`` and ``gradient_signal`` of the weights that the model holds; as `features_at_end`."""
    from wasam_core.probes.noise import gradient_noise  # noqa: PLC0415  # few runs are described
    from wasam_core.probes.surface import LossSurface  # noqa: PLC0415  # likewise

    model, some = evaluator.model, examples.first(EXAMPLES)
    batches = list(evaluator.batches(some))
    size = max(1, min(len(some), *(examples_in(targets) for _, targets in batches)) // _MICRO_BATCHES)
    with numbered(model, batches) as (tensors,):
        surface = LossSurface(model, by_number(evaluator.task.loss, batches), tensors, cost=cost)
        found = gradient_noise(surface, micro_batch=size)
    values = {"gradient_noise": found.noise, "gradient_signal": found.signal}
    return {name: value for name, value in values.items() if math.isfinite(value)}


@torch.inference_mode()
def memorized_share(evaluator: Evaluator, examples: Examples, cost: Cost) -> float | None:
    """Return the share of the wrong training labels that the model predicts; None where none is known to be wrong."""
    known = evaluator.task.clean_targets
    if known is None:
        return None
    wrong = kept = start = 0
    with eval_mode(evaluator.model):
        for inputs, targets in evaluator.batches(examples):
            predicted: Any = evaluator.model(inputs).argmax(-1)
            clean = torch.as_tensor(known[start : start + len(targets)]).to(targets.device)
            start += len(targets)
            moved = targets != clean
            wrong += int(moved.sum())
            kept += int((moved & (predicted == targets)).sum())
    cost.bill_forwards(start)
    return kept / wrong if wrong else None
