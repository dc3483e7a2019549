"""What a study's scores are called, and the unit that they are written in."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from dashboards import theme
from study.findings import Findings
from study.findings.content import ScoreUnit
from study.findings.units import FRACTION
from study.stats.typical import Way, way_of

_SPLITS = {"test_score": "test ", "val_score": "validation ", "score": ""}  # the last: nobody knows
_LONGEST = 40
_NO_TAGS = str.maketrans("<>", "‹›")
_OF_SEVERAL = "each problem's own unit"


@dataclass(frozen=True, slots=True)
class Score:
    """The name of a study's scores, and the unit that they are written in.

    Fractions, such as accuracies, are written in percent and their differences in points. Of any other metric values
    and gains are written as they are, in its unit, or by its name where it has none. Of a metric whose lower values are
    better, scores are the negatives; they are written as the metric has them.

    Attributes:
        name: In the middle of a sentence: "accuracy", "R²", "score".
        share: All scores are fractions.
        unit: Of scores that are none: "k$"; "" of plain numbers.
        higher_is_better: Of the metric.
    """

    name: str
    share: bool
    unit: str = ""
    higher_is_better: bool = True

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
    def way(self) -> Way:
        """How scores of several runs are put together: the mean of shares, the median of what has no bound."""
        return way_of(self.share)

    @property
    def full(self) -> str:
        """The name, and the unit in which its numbers stand: nothing where every entry has its "%"."""
        return self.name if self.share or not self.unit else f"{self.name}, {self.unit}"

    @property
    def csv_unit(self) -> str:
        """The unit of the numbers of a download, which are as they were measured."""
        return "fraction" if self.share else self.points

    @property
    def direction(self) -> str:
        """What stands behind the name of a metric whose lower values are better; "" of all others."""
        return "" if self.higher_is_better else ", lower is better"

    def axis(self, split: str) -> str:
        """Return the title of an axis of scores on ``split``: "test accuracy, %", "test MAE, k$, lower is better"."""
        return f"{split} {self.name}, %{self.direction}" if self.share else f"{split} {self.full}{self.direction}"

    def head(self, words: str) -> str:
        """Return the head of a column of scores that ``words`` name: "Validation", "Validation, R²"."""
        return words if self.share else f"{words}, {self.full}"

    def text(self, score: float | None, decimals: int = 2) -> str:
        """Write a score: "94.52 %" for a fraction; any other number as the metric has it, "−0.031", with its unit."""
        return self.write(score if score is None else self.measured(score), decimals)

    def write(self, measured: float | None, decimals: int = 2) -> str:
        """Write what the metric itself measured, as `text` writes a score."""
        if self.share:
            return theme.percent(measured, decimals)
        return "–" if measured is None or not theme.known(measured) else theme.plain(measured).replace("-", "−")

    def full_text(self, score: float | None) -> str:
        """Write a score with its unit, as a sentence needs it: "94.52 %", "14.2 k$"."""
        return self.text(score) if self.share or not self.unit else f"{self.text(score)}\u202f{self.unit}"

    def measured(self, score: float) -> float:
        """Return what the metric itself measured."""
        return score if self.higher_is_better or not score else -score

    def ends(self, ends: tuple[float, float]) -> tuple[float, float]:
        """Return the ends of an interval as the metric itself measured them, the lower one first."""
        low, high = map(self.measured, ends)
        return (low, high) if self.higher_is_better else (high, low)

    def drawn(self, values: Iterable[float]) -> list[float]:
        """Return where scores stand on an axis of `axis`: as the metric measured them, fractions in percent."""
        measured = map(self.measured, values)
        return [theme.hundredths(value) for value in measured] if self.share else list(measured)

    def axis_from(self, worst: float, best: float) -> dict[str, object]:
        """Return the settings of an axis of `axis` that ends at two scores, the worse one first."""
        return {"range": sorted(self.drawn((worst, best)))}

    @property
    def loss_unit(self) -> str:
        """The unit of the loss beside it: nats, of cross-entropies; "" where nobody knows."""
        return "nats" if self.share else ""

    @property
    def loss_csv_unit(self) -> str:
        """The same in a download."""
        return self.loss_unit or "the task's loss"

    def loss_head(self, words: str) -> str:
        """Return the head of a column of losses that ``words`` name: "Train loss, nats"."""
        return f"{words}, {self.loss_unit}" if self.loss_unit else words

    def loss_text(self, loss: float) -> str:
        """Write a loss with three significant digits, and its unit: "0.31 nats"."""
        return f"{theme.number(loss)} {self.loss_unit}".rstrip()

    def written(self) -> AbstractContextManager[None]:
        """Write scores and gains in this unit inside the block."""
        return theme.writing(self.points, share=self.share)


@contextmanager
def shown(findings: Findings) -> Iterator[None]:
    """Write scores and gains in a study's unit inside the block, and know its methods."""
    with score_of(findings).written(), theme.showing(findings.table, findings.methods if findings.origin else ()):
        yield


def score_of(findings: Findings) -> Score:
    """Return what the scores of a study are called; one without a task has accuracies."""
    return _common(findings.scores.values())


def pooled_score(findings: Findings) -> Score:
    """Return what the scores are called that estimates across problems are of: those of the pooled tasks."""
    return score_in(findings, findings.pooled[0]) if findings.pooled else score_of(findings)


def score_in(findings: Findings, task: str) -> Score:
    """Return what the scores of one task are called."""
    return _common([findings.scores[task]]) if task in findings.scores else score_of(findings)


def _common(scores: Iterable[ScoreUnit]) -> Score:
    """Return what scores are called together; the metric is written as its score is, unless lower is always better."""
    all_of = [*scores] or [ScoreUnit("accuracy", FRACTION)]
    names, units = ({getattr(score, field) for score in all_of} for field in ("name", "unit"))
    name = "score" if len(names) > 1 else _shown(names.pop())
    higher = any(score.higher_is_better for score in all_of)
    if units == {FRACTION}:
        return Score(name, True, higher_is_better=higher)
    if len({score.measure for score in all_of}) > 1:
        return Score(name, False, _OF_SEVERAL)
    return Score(name, False, _shown(units.pop()), higher)


def _shown(text: str) -> str:
    """Make a user's name of a metric or a unit short, and safe for plotly, which reads tags in every text."""
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…").translate(_NO_TAGS)


def measures_of(findings: Findings) -> dict[str, list[str]]:
    """Return the tasks by what their scores are counted in: only those of one measure stand on one scale."""
    found: dict[str, list[str]] = {}
    for task, score in findings.scores.items():
        found.setdefault(score.measure, []).append(task)
    return found


def units_in_words(findings: Findings) -> dict[str, str]:
    """Return what stands behind the name of each task where scores of several kinds share a page: "MAE in k$"."""
    if len(measures_of(findings)) < 2:
        return {}
    return {task: _shown(score.measure) for task, score in findings.scores.items()}


def metric_words(findings: Findings) -> str:
    """Name the column that verdicts are about: "test accuracy", "test MAE, k$, lower is better"."""
    if findings.metric not in _SPLITS:
        return findings.metric
    score = score_of(findings)
    name = score.name if score.unit == _OF_SEVERAL else score.full
    return f"{split_of(findings)}{name}{score.direction}"


def split_of(findings: Findings) -> str:
    """Return what scores were measured on, to be put before their name: "test ", "validation ", or ""."""
    return _SPLITS.get(findings.metric, "")
