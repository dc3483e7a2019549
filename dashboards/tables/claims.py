"""What was predicted, and whether this study agrees: one row per hypothesis, its estimate in a unit of its own.

The study's own hypotheses, written down before its first run, and beside them what others have published.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.contenders import budget_name
from dashboards.tables import columns
from dashboards.tables.table import Table
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
        return theme.within(mean, ends, self.write) if theme.known(mean) else "–"


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
LITERATURE_READING = (
    "A row holds what others published and the same quantity measured here. Agrees: the 95 % interval lies on the "
    "published side. Disagrees: it lies on the other, or its 90 % twin lies inside what counts as no difference "
    "though one was published. Gains are at equal epochs; Student-t intervals over the replicates, seeds or cells "
    "under n. Tasks and sizes differ from the published ones, and nothing was predicted for this study: a "
    "description, not a test."
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
    caption = "What was claimed before the first run, and what became of it."
    results = findings.hypotheses
    outcomes = [result.outcome if findings.counts.finished else "undecided" for result in results]
    return _table_of("hypotheses", caption, ("Claim", "Outcome", "Expected"), results, outcomes, outcomes)


def literature_table(findings: Findings) -> Table:
    """Return one row a claim: what was published, its direction, and what this study says."""
    caption, results = "What was published elsewhere, and whether this study agrees.", findings.literature
    outcomes: list[str] = [result.outcome for result in results]
    said = [AGREEMENT[outcome] for outcome in outcomes]
    return _table_of("literature", caption, ("Published", "This study", "Published direction"), results, outcomes, said)


def _table_of(
    name: str,
    caption: str,
    heads: tuple[str, str, str],
    results: Sequence[HypothesisResult],
    outcomes: Sequence[str],
    said: Sequence[str],
) -> Table:
    claim, outcome, expected = heads
    own = [(unit_of(result), result) for result in results]
    score_unit = "fraction" if theme.shares() else theme.unit()
    estimates = columns.estimates(
        "Estimate",
        "estimate",
        [(unit.value(one.mean), (unit.value(low), unit.value(high))) for unit, one in own for low, high in [one.ci95]],
        texts=[unit.estimate(one.mean, one.ci95) for unit, one in own],
    )
    return columns.table_of(
        name,
        caption,
        (
            columns.words(claim, "claim", [one.claim for one in results]),
            columns.marked(outcome, "outcome", said, [theme.OUTCOME_ICONS.get(one, "dots") for one in outcomes]),
            *estimates,
            columns.words(
                "Unit",
                "unit",
                [_unit_words(one, unit) for unit, one in own],
                [unit.csv.format(score_unit) for unit, _ in own],
            ),
            columns.words(
                expected,
                "expected",
                [EXPECTED[one.expected].format(none=unit.none) for unit, one in own],
                [one.expected for one in results],
            ),
            columns.counts("n", "n", [one.n for one in results], [f"{one.n} {one.unit}" for one in results]),
            columns.words("Source", "source", [one.source or "no source" for one in results], prose=True),
            columns.words("Note", "note", [one.note or "–" for one in results], prose=True),
        ),
        left_out=() if any(one.note for one in results) else ("note",),
    )


def unit_of(result: HypothesisResult) -> Unit:
    """Return the unit of a hypothesis's estimate: that of the scores unless its kind has its own."""
    return UNITS.get(result.kind, _POINTS)


def _unit_words(result: HypothesisResult, unit: Unit) -> str:
    if result.kind == "barrier" and not theme.shares():  # of no cross-entropy
        return "of the loss"
    if result.kind == "slope":
        return f"{theme.unit()} per unit of {result.factor.replace('_', ' ')}"
    return unit.words.format(theme.unit()).replace("the other's", f"{result.other}'s")


def reading_of(findings: Findings) -> str:
    """Say how the table is read, with the budgets that its gains are taken under."""
    budgets = dict.fromkeys(r.budget for r in findings.hypotheses if r.kind not in _WITHOUT_BUDGET)
    gains = f" Gains are at {' or '.join(budget_name(findings, b) for b in budgets)}." if budgets else ""
    return (
        "Every claim was written down, with its sign, before the first run. Reproduced: the 95 % interval lies where "
        "the claim says. Contradicted: it lies on the other side, or its 90 % twin lies inside what counts as no "
        "difference though one was claimed. Student-t intervals over the replicates, seeds or cells under n, these "
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


def lines_of(table: Table) -> list[ClaimLine]:
    """Return one line a claim of a table of them."""
    at = {column.csv: place for place, column in enumerate(table.columns)}
    found = []
    for row in table.rows:
        outcome, claim, source, estimate, unit, n = (
            row[at[name]] for name in ("outcome", "claim", "source", "estimate", "unit", "n")
        )
        words = f"{estimate.text} {unit.text}, n = {n.text}"
        found.append(ClaimLine(outcome.icon, outcome.text, claim.text, source.text, words))
    return found


def literature_heading(results: Iterable[HypothesisResult]) -> str:
    """State how many published claims the study agrees with."""
    outcomes: list[str] = [result.outcome for result in results]
    counts = [(outcomes.count(outcome), words) for outcome, words in _AGREES.items()]
    told = [words.format(number) for number, words in counts if number]
    return f"Of {prose.things(len(outcomes), 'published claim')} that it can speak of, this study {prose.listed(told)}"
