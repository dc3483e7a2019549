"""What a study's scores are called, and the unit that they are written in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dashboards import theme
from study.findings import Findings
from study.findings.units import FRACTION

_SPLITS = {"test_score": "test", "val_score": "validation"}
_LONGEST = 40
_NO_TAGS = str.maketrans("<>", "‹›")
_OF_SEVERAL = "each problem's own unit"


@dataclass(frozen=True, slots=True)
class Score:
    """The name of a study's scores, and the unit that they are written in.

    Fractions, such as accuracies, are written in percent and their differences in points. Of any other metric values
    and gains are written as they are, in its unit, or by its name where it has none.

    Attributes:
        name: In the middle of a sentence: "accuracy", "R²", "score".
        share: All scores are fractions.
        unit: Of scores that are none: "k$"; "" of plain numbers.
    """

    name: str
    share: bool
    unit: str = ""

    @property
    def title(self) -> str:
        """The name at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def points(self) -> str:
        """The unit of a gain, in short."""
        return "points" if self.share else self.unit or self.name

    @property
    def of_delta(self) -> str:
        """The unit of δ, after its number: "points", "k$", "in each problem's own unit"; "" of plain numbers."""
        if self.unit == _OF_SEVERAL:
            return f"in {_OF_SEVERAL}"
        return "" if self.name == self.points else self.points

    @property
    def percentage_points(self) -> str:
        """The unit of a gain, in full."""
        return "percentage points" if self.share else self.points

    @property
    def full(self) -> str:
        """The name, and the unit in which its numbers stand: nothing where every entry has its "%"."""
        return self.name if self.share or not self.unit else f"{self.name}, {self.unit}"

    def axis(self, split: str) -> str:
        """Return the title of an axis of scores on ``split``: "test accuracy, %", "test R²", "test error, k$"."""
        return f"{split} {self.name}, %" if self.share else f"{split} {self.full}"

    def head(self, words: str) -> str:
        """Return the head of a column of scores that ``words`` name: "Validation", "Validation, R²"."""
        return words if self.share else f"{words}, {self.full}"

    def text(self, score: float | None, decimals: int = 2) -> str:
        """Write a score: "94.52 %" for a fraction; any other number as it is, "−0.031"."""
        if self.share:
            return theme.percent(score, decimals)
        return theme.plain(score).replace("-", "−") if score is not None and theme.known(score) else "–"

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write scores and gains in this unit inside the block."""
        with theme.writing(theme.Writing(self.points, self.share)):
            yield


def score_of(findings: Findings) -> Score:
    """Return what the scores of a study are called; one without a named score has accuracies.

    Findings of earlier versions name scores without their units.
    """
    names = dict.fromkeys(findings.score_names.values()) or {"accuracy": None}
    units = {score.unit for score in findings.scores.values()}
    name = "score" if len(names) > 1 else _shown(next(iter(names)))
    if units == {FRACTION} or (not units and all(name.endswith("accuracy") for name in names)):
        return Score(name, True)
    measures = {score.measure for score in findings.scores.values()} or set(names)
    if len(measures) > 1:
        return Score(name, False, _OF_SEVERAL)
    return Score(name, False, "" if measures <= names.keys() else _shown(measures.pop()))


def _shown(text: str) -> str:
    """Make a user's name of a metric or a unit short, and safe for plotly, which reads tags in every text."""
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…").translate(_NO_TAGS)


def units_in_words(findings: Findings) -> dict[str, str]:
    """Return what stands behind the name of each task where scores of several kinds share a page: "R²", "MAE in k$"."""
    if len({score.measure for score in findings.scores.values()}) < 2:
        return {}
    return {
        task: _shown(score.name)
        + (f" in {_shown(score.unit)}" if score.unit not in ("", FRACTION) else "")
        + ("" if score.higher_is_better else ", lower is better")
        for task, score in findings.scores.items()
    }


def metric_words(findings: Findings) -> str:
    """Name the column that verdicts are about: "test accuracy"."""
    split = _SPLITS.get(findings.metric)
    return f"{split} {score_of(findings).name}" if split else findings.metric
