"""Scores: their name, their unit, which way is better, and δ in that unit. What was not said is read off the name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from study.existing.columns import bare
from study.existing.reading import Row
from study.existing.trackers import TableError
from study.existing.values import label_of
from study.findings.content import ScoreUnit
from study.findings.units import FRACTION

# Words in the names of metrics. Shares lie between 0 and 1, or 0 and 100 in percent.
_SHARES: Final = {
    "acc", "accuracy", "f1", "auc", "auroc", "auprc", "precision", "recall", "iou", "miou", "dice", "top1", "top5",
    "map",
}  # fmt: skip
_HIGHER: Final = _SHARES | {
    "score", "reward", "return", "bleu", "rouge", "r2", "psnr", "ssim", "kappa", "mcc", "pearson", "spearman", "elo",
    "likelihood",
}  # fmt: skip
_LOWER: Final = {
    "loss", "error", "err", "mae", "mse", "rmse", "mape", "nll", "perplexity", "ppl", "ece", "brier", "wer", "cer",
    "fid", "regret", "distance",
}  # fmt: skip
# What turns a metric round, or makes another quantity of it, as in neg_log_loss, 1-acc, acc_drop, time_to_acc.
_TURNED: Final = {
    "neg", "negative", "negated", "minus", "inv", "inverse", "inverted", "complement", "misclassification", "attack",
    "drop", "gap", "gain", "reduction", "improvement", "decrease", "increase", "change", "diff", "difference", "delta",
    "degradation", "forgetting", "std", "stdev", "stddev", "sd", "sem", "stderr", "var", "variance", "range", "rank",
    "time", "to",
}  # fmt: skip
_LESS: Final = re.compile(r"(^|[^a-z0-9])(1|100)\s*[-−–]")
_METRIC_COLUMNS: Final = ("metric", "metric_name", "measure")
DELTA: Final = 0.005  # of fractions: half a point; there is no default for a unit of one's own
LEAST_OF_PERCENTS: Final = 0.05  # below, a δ given for percents was meant for fractions
MOST_OF_FRACTIONS: Final = 0.5  # from here on, a δ given for fractions was meant for percents


@dataclass(frozen=True, slots=True)
class Kind:
    """What the scores of a problem are.

    ``divisor`` is 100 of percents, which are written as fractions.
    """

    score: ScoreUnit
    divisor: float
    delta: float

    def of(self, value: float) -> float:
        """Return a number of the table as a study has it: higher is better, and percents are fractions."""
        value = value / self.divisor if self.divisor != 1 else value
        return value if self.score.higher_is_better else 0.0 - value


def metrics_of(columns: Sequence[str], rows: Mapping[str, Iterable[Row]], score: str) -> dict[str, str]:
    """Return the name of each problem's metric: the score's column, or what a column ``metric`` says.

    Raises:
        TableError: a problem with scores of several metrics.
    """
    column = next((name for name in columns if bare(name).lower() in _METRIC_COLUMNS and name != score), "")
    found = {}
    for problem, own in rows.items():
        names = dict.fromkeys(label_of(row.get(column)) or "" for row in own) if column else {bare(score): None}
        if len(names) > 1:
            raise TableError(
                f"the rows of {problem} are of several metrics ({', '.join(names)}), which can't be held against each "
                f"other; keep the rows of one."
            )
        found[problem] = next(iter(names)) or bare(score)
    return found


def kind_of(metric: str, values: Sequence[float], *, higher: bool | None, unit: str, delta: float | None) -> Kind:
    """Return what the scores of a problem are.

    Args:
        metric: The metric's name.
        values: Its finite values, over all problems.
        higher: Whether higher is better; None: read it off the name.
        unit: As given: ``%`` for percents, ``fraction``, or what stands behind a number; "" to read it off the name.
        delta: δ in the table's own numbers; None for half a point of a fraction.

    Raises:
        TableError: a direction or a δ that can't be known, fractions among percents.
    """
    words = _words(metric)
    better = _direction(metric, words) if higher is None else higher
    share, divisor = _share(metric, words, values, unit)
    if delta is None:
        if not share:
            raise TableError(
                f"δ, the smallest gain that matters, can't be guessed for {metric}; give --delta in its own unit."
            )
        delta = DELTA * divisor
    if divisor == 100 and delta < LEAST_OF_PERCENTS:
        raise TableError(
            f"{metric} is in percent (up to {max(values):g}) and δ = {delta:g} would be {delta:g} of a point; give "
            "--delta 0.5 for half a point, or --unit for what the numbers are."
        )
    if share and divisor == 1 and delta >= MOST_OF_FRACTIONS:
        raise TableError(
            f"{metric} is a fraction and δ = {delta:g} would be {100 * delta:g} points; give --delta 0.005 for half a "
            "point."
        )
    name = re.sub(r"^(test|final)[\s_/.-]+", "", metric, flags=re.IGNORECASE)
    shown = FRACTION if share else unit
    return Kind(ScoreUnit(name, shown, better), divisor, delta / divisor)


def _words(metric: str) -> frozenset[str]:
    """Return the words of a name: ``val/top1_acc`` and ``valTop1Acc`` have val, top, top1 and acc."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", metric)
    found = re.findall(r"([a-z]+)([0-9]*)", apart.lower())
    return frozenset(word for letters, digits in found for word in (letters, letters + digits))


def _direction(metric: str, words: frozenset[str]) -> bool:
    turned = bool(words & _TURNED) or _LESS.search(metric) is not None
    if turned or bool(words & _HIGHER) == bool(words & _LOWER):
        raise TableError(
            f"whether more of {metric} is better can't be told from its name; give --lower-is-better or "
            "--higher-is-better."
        )
    return bool(words & _HIGHER)


def _share(metric: str, words: frozenset[str], values: Sequence[float], unit: str) -> tuple[bool, float]:
    """Tell whether scores are shares, and by what they have to be divided to be fractions."""
    if unit == "%":
        return True, 100.0
    outside = [value for value in values if not 0 <= value <= 1]
    if unit == FRACTION and outside:
        raise TableError(f"--unit fraction was given, and {metric} holds {outside[0]:g}.")
    if unit and unit != FRACTION:
        return False, 1.0
    if not outside:
        return unit == FRACTION or bool(words & _SHARES), 1.0
    if not words & _SHARES or any(not 0 <= value <= 100 for value in outside):
        return False, 1.0
    inside = len(values) - len(outside)
    if inside:
        raise TableError(
            f"{metric} holds {inside} numbers up to 1 and {len(outside)} above, up to {max(outside):g}: "
            "fractions among percents can't be told apart; write all alike, or give --unit % if all are percents."
        )
    return True, 100.0
