"""The forest's summary rows: what all tasks say together, and what a new one like these may bring."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards import theme
from study.findings import Findings
from study.stats import Synthesis
from study.stats.clustered import MIN_TASKS

ROW = "all tasks"
MOST_WIDENING = 0.5  # of the range that the problems take: with few tasks these intervals are far wider


@dataclass(frozen=True, slots=True)
class Pooled:
    """A method's random-effects mean over tasks, and the budgets that it stands for."""

    synthesis: Synthesis
    budgets: tuple[str, ...]


def pooled_of(findings: Findings) -> tuple[Pooled, ...]:
    """Return the syntheses of enough tasks to say something of others, the primary budget first; equal ones merge."""
    found: dict[tuple[object, ...], list[Synthesis]] = {}
    for synthesis in sorted(findings.syntheses, key=lambda s: s.budget != findings.primary_budget):
        if synthesis.tasks >= MIN_TASKS and theme.known(synthesis.ci95[0]):
            found.setdefault((synthesis.method, synthesis.mean, synthesis.ci95), []).append(synthesis)
    return tuple(Pooled(same[0], tuple(synthesis.budget for synthesis in same)) for same in found.values())


def widened(pooled: Sequence[Pooled], low: float, high: float) -> tuple[float, float]:
    """Return a range that holds the summaries too, as far as it may grow; what lies beyond is cut, with an arrow."""
    pairs = [pair for one in pooled for pair in (one.synthesis.ci95, one.synthesis.prediction95)]
    ends = [end for pair in pairs for end in pair if theme.known(end)]
    room = MOST_WIDENING * (high - low)
    return max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)


def caption_of(pooled: Sequence[Pooled]) -> str:
    """Say what the summary rows show; "" without any."""
    if not pooled:
        return ""
    tasks = sorted({one.synthesis.tasks for one in pooled})
    span = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}"
    sentence = (
        f" All tasks: random-effects mean over {span} tasks, each the mean of its problems, with its 95 % interval "
        "(thick)"
    )
    if any(theme.known(one.synthesis.prediction95[0]) for one in pooled):
        sentence += " and the 95 % prediction interval for the true gain in a new task like these (thin)"
    return f"{sentence}; arrows go on beyond the axis."
