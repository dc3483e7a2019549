"""Streams: whether methods of a seed were trained on the same examples, where the study doesn't decide their order."""

from collections import Counter, defaultdict
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
    seen: dict[tuple[str, str, int, int], set[str]] = defaultdict(set)
    inexact = Counter[str]()
    for record in records:
        job = record.job
        if record.stream:
            seen[job.task, job.cell, job.replicate, job.seed].add(record.stream)
            inexact[job.task] += record.inexact_resume
    found = {}
    for task in inexact:
        several = [len(hashes) > 1 for (own, *_), hashes in seen.items() if own == task]
        found[task] = Streams(several.count(False), several.count(True), inexact[task])
    return found
