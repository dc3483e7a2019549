"""Streams: whether methods of a seed were trained on the same examples, where the study doesn't decide their order."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from study.records import RunRecord


@dataclass(frozen=True, slots=True)
class Streams:
    """What the runs of a task saw of its stream: seeds whose runs saw the same or not, runs resumed elsewhere in it."""

    paired: int
    unpaired: int
    inexact: int


def streams_of(records: Iterable[RunRecord]) -> dict[str, Streams]:
    """Return what is known of each task whose training part is a stream."""
    seen: dict[str, dict[tuple[str, int, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    inexact: dict[str, int] = defaultdict(int)
    for record in records:
        job = record.job
        if record.stream:
            seen[job.task][job.cell, job.replicate, job.seed].add(record.stream)
            inexact[job.task] += record.inexact_resume
    found = {}
    for task, seeds in seen.items():
        unpaired = sum(len(hashes) > 1 for hashes in seeds.values())
        found[task] = Streams(len(seeds) - unpaired, unpaired, inexact[task])
    return found
