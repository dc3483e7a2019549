"""Parts of a user's own task that are there as tensors, looked through before anything is trained.

A study in miniature sees a few examples; a single wrong one among the others would fail all runs, or let them diverge.
"""

import hashlib
import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from study.data.pool import TaskError
from study.tasks.examples import Data, Resident, examples_of
from study.tasks.means import IGNORED
from study.tasks.nests import rows_of
from study.tasks.task import Task
from study.training.building import adapted
from study.training.miniature import FEW


def check_part(task: Task, name: str, part: str, data: Data, classes: int | None) -> None:
    """Make sure that classes are among those of the outputs, and that inputs without a number have a finite loss.

    Args:
        task: The task, whose model is left in eval mode.
        name: The task's name.
        part: What the part is called.
        data: The part; all but tensors, arrays and nests of them passes unseen.
        classes: How many classes the outputs have; None: they have none.

    Raises:
        TaskError: says what is wrong with which example.
    """
    if not isinstance(data, tuple):
        return
    examples = examples_of(data, part)
    assert isinstance(examples, Resident)
    if classes is not None:
        _check_classes(name, part, examples.targets, classes)
    inputs = examples.inputs
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or (known := inputs.isfinite()).all():
        return
    places = (~known.flatten(1).all(1)).nonzero()[:, 0]
    # With others beside them, lest no target counts.
    asked = torch.cat([places[:FEW], torch.arange(min(FEW, len(examples)), device=places.device)])
    some, targets = rows_of((inputs, examples.targets), len(examples), asked)
    with torch.no_grad():
        loss = float(task.loss(adapted(task).eval()(some), targets))
    if not math.isfinite(loss):
        raise TaskError(
            f"task = {name!r} has a {part} part with {len(places)} of {len(examples)} inputs that are not finite, such "
            f"as that at {int(places[0])}, and their loss is {loss:g}: runs would count as diverged, or skip steps; "
            "leave these inputs out, or put numbers in their place"
        )


def _check_classes(name: str, part: str, targets: Any, classes: int) -> None:
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        return
    outside = targets[(targets != IGNORED) & ((targets < 0) | (targets >= classes))]
    if outside.numel():
        raise TaskError(
            f"task = {name!r} has a {part} part with {outside.numel()} targets such as {int(outside[0])}, and outputs "
            f"of {classes} classes, whose targets lie from 0 to {classes - 1}: the loss would fail there; count the "
            "classes from 0, all of them"
        )


def shared_inputs(name: str, parts: Mapping[str, Any]) -> str:
    """Return a note on inputs that stand in two parts bit by bit, "" where none do.

    Args:
        name: The task's name.
        parts: By what they are called; all but tensors and arrays passes unseen.
    """
    digests = {part: _digests(_resident(data, part)) for part, data in parts.items()}
    told = []
    for one, other in combinations(digests, 2):
        known = {*digests[one]}
        if count := sum(digest in known for digest in digests[other]):
            told.append(f"{count} of {len(digests[other])} {other} inputs stand in the {one} part")
    if not told:
        return ""
    return (
        f"task = {name!r} has parts that share inputs, bit by bit: {', '.join(told)}. Where these are the same "
        "examples, scores are too good, most of all for methods that memorize: give each example to one part."
    )


def _resident(data: Any, part: str) -> Resident | None:
    """Return a part that is there as tensors; None of one that is read as it goes."""
    examples = examples_of(data, part) if isinstance(data, tuple) else data
    return examples if isinstance(examples, Resident) else None


def _digests(examples: Resident | None) -> list[bytes]:
    """Return a digest of each example's inputs; none where they are no tensor."""
    if examples is None or not isinstance(examples.inputs, Tensor):
        return []
    rows = examples.inputs.detach().cpu().reshape(len(examples), -1).contiguous().view(torch.uint8).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
