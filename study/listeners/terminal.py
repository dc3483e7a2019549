"""What the user sees while a study runs: a live display on a terminal, plain lines in a pipe."""

import math
import time
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from study.listeners.listener import Listener, Tally
from study.plan.agenda import Agenda
from study.plan.cells import gradient_evaluations
from study.records import Job, RunRecord

_DRAW_EVERY_S = 0.25  # the terminal shows four pictures a second; one more costs and is not seen
_LINE_EVERY_S = 10.0  # a pipe gets a line this often, a log of a long study stays readable


class Display(Listener):
    """Follows a study run by run: a picture on a terminal, plain lines elsewhere, nothing when ``quiet``.

    Shows runs done of total, per stage, failures and time left; no scores: a study has no results before its end.
    """

    def __init__(self, console: Console, agenda: Agenda, tally: Tally, concurrent: int, quiet: bool) -> None:
        self._console, self._agenda, self._tally = console, agenda, tally
        self._concurrent, self._quiet = concurrent, quiet
        self._work_done = 0  # gradient evaluations of the runs that ended under this display
        self._busy_s = 0.0  # what they took, each for itself
        self._errors: Counter[str] = Counter()  # runs by the last line of their error
        self._notes: set[str] = set()  # what was said of a run that went on
        self._last_line = time.monotonic()
        self._drawn_at = -math.inf
        self._bar = Progress(
            SpinnerColumn(), TextColumn("runs"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"), console=console, refresh_per_second=4, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("runs", total=tally.planned[1], detail="")

    def close(self) -> None:
        """Leave the terminal as it was, and count equal errors."""
        if self._drawing:
            self._bar.stop()
        for reason, runs in self._errors.items():
            if runs > 1:
                self._console.print(f"{runs} runs failed with: {escape(reason)}", style="red")

    def started(self, job: Job) -> None:
        """Show that work has begun."""
        self.tick()

    def retried(self, job: Job, why: str) -> None:
        """Say that a run is tried again, and why."""
        if not self._quiet:
            self._console.print(
                f"run {job.run_id} is tried again ({escape(job.cell)}, {job.family}): {escape(why)}", style="yellow"
            )

    def noted(self, job: Job, what: str) -> None:
        """Say what happened to a run, once for all runs: a full disk happens to each of them."""
        if not self._quiet and what not in self._notes:
            self._notes.add(what)
            self._console.print(f"run {job.run_id} ({escape(job.cell)}, {job.family}): {escape(what)}", style="yellow")

    def finished(self, record: RunRecord) -> None:
        """Count a run that ended; show its error at once, and an error that was shown already at the end, counted."""
        self._work_done += gradient_evaluations(record.job)
        self._busy_s += record.wall_s
        if record.status == "failed" and not self._quiet:
            error = (record.error or "").strip() or "no reason was given"
            reason = error.splitlines()[-1]
            self._errors[reason] += 1
            if self._errors[reason] == 1:
                self._console.print(
                    f"{escape(error)}\nrun {record.run_id} failed ({escape(record.job.cell)}, {record.job.family}), "
                    "see above",
                    style="red",
                )
        self.tick()

    def tick(self) -> None:
        """Redraw, or write a line when one is due."""
        if self._drawing and time.monotonic() - self._drawn_at > _DRAW_EVERY_S:
            self._drawn_at = time.monotonic()
            self._bar.start()  # where it has not been
            self._bar.update(
                self._task, completed=self._tally.done, total=self._tally.planned[1], detail=self._detail()
            )
        elif not (self._drawing or self._quiet) and time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(f"{self._tally.done} of {self._total()} runs, {self._detail()}")

    @property
    def _drawing(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def _total(self) -> str:
        least, most = self._tally.planned
        return str(most) if least == most else f"{least} to {most}"

    def _detail(self) -> str:
        whole, replicates = self._agenda.replicates
        parts = [f"{whole} of {replicates} replicates"] if replicates > 1 else []
        stages = sorted({"tune", "confirm", *self._tally.by_stage}, key=lambda name: (name < "tune", name))
        parts += [f"{self._tally.by_stage[stage]} {stage}" for stage in stages]
        ended = self._tally.ended
        parts += [f"{ended[status]} {status}" for status in ("diverged", "failed", "pruned") if ended[status]]
        return ", ".join([*parts, self._time_left()])

    def _time_left(self) -> str:
        """Extrapolate from the gradient evaluations done so far to those that are left."""
        if not self._work_done:
            return "time left unknown"
        left = self._agenda.gradient_evaluations_left
        return f"about {format_duration(self._busy_s / self._work_done * left / self._concurrent)} left"


def format_duration(seconds: float) -> str:
    """Write a duration for people: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
