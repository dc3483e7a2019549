"""A running tally of a study: how many runs ended how, and the best validation score so far."""

from collections import Counter

from study.plan.agenda import Agenda
from study.plan.selection import best_measurement
from study.records import RunRecord


class Tally:
    """Counts records as they come; the display draws it, the gauges publish it.

    Args:
        agenda: What is planned; its records are counted from the start.

    Attributes:
        ended: Runs by status.
        by_stage: Runs by stage.
        best: Best validation score of the tune stage by method and cell: optimistic, and not a result.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.ended: Counter[str] = Counter()
        self.by_stage: Counter[str] = Counter()
        self.best: dict[tuple[str, str], float] = {}
        for record in agenda.records:
            self.count(record)

    @property
    def done(self) -> int:
        """Runs that have a record."""
        return self.ended.total()

    @property
    def planned(self) -> tuple[int, int]:
        """Runs of the whole study, at least and at most."""
        return self._agenda.planned

    def count(self, record: RunRecord) -> None:
        """Take in one record."""
        self.ended[record.status] += 1
        self.by_stage[record.job.stage] += 1
        if record.job.stage != "tune":
            return
        for method in self._agenda.search_of(record).methods:
            found = best_measurement(method, record)
            if found and found.val_score is not None:
                key = method, record.job.cell
                self.best[key] = max(self.best.get(key, found.val_score), found.val_score)
