"""What a study's scores are called: accuracy, another metric that all its tasks share, or simply the score."""

from dataclasses import dataclass

from dashboards import theme
from study.findings import Findings

_SPLITS = {"test_score": "test", "val_score": "validation"}


@dataclass(frozen=True, slots=True)
class Score:
    """The name of a study's scores, and the unit that they are written in.

    Every score is written times 100. Only for an accuracy, a share of right answers, does that make a percentage; of
    any other metric the number stands alone, and the axis or the column's head says "× 100".

    Attributes:
        name: In the middle of a sentence: "accuracy", "R²", "score".
        share: All scores are shares of right answers.
    """

    name: str
    share: bool

    @property
    def title(self) -> str:
        """The name at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def points(self) -> str:
        """The unit of a gain, in short."""
        return "points" if self.share else f"points ({self.name} × 100)"

    @property
    def percentage_points(self) -> str:
        """The unit of a gain, in full."""
        return "percentage points" if self.share else self.points

    @property
    def times(self) -> str:
        """What follows the name in a column's head: nothing where every entry has its "%", else " × 100"."""
        return "" if self.share else " × 100"

    def axis(self, split: str) -> str:
        """Return the title of an axis of scores on ``split``: "test accuracy, %", "test R² × 100"."""
        return f"{split} {self.name}, %" if self.share else f"{split} {self.name}{self.times}"

    def head(self, words: str) -> str:
        """Return the head of a column of scores that ``words`` name: "Validation", "Validation, R² × 100"."""
        return words if self.share else f"{words}, {self.name}{self.times}"

    def text(self, score: float | None, decimals: int = 2) -> str:
        """Write a score: "94.52 %" for a share of right answers; any other number as its axis counts, "−3.10"."""
        if self.share:
            return theme.percent(score, decimals)
        return theme.points(score, decimals).replace("-", "−")


def score_of(findings: Findings) -> Score:
    """Return what the scores of a study are called; one without a named score has accuracies."""
    names = set(findings.score_names.values()) or {"accuracy"}
    return Score("score" if len(names) > 1 else next(iter(names)), all(name.endswith("accuracy") for name in names))


def metric_words(findings: Findings) -> str:
    """Name the column that verdicts are about: "test accuracy"."""
    split = _SPLITS.get(findings.metric)
    return f"{split} {score_of(findings).name}" if split else findings.metric
