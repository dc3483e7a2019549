"""Assemble the report: findings and the frame in, the text of one self-contained page out."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from dashboards import page, prose, theme, words
from dashboards.cells import Cell, cells_of
from dashboards.charts import charts_of
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, unit_of, unit_words
from dashboards.details import details_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.training import curves
from dashboards.page import figures, styles_of
from dashboards.provenance import spec_toml
from dashboards.score import metric_words, pooled_score, score_in, score_of, shown
from dashboards.tables import accuracies, claims, evidence, losses, moderators, runs, verdicts
from dashboards.tables.accuracies import Reached
from dashboards.tables.table import Table, fitted, most, rows_of, with_unit, without
from study.files import write_atomically
from study.findings import Findings
from study.findings.content import ResultsTable
from study.findings.taken import said
from study.findings.units import FRACTION
from study.garbage import without_collector
from study.records import LineRecord, PlaneRecord, RunRecord
from study.store.record_files import read_lines, read_planes

if TYPE_CHECKING:
    from study.store.results import Study

SECTIONS: tuple[tuple[str, str], ...] = (
    ("answer", "Answer"),
    ("accuracies", "What each reaches"),
    ("verdicts", "Verdicts"),
    ("when", "When"),
    ("why", "Why"),
    ("appendix", "Appendix"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """What the template fills in, apart from the tables and charts by id."""

    title: str
    study: str
    claims: str
    facts: Sequence[tuple[str, str]]
    decided: bool
    unfinished: str
    marks: Sequence[tuple[str, str]]
    units: str
    reaches: str
    meaning: str
    no_comparison: str


@without_collector()
def build_report(
    findings: Findings,
    frame: pd.DataFrame,
    *,
    records: Iterable[RunRecord] = (),
    lines: Iterable[LineRecord] = (),
    planes: Iterable[PlaneRecord] = (),
    built: datetime | None = None,
    reload_s: int = 0,
    command: str = "",
) -> str:
    """Return the report's HTML. Equal arguments give equal bytes. An unfinished study has no verdict before its time.

    Args:
        findings: What the study found.
        frame: The tidy frame of `study.store.frame.frame_of`.
        records: The runs; their probes are described.
        lines: Losses along lines between methods' weights.
        planes: Losses over planes through three methods' weights.
        built: Printed as the date of the report; None prints no date.
        reload_s: Seconds after which an undisturbed page loads itself anew; 0 for one that is not written again.
        command: What goes on with the study, if it is not done.
    """
    findings = without_early_verdicts(findings)
    with shown(findings):
        cells = cells_of(findings, frame)
        sources = Sources(findings, frame, cells, tuple(records), tuple(lines), tuple(planes))
        return _built(sources, built, reload_s, command)


def _built(sources: Sources, built: datetime | None, reload_s: int, command: str) -> str:
    findings, cells = sources.findings, sources.cells
    charts, tables = charts_of(sources), _tables(sources)
    reached = accuracies.reached_of(findings, cells, sources.confirmed, sources.best_at)
    tables["accuracies"] = accuracies.accuracy_table(findings, cells, reached)
    panels = curves.panels_of(sources)
    packed = {
        **figures(charts.values()),
        "tables": {
            table.id: rows_of(table) for table in [*tables.values(), *(chart.table for chart in charts.values())]
        },
        "styles": styles_of({*findings.methods, *(chosen.contender for chosen in findings.selections)}),
        "details": details_of(findings, cells, sources.confirmed, sources.best_at, panels),
    }
    score = score_of(findings)
    glossary = words.glossary_of(score, {task: score_in(findings, task) for task in findings.score_names})
    return page.render(
        "template.html",
        ("page.js", "report.js", "details.js"),
        ("report.css",),
        glossary=glossary,
        page=_page(findings, cells, command),
        sections=[(name, title) for name, title in SECTIONS if name not in _absent(findings, reached)],
        matrices=verdicts.matrices_of(findings, cells, sources.best_at),
        panels=accuracies.panels_of(findings, cells, reached),
        most_panels=accuracies.MOST_PANELS,
        charts=charts,
        tables=tables,
        claim_rows=_claim_rows(findings),
        headings=_headings(findings) | {"literature": claims.literature_heading(findings.literature)},
        readings={
            "hypotheses": claims.reading_of(findings),
            "literature": claims.LITERATURE_READING,
            "comparisons": verdicts.comparison_reading(findings),
            "moderators": moderators.slope_reading(findings),
            "selections": evidence.selection_reading(score),
            "interactions": evidence.interaction_reading(findings),
        },
        judged=findings.origin is not None,
        again=_judged_again(findings),
        rules=_rules(findings),
        caveats=_caveats(findings, cells),
        methods=[(name, words.method_in_words(name)) for name in findings.methods],
        verdict_words=[(name, f"{rule}.") for name, rule in findings.verdict_rules.items()],
        provenance=_provenance(findings, built),
        spec_text=spec_toml(findings.spec),
        reload_s=reload_s,
        unit=theme.unit(),
        figures=Markup(page.packed(page.json_text(packed))),  # base64
        plotly=Markup(page.packed_plotly() if charts else ""),  # base64
    )


def _absent(findings: Findings, reached: Sequence[Reached]) -> set[str]:
    """Return the sections that this page has nothing for; the runs of a table are not looked into."""
    return {name for name, missing in (("accuracies", not reached), ("why", findings.origin is not None)) if missing}


def write_report(study: "Study", path: Path | None = None, *, reload_s: int = 0) -> Path:
    """Build a study's report, write it atomically and return its path; by default ``report.html`` in its folder.

    The report has a date only where SOURCE_DATE_EPOCH gives one, so that rebuilds are identical. ``reload_s`` as in
    `build_report`.
    """
    chosen = path or study.folder / "report.html"
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    built = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else None
    text = build_report(
        study.findings,
        study.frame,
        records=study.records,
        lines=read_lines(study.folder),
        planes=read_planes(study.folder),
        built=built,
        reload_s=reload_s,
        command=f"python -m study.run --resume {shlex.quote(study.folder.name)}",
    )
    write_atomically(chosen, text, make_folder=path is not None)
    return chosen


def _page(findings: Findings, cells: Mapping[str, Cell], command: str) -> Page:
    answer = prose.answer_of(findings, cells, command)
    return Page(
        title=findings.question,
        study=findings.study,
        claims=claims.claims_sentence(findings),
        facts=answer.facts,
        decided=prose.has_verdict(findings),
        unfinished=_unfinished(findings),
        marks=prose.marks(findings),
        units=unit_words(findings),
        reaches=_reaches(findings),
        meaning=prose.meaning(findings),
        no_comparison=prose.no_comparison(findings, command),
    )


def _reaches(findings: Findings) -> str:
    one = {"replicate": "replicate", "seed": "seed of one tuning", "run": "run"}[unit_of(findings)]
    if findings.origin:
        unit = dict(findings.origin.columns)["cost"]
        cost = f" Cost: {unit} of a run over those of the cheapest baseline." if unit else ""
        return (
            f"{metric_words(findings).capitalize()} of every method: a dot is one run, the bar their mean; each "
            f"problem has a scale of its own, and arrows count what lies beyond it.{cost}"
        )
    return (
        f"{metric_words(findings)[0].upper()}{metric_words(findings)[1:]}, of every baseline and method at "
        f"{budget_name(findings, findings.primary_budget)}: a dot is one {one}, the bar their mean; each problem has a "
        "scale of its own, and arrows count what lies beyond it. Cost: gradient evaluations of a run over those of the "
        "cheapest baseline."
    )


def _unfinished(findings: Findings) -> str:
    """Say how far an unfinished study is, and what that means for its verdicts; "" for a finished one."""
    counts = findings.counts
    if counts.finished:
        return ""
    complete = min((effect.n for effect in findings.effects), default=0)
    planned = max((effect.planned for effect in findings.effects), default=0)
    units = f" {complete} of {planned} {unit_words(findings)} are complete in every comparison." if planned else ""
    return (
        f"So far {counts.ended:,} of {counts.planned:,} planned runs are done.{units} There are estimates and no "
        "verdict until the last one is: their number was fixed before the first run, and whoever judges data as they "
        "grow, and stops when they please, finds something where there is nothing."
    )


def _tables(sources: Sources) -> dict[str, Table]:
    findings, cells, score = sources.findings, sources.cells, sources.score

    def of_findings(table: Table) -> Table:
        return fitted(table, len(cells), "findings.json")

    with pooled_score(findings).written():
        across = {
            "hypotheses": claims.claims_table(findings),
            "literature": claims.literature_table(findings),
            "moderators": with_unit(moderators.slope_table(findings), pooled_score(findings).csv_unit),
        }
    selections = evidence.selection_table(findings.selections, cells, score)
    comparisons = verdicts.verdict_table(findings, cells)
    unknown = verdicts.OF_A_STUDY if findings.origin else ()
    return {
        **across,
        "verdicts": fitted(without(comparisons, *unknown), len(cells), "findings.json", verdicts.MOST_ROWS),
        "baselines": of_findings(without(verdicts.baseline_table(findings, cells), *unknown)),
        "direct": of_findings(verdicts.direct_table(findings, cells)),
        "deltas": of_findings(evidence.delta_table(findings, cells)),
        "losses": of_findings(losses.loss_table(findings, cells)),
        "interactions": with_unit(of_findings(evidence.interaction_table(findings, cells, score)), score.csv_unit),
        "selections": fitted(
            with_unit(selections, score.csv_unit), len(cells), "findings.json", evidence.MOST_SELECTIONS
        ),
        "runs": runs.run_table(sources.frame, cells, score, most(runs.MOST_ROWS, len(cells))),
    }


def _claim_rows(findings: Findings) -> dict[str, list[claims.ClaimLine]]:
    with pooled_score(findings).written():
        return {
            "hypotheses": claims.lines_of(findings.hypotheses, decided=findings.counts.finished),
            "literature": claims.lines_of(findings.literature, decided=True, agreement=True),
        }


def _headings(findings: Findings) -> dict[str, str]:
    known = [(i.mean, i.ci95) for i in findings.interactions if i.n]
    flagged = sum(bool(selection.at_edge) for selection in findings.selections)
    return {
        "hypotheses": claims.claims_sentence(findings),
        "baselines": verdicts.baseline_heading(findings),
        "direct": verdicts.direct_heading(findings),
        "deltas": evidence.deltas_heading(*evidence.delta_counts(findings)),
        "losses": losses.loss_heading(findings),
        "moderators": moderators.slope_heading(findings),
        "interactions": evidence.interaction_heading(known),
        "selections": evidence.selections_heading(flagged, len(findings.selections)),
    }


def _rules(findings: Findings) -> list[str]:
    with pooled_score(findings).written():
        return moderators.rule_sentences(findings)


def _caveats(findings: Findings, cells: Mapping[str, Cell]) -> list[tuple[str, list[str]]]:
    """Return the caveats' sentences by kind, with every cell under the name that the report gives it."""
    found: dict[str, list[str]] = {}
    for caveat in findings.caveats:
        named = caveat.cell in cells
        detail = caveat.detail.replace(caveat.cell, cells[caveat.cell].label) if named else caveat.detail
        found.setdefault(caveat.kind, []).append(detail)
    return list(found.items())


