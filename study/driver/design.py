"""What is said of a study before its first run: how large it is, what it costs, and what its design can't show."""

import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from study.listeners.terminal import format_duration
from study.plan.cells import cells, sizes
from study.plan.replicates import replicate_of
from study.specs.spec import SpecError, StudySpec
from study.specs.tasks import entry_of

TYPICAL_SD = 0.006  # of a replicate's gain in accuracy, as measured on digits and MNIST-1D
RUN_KB = 20  # of a run on the disk: its record, TensorBoard and Optuna; measured on the default study
START_AND_END_S = 13.0  # of "smoke" beyond its runs, on two idle cores: Ray, workers that import torch, the report
_TYPICAL_SCORE = 0.9  # at which the sampling error of an accuracy is told
_LARGE_DELTA = 0.05  # of an accuracy
_ACCURACIES = ("accuracy", "token accuracy", "node accuracy")


def one_line(name: str, spec: StudySpec) -> str:
    """Return what a study is called, its size, and beneath that its question."""
    runs = _range(map(sum, zip(*(size.runs for size in sizes(spec)), strict=True)))
    count = len(cells(spec))
    head = f"{name}: {count} {'cell' if count == 1 else 'cells'}, {runs} runs"
    return "\n".join([head, *textwrap.wrap(spec.question, 80, initial_indent="  ", subsequent_indent="  ")])


def plan_of(
    spec: StudySpec, folder: Path, numbers: Sequence[int] | None, sd: float | None, notes: Iterable[str]
) -> Iterator[str]:
    """Yield the lines of a dry run.

    Args:
        spec, folder: The study, and its results folder.
        numbers: Of the replicates to run; None: all that the spec plans.
        sd: As for `detectable`.
        notes: What its user should know besides.
    """
    from study.training.estimate import estimated_seconds  # noqa: PLC0415  # needs torch, which takes seconds to import

    replicates = [replicate_of(spec, number) for number in numbers or range(1, spec.replicates + 1)]
    planned = sizes(spec, replicates)
    yield f"study {spec.name} (spec hash {spec.hash[:12]}) into {folder}"
    yield (
        f"{len(replicates)} of {spec.replicates} replicates, each with {spec.confirms} confirm seeds a pick; "
        f"{len(cells(spec))} cells"
    )
    for stage in ("tune", "confirm"):
        runs = [size.runs for size in planned if size.stage == stage]
        yield f"{stage}: {_range(map(sum, zip(*runs, strict=True)))} runs"
    evaluations = zip(*(size.gradient_evaluations for size in planned), strict=True)
    yield f"gradient evaluations: {_range(map(sum, evaluations))}"
    most = sum(size.runs[1] for size in planned)
    yield f"disk: about {most * RUN_KB / 1e3:,.0f} MB (records, views and logs; checkpoints of probes come on top)"
    slots = os.cpu_count() or 1
    try:
        low, high = estimated_seconds(spec, slots, replicates)
    except SpecError as error:  # the data of a task are not here: they may be where the study will run
        yield f"estimated time: unknown, because {error}"
    else:
        yield (
            f"estimated time: {format_duration(low + START_AND_END_S)} to {format_duration(high + START_AND_END_S)} "
            f"({slots} runs side by side on CPUs, from training steps timed just now, as if nobody else used them; "
            f"{START_AND_END_S:.0f} s to start and to report in it; the more picks agree, the nearer to the first)"
        )
    yield detectable(spec, folder, sd)
    yield from (f"note: {text}" for text in (*warnings_of(spec), *notes))
    for cell in cells(spec):
        yield f"cell {cell.name}, each replicate"
        for size in planned:
            search = size.search
            if search.cell.name == cell.name and search.replicate == replicates[0]:
                longer = f", {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
                yield (
                    f"  {size.stage:8} {search.name}{longer} (serves {', '.join(search.roles)}): "
                    f"{_range(size.runs)} runs, {_range(size.gradient_evaluations)} gradient evaluations"
                )


