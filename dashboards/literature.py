"""What the literature predicted, and what this study says, for studies that named no claims of their own.

The published claims are those of the built-in suite, evaluated by the same rules on whatever the study holds. Nothing
was predicted for this study before its first run, so that agreement is a description and no test.
"""

from collections.abc import Iterable
from dataclasses import replace

from pydantic import ValidationError

from dashboards import claims, prose, theme
from dashboards.tables import Entry, Table
from study.findings import Findings, HypothesisResult
from study.findings.evidence import gather
from study.findings.hypotheses import evaluate
from study.records import LineRecord, RunRecord
from study.spec import Hypothesis, StudySpec, builtin_specs, parse_spec

AGREEMENT = {"reproduced": "agrees", "contradicted": "disagrees", "inconclusive": "undecided"}


def published() -> tuple[Hypothesis, ...]:
    """Return the claims of the built-in suite, in its order."""
    texts = {name: text for name, text in builtin_specs().items() if name.startswith("claims/")}
    return tuple(claim for name, text in texts.items() for claim in parse_spec(text, name).hypotheses)


def literature_of(
    findings: Findings, records: Iterable[RunRecord], lines: Iterable[LineRecord]
) -> tuple[HypothesisResult, ...]:
    """Return the published claims that a finished study can speak of; none where it named claims itself."""
    records = tuple(records)
    if findings.hypotheses or not findings.counts.finished or not records:
        return ()
    try:
        spec = StudySpec.model_validate(findings.spec)
    except ValidationError:  # the spec of another version: its findings are shown, nothing is computed anew
        return ()
    varied = {name for effect in findings.effects for name, _ in effect.factors}
    concerned = tuple(claim for claim in published() if _concerns(claim, spec, varied))
    evidence = gather(spec.model_copy(update={"hypotheses": concerned}), records)
    found = evaluate(evidence, findings.effects, findings.averaging, tuple(lines))
    return tuple(result for result in found if theme.known(result.estimate))


def _concerns(claim: Hypothesis, spec: StudySpec, varied: set[str]) -> bool:
    budgets = {"E", "G"} if claim.kind == "budget" else {claim.budget}
    methods = {claim.method, claim.other} - {"", "baseline"}
    methods |= {"SWA", "SAM"} if claim.kind in ("worse", "better") else set()
    return (
        methods <= {*spec.methods}
        and budgets <= {*spec.budgets}
        and (not claim.factor or claim.factor in varied)
        and (claim.kind not in ("sharpness", "barrier", "minimizers") or spec.probes)
    )


def literature_table(results: Iterable[HypothesisResult], findings: Findings) -> Table:
    """Return one row a claim: what was published, its direction, and what this study says."""
    table = claims.claims_table(replace(findings, hypotheses=tuple(results)))
    place = next(i for i, column in enumerate(table.columns) if column.csv == "outcome")
    return replace(
        table,
        id="literature",
        caption="What was published elsewhere, and whether this study agrees.",
        columns=tuple(replace(column, title=_TITLES.get(column.csv, column.title)) for column in table.columns),
        rows=tuple((*row[:place], _agreement(row[place]), *row[place + 1 :]) for row in table.rows),
    )


_VERBS = {"reproduced": "agrees with {}", "contradicted": "disagrees with {}", "inconclusive": "leaves {} undecided"}
_TITLES = {"claim": "Published", "outcome": "This study", "expected": "Published direction"}


def _agreement(outcome: Entry) -> Entry:
    return replace(outcome, text=AGREEMENT.get(outcome.text, outcome.text))


def literature_heading(results: Iterable[HypothesisResult]) -> str:
    """State how many published claims the study agrees with."""
    outcomes: list[str] = [result.outcome for result in results]
    counts = [(outcomes.count(outcome), words) for outcome, words in _VERBS.items()]
    told = [words.format(number) for number, words in counts if number]
    return f"Of {prose.things(len(outcomes), 'published claim')} that it can speak of, this study {prose.listed(told)}"


READING = (
    "A row holds what others published and the same quantity measured here. Agrees: the 95 % interval lies on the "
    "published side. Disagrees: it lies on the other, or its 90 % twin lies inside the shaded zone though a difference "
    "was published. Gains are at equal epochs; Student-t intervals over the seeds or cells under n. Tasks and sizes "
    "differ from the published ones, and nothing was predicted for this study: a description, not a test."
)
