"""What was predicted, and whether this study agrees: one row per hypothesis, its estimate in a unit of its own.

The study's own hypotheses, written down before its first run, and beside them what others have published.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from dashboards import prose, theme
from dashboards.contenders import budget_name
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric, prose_column
from study.findings import Findings, HypothesisResult


@dataclass(frozen=True, slots=True)
class Unit:
    """How the estimates of some kinds of hypothesis are written.

    Attributes:
        write: Writes one number.
        words: What stands after it.
        csv: What its numbers are in the download, at full precision.
        none: No difference, in this unit.
        value: Brings an estimate to ``csv``.
    """

    write: Callable[[float], str]
    words: str
    csv: str
    none: str = "0"
    value: Callable[[float], float] = float

    def estimate(self, mean: float, ends: tuple[float, float]) -> str:
        """Write an estimate with its interval, as far as they are known."""
        if not theme.known(mean):
            return "–"
        low, high = ends
        return f"{self.write(mean)} [{self.write(low)}, {self.write(high)}]" if theme.known(low) else self.write(mean)


_SLOPE = Unit(lambda value: theme.signed(theme.in_points(value)), "{} per unit", "{} per unit")
_POINTS = Unit(theme.gain, "{}", "{}")
UNITS: dict[str, Unit] = {
    "slope": _SLOPE,
    "minimizers": Unit(_SLOPE.write, "{} per length of the line", "{} per unit"),
    "sharpness": Unit(lambda value: theme.ratio(math.exp(value)), "times the other's", "ratio", "1×", math.exp),
    "barrier": Unit(theme.number, "nats", "nats"),
}
EXPECTED = {
    "+": "above {none}",
    "-": "below {none}",
    "0": "no material difference",
    ">=": "not materially below {none}",
}
_WITHOUT_BUDGET = ("sharpness", "barrier", "averaging", "budget")  # they are measured at equal epochs, or at both
OUTCOMES = ("reproduced", "contradicted", "inconclusive")
AGREEMENT = {"reproduced": "agrees", "contradicted": "disagrees", "inconclusive": "undecided"}
_AGREES = {"reproduced": "agrees with {}", "contradicted": "disagrees with {}", "inconclusive": "leaves {} undecided"}
_PUBLISHED = {"claim": "Published", "outcome": "This study", "expected": "Published direction"}  # heads of columns
LITERATURE_READING = (
    "A row holds what others published and the same quantity measured here. Agrees: the 95 % interval lies on the "
    "published side. Disagrees: it lies on the other, or its 90 % twin lies inside the shaded zone though a difference "
    "was published. Gains are at equal epochs; Student-t intervals over the replicates, seeds or cells under n. Tasks "
    "and sizes differ from the published ones, and nothing was predicted for this study: a description, not a test."
)


def claims_sentence(findings: Findings) -> str:
    """Say what became of the claims: "2 of 3 claims reproduced, 1 inconclusive"; "" for a study without any."""
    total = len(findings.hypotheses)
    if not total:
        return ""
    if not findings.counts.finished:
        return f"{'The claim is' if total == 1 else f'The {total} claims are'} undecided until all runs are done"
    found = [(sum(result.outcome == outcome for result in findings.hypotheses), outcome) for outcome in OUTCOMES]
    told = [(number, outcome) for number, outcome in found if number]
    if len(told) == 1:
        whole = "The one claim is" if total == 1 else f"All {total} claims are"
        return f"{whole} {told[0][1]}"
    (number, outcome), *rest = told
    return ", ".join([f"{number} of {total} claims {outcome}", *(f"{number} {outcome}" for number, outcome in rest)])


def claims_table(findings: Findings) -> Table:
    """Return one row a hypothesis, in the spec's order. No outcome is shown before the last run is done."""
    decided = findings.counts.finished
    noted = any(result.note for result in findings.hypotheses)
    return Table(
        "hypotheses",
        "What was claimed before the first run, and what became of it.",
        (
            Column("Claim", "claim"),
            Column("Outcome", "outcome"),
            numeric("Estimate [95 % CI]", "estimate"),
            *hidden("ci95_low", "ci95_high"),
            Column("Unit", "unit"),
            Column("Expected", "expected"),
            numeric("n", "n"),
            prose_column("Source", "source"),
            *([prose_column("Note", "note")] if noted else []),
        ),
        tuple(_row(result, decided, noted) for result in findings.hypotheses),
    )