def _range(ends: Iterable[int]) -> str:
    return " to ".join(f"{end:,}" for end in dict.fromkeys(ends))


def detectable(spec: StudySpec, folder: Path, sd: float | None) -> str:
    """Say which gain the planned replicates detect with a power of .8, at the level that Holm's first step asks for.

    Args:
        spec: The study.
        folder: Its results folder, whose findings say how much gains vary, if it has any.
        sd: Standard deviation of a replicate's gain; None: as measured there, or else, of accuracies, a typical one.
    """
    from study.stats import estimates  # noqa: PLC0415  # SciPy takes a second to import

    source = "as stated"
    if sd is None:
        sd, source = _measured_sd(folder), f"as measured in {folder}"
    units = spec.confirms if spec.one_tuning else spec.replicates
    called = "seeds of one tuning" if spec.one_tuning else "replicates"
    if sd is None:
        if any(entry_of(problem.task).metric not in _ACCURACIES for problem in spec.problems):
            return (
                f"which gain {units} {called} detect is not known before anything is measured: state the deviation of "
                "a replicate's gain with --sd, in the unit of the score"
            )
        sd, source = TYPICAL_SD, "typical of small accuracies; state yours with --sd"
    gain = estimates.detectable(sd / math.sqrt(units), units - 1, spec.alpha / len(cells(spec)))
    found = "no gain" if math.isnan(gain) else f"a gain of {gain:.4g}"
    where = f"in {len(cells(spec))} cells, at a deviation of {sd:.4g} ({source})"
    return f"{units} {called} detect {found} with power .8, {where}"


def _measured_sd(folder: Path) -> float | None:
    """Return the median deviation of the gains under the primary budget in a folder's findings; None without any.

    Of several scores it is that of those which are put together.
    """
    from study.findings.content import FindingsError, read_findings  # noqa: PLC0415  # likewise

    try:
        findings = read_findings(folder / "findings.json")
    except FindingsError:
        return None
    pooled = findings.pooled or {effect.task for effect in findings.effects}
    effects = (e for e in findings.effects if e.budget == findings.primary_budget and e.task in pooled)
    known = sorted(effect.sd for effect in effects if effect.sd > 0)
    return known[len(known) // 2] if known else None


def _too_small(spec: StudySpec, task: str, delta: float) -> Iterable[str]:
    """Yield a sentence if a task's test part is too small for δ.

    A part of n examples tells no less than 1/n apart, and an accuracy p on it has a sampling error of √(p(1 − p)/n),
    which parts that are drawn anew share out among the replicates.
    """
    entry = entry_of(task)
    parts = spec.replicates if entry.test in ("drawn", "split") else 1
    step = 1 / entry.test_size if entry.test_size else 0.0
    error = math.sqrt(_TYPICAL_SCORE * (1 - _TYPICAL_SCORE) * step / parts)
    if max(step, error) > delta:
        whose = f"over the {parts} of them that the replicates draw" if parts > 1 else "of which no interval knows"
        yield (
            f"the test part of {task} has {entry.test_size:,} examples, too few for δ = {delta:g}: it tells no less "
            f"than {step:.2g} apart, and its sampling error is about {error:.2g} at a score of {_TYPICAL_SCORE:g}, "
            f"{whose}."
        )


def warnings_of(spec: StudySpec) -> Iterable[str]:
    """Yield a sentence for whatever in a spec is allowed and seldom meant."""
    for task in dict.fromkeys(problem.task for problem in spec.problems):
        delta = spec.delta_of(task)
        metric = entry_of(task).metric
        if metric in _ACCURACIES and delta > _LARGE_DELTA:
            yield f"δ = {delta:g} was given for {task}, whose {metric} is a fraction: that is {100 * delta:g} points."
        if metric in _ACCURACIES:
            yield from _too_small(spec, task, delta)
    if spec.search.sampler == "tpe" and spec.search.startup_trials < 10:
        yield f"TPE draws its first {spec.search.startup_trials} trials at random, a third of {spec.search.trials}."