def _provenance(findings: Findings, built: datetime | None) -> list[tuple[str, str]]:
    counts = asdict(findings.counts)
    if findings.origin:
        return _origin(findings.origin, said(findings, findings.origin), built)
    rows = [
        ("Study", findings.study),
        ("Protocol", f"{findings.protocol}"),
        ("Spec hash (SHA-256)", findings.spec_hash),
        ("Runs", ", ".join(f"{number:,} {name}" for name, number in counts.items())),
        ("Devices", ", ".join(findings.devices) or "–"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(findings.versions.items())) or "–"),
    ]
    return rows + _when(built)


def _origin(table: ResultsTable, taken: Sequence[tuple[str, str]], built: datetime | None) -> list[tuple[str, str]]:
    """Return where results that were made elsewhere stood, and what their columns were taken for."""
    hashed = [("SHA-256", table.sha256)] if table.sha256 else []
    return [
        ("Table", f"{table.name}, read as {table.format}"),
        *hashed,
        ("Rows", f"{table.rows:,}, {table.judged:,} judged"),
        *((role.capitalize(), content) for role, content in taken),
        *_when(built),
    ]


def _judged_again(findings: Findings) -> str:
    """Return the command that judges a file again; "" for a study, which has a specification, and for a DataFrame."""
    table = findings.origin
    if table is None or table.format == "DataFrame":
        return ""
    given = [(f"--{role}", column) for role, column in table.columns if column]
    given += [("--baseline", name) for name in table.baselines]
    given += [("--delta", f"{problem}={delta * table.scale(problem):g}") for problem, delta in findings.deltas.items()]
    directions = {score.higher_is_better for score in findings.scores.values()}
    which = [] if len(directions) > 1 else ["--higher-is-better" if directions == {True} else "--lower-is-better"]
    units = {score.unit for score in findings.scores.values()} - {FRACTION, ""}
    given += [("--unit", "%")] if table.percent else [("--unit", unit) for unit in units]
    words = [table.name, *(word for pair in given for word in pair), *which, "--alpha", f"{findings.alpha:g}"]
    apart = any(effect.apart for effect in findings.effects)
    return shlex.join(["python", "-m", "study.judge", *words, *(["--unpaired"] if apart else [])])


def _when(built: datetime | None) -> list[tuple[str, str]]:
    return [("Report built", f"{built:%Y-%m-%d %H:%M} UTC")] if built else []