def _row(result: HypothesisResult, decided: bool, noted: bool) -> tuple[Entry, ...]:
    unit = unit_of(result)
    outcome = result.outcome if decided else "undecided"
    return (
        Entry(result.claim),
        Entry(outcome, icon=theme.OUTCOME_ICONS.get(outcome, "dots")),
        Entry(
            unit.estimate(result.estimate, result.ci95),
            unit.value(result.estimate) if theme.known(result.estimate) else None,
        ),
        *(number_entry(unit.value(end) if theme.known(end) else None) for end in result.ci95),
        Entry(_unit_words(result, unit), unit.csv.format("fraction" if theme.unit() == "points" else theme.unit())),
        Entry(EXPECTED[result.expected].format(none=unit.none), result.expected),
        Entry(f"{result.n} {result.unit}", result.n),
        Entry(result.source or "–"),
        *([Entry(result.note or "–")] if noted else []),
    )


def unit_of(result: HypothesisResult) -> Unit:
    """Return the unit of a hypothesis's estimate: that of the scores unless its kind has its own."""
    return UNITS.get(result.kind, _POINTS)


def _unit_words(result: HypothesisResult, unit: Unit) -> str:
    if result.kind == "slope":
        return f"{theme.unit()} per unit of {result.factor.replace('_', ' ')}"
    return unit.words.format(theme.unit()).replace("the other's", f"{result.other}'s")


def reading_of(findings: Findings) -> str:
    """Say how the table is read, with the budgets that its gains are taken under."""
    budgets = dict.fromkeys(r.budget for r in findings.hypotheses if r.kind not in _WITHOUT_BUDGET)
    gains = f" Gains are at {' or '.join(budget_name(findings, b) for b in budgets)}." if budgets else ""
    return (
        "Every claim was written down, with its sign, before the first run. A bar, each on a scale of its own, is the "
        "95 % interval; the upright line is no difference, the shaded zone what counts as none. Reproduced: the "
        "interval lies where the claim says. Contradicted: it lies on the other side, or its 90 % twin lies inside the "
        "zone though a difference was claimed. Student-t intervals over the replicates, seeds or cells under n, these "
        f"problems taken as given; no correction between claims.{gains}"
    )


@dataclass(frozen=True, slots=True)
class ClaimLine:
    """A claim as the page shows it, and what became of it."""

    icon: str
    outcome: str
    claim: str
    source: str
    estimate: str


def lines_of(results: Iterable[HypothesisResult], *, decided: bool, agreement: bool = False) -> list[ClaimLine]:
    """Return one line a claim; ``agreement`` says of published ones whether this study agrees."""
    found = []
    for result in results:
        unit, outcome = unit_of(result), result.outcome if decided else "undecided"
        found.append(
            ClaimLine(
                theme.OUTCOME_ICONS.get(outcome, "dots"),
                AGREEMENT.get(outcome, outcome) if agreement else outcome,
                result.claim,
                result.source or "no source",
                f"{unit.estimate(result.estimate, result.ci95)} {_unit_words(result, unit)}, "
                f"n = {result.n} {result.unit}",
            )
        )
    return found


def literature_table(findings: Findings) -> Table:
    """Return one row a claim: what was published, its direction, and what this study says."""
    table = claims_table(replace(findings, hypotheses=findings.literature))
    place = next(i for i, column in enumerate(table.columns) if column.csv == "outcome")
    return replace(
        table,
        id="literature",
        caption="What was published elsewhere, and whether this study agrees.",
        columns=tuple(replace(column, title=_PUBLISHED.get(column.csv, column.title)) for column in table.columns),
        rows=tuple((*row[:place], _agreement(row[place]), *row[place + 1 :]) for row in table.rows),
    )


def _agreement(outcome: Entry) -> Entry:
    return replace(outcome, text=AGREEMENT.get(outcome.text, outcome.text))


def literature_heading(results: Iterable[HypothesisResult]) -> str:
    """State how many published claims the study agrees with."""
    outcomes: list[str] = [result.outcome for result in results]
    counts = [(outcomes.count(outcome), words) for outcome, words in _AGREES.items()]
    told = [words.format(number) for number, words in counts if number]
    return f"Of {prose.things(len(outcomes), 'published claim')} that it can speak of, this study {prose.listed(told)}"
