"""Assemble the report: findings and the frame in, the text of one self-contained page out."""

import os
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
from dashboards.contenders import budget_name, unit_words
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.provenance import spec_toml
from dashboards.score import metric_words, score_of
from dashboards.tables import claims, evidence, losses, moderators, runs, verdicts
from dashboards.tables.table import Table, fitted, most
from study.files import write_atomically
from study.findings import Findings, MethodSummary
from study.garbage import without_collector
from study.records import LineRecord, PlaneRecord, RunRecord
from study.store.record_files import read_lines, read_planes

if TYPE_CHECKING:
    from study.store.results import Study

SECTIONS: tuple[tuple[str, str], ...] = (
    ("claims", "Claims"),
    ("verdicts", "Verdicts"),
    ("caveats", "What would change this conclusion"),
    ("when", "When it helps"),
    ("why", "Why (descriptive)"),
    ("training", "How training went"),
    ("calibration", "Calibration (descriptive)"),
    ("tuning", "Tuning"),
    ("cost", "Cost"),
    ("runs", "All runs"),
    ("methods", "Methods in plain words"),
    ("glossary", "Glossary"),
    ("provenance", "Provenance"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """What the template fills in, apart from the tables and charts by id."""

    title: str
    study: str
    claims: str
    answer: str
    decided: bool
    unfinished: str
    marks: Sequence[tuple[str, str]]
    budget: str
    units: str
    qualification: Sequence[str]
    facts: Sequence[tuple[str, str]]
    tiles: Mapping[str, tuple[str, str, str, str]]


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
    """
    findings = without_early_verdicts(findings)
    with score_of(findings).written():
        return _built(findings, frame, tuple(records), tuple(lines), tuple(planes), built, reload_s)


def _built(
    findings: Findings,
    frame: pd.DataFrame,
    records: tuple[RunRecord, ...],
    lines: tuple[LineRecord, ...],
    planes: tuple[PlaneRecord, ...],
    built: datetime | None,
    reload_s: int,
) -> str:
    cells = cells_of(findings, frame)
    charts = charts_of(Sources(findings, frame, cells, records, lines, planes))
    return page.render(
        "template.html",
        ("page.js", "report.js"),
        ("report.css",),
        page=_page(findings, cells, frame),
        sections=_sections(findings, charts),
        matrix=verdicts.matrix_of(findings, cells),
        charts=charts,
        tables=_tables(findings, frame, cells) | {"literature": claims.literature_table(findings)},
        headings=_headings(findings) | {"literature": claims.literature_heading(findings.literature)},
        readings={
            "hypotheses": claims.reading_of(findings),
            "literature": claims.LITERATURE_READING,
            "moderators": moderators.slope_reading(findings),
            "selections": evidence.selection_reading(score_of(findings)),
            "interactions": evidence.interaction_reading(findings),
        },
        rules=moderators.rule_sentences(findings),
        caveats=_caveats(findings, cells),
        methods=[(name, words.method_in_words(name)) for name in findings.methods],
        verdict_words=[(name, f"{rule}.") for name, rule in findings.verdict_rules.items()],
        glossary=words.glossary_of(score_of(findings), findings.score_names),
        provenance=_provenance(findings, built),
        spec_text=spec_toml(findings.spec),
        reload_s=reload_s,
        unit=theme.unit(),
        figures=Markup(page.packed(page.figures_json(charts.values()))),  # base64
        plotly=Markup(page.packed_plotly() if charts else ""),  # base64
    )


def _sections(findings: Findings, charts: Mapping[str, Chart]) -> list[tuple[str, str]]:
    """Return the sections of the page; those that only some studies have are left out of the others."""
    absent = {"claims"} if not findings.hypotheses else set()
    if not charts.keys() & {"sharpness", "relation", "lines", "plane"}:
        absent.add("why")
    if not charts.keys() & {"reliability", "calibration-error"}:
        absent.add("calibration")
    return [(name, title) for name, title in SECTIONS if name not in absent]


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
    )
    write_atomically(chosen, text, make_folder=path is not None)
    return chosen


def _page(findings: Findings, cells: Mapping[str, Cell], frame: pd.DataFrame) -> Page:
    return Page(
        title=findings.question,
        study=findings.study,
        claims=claims.claims_sentence(findings),
        answer=prose.answer(findings, cells),
        decided=prose.has_verdict(findings),
        unfinished=_unfinished(findings),
        marks=prose.marks(findings),
        budget=budget_name(findings, findings.primary_budget),
        units=unit_words(findings),
        qualification=prose.qualification(findings),
        facts=[
            ("problems", f"{len(cells)}"),
            ("methods", f"{len(findings.methods)}"),
            ("runs", f"{frame['run_id'].nunique():,}"),
            ("metric", metric_words(findings)),
            (unit_words(findings), f"{max((effect.planned for effect in findings.effects), default=0)}"),
            ("primary budget", budget_name(findings, findings.primary_budget)),
            ("δ", prose.deltas(findings).removeprefix("δ").removeprefix(" = ").strip(" ()")),
            ("α", f"{findings.alpha:g}"),
            ("spec hash", findings.spec_hash[:10]),
        ],
        tiles={summary.method: _tile(findings, summary) for summary in findings.summaries},
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


def _tile(findings: Findings, summary: MethodSummary) -> tuple[str, str, str, str]:
    """Return a method's verdicts in short, the rest of them, its mean gain and its cost."""
    helps, rest = prose.tally(summary) if findings.counts.finished else ("not yet", "")
    return helps, rest, theme.gain(summary.mean_gain), theme.ratio(summary.cost_ratio)


def _tables(findings: Findings, frame: pd.DataFrame, cells: Mapping[str, Cell]) -> dict[str, Table]:
    score = score_of(findings)

    def of_findings(table: Table) -> Table:
        return fitted(table, len(cells), "findings.json")

    selections = evidence.selection_table(findings.selections, cells, score)
    return {
        "hypotheses": claims.claims_table(findings),
        "verdicts": fitted(verdicts.verdict_table(findings, cells), len(cells), "findings.json", verdicts.MOST_ROWS),
        "baselines": of_findings(verdicts.baseline_table(findings, cells)),
        "direct": of_findings(verdicts.direct_table(findings, cells)),
        "factor-interactions": of_findings(evidence.factor_interaction_table(findings, cells)),
        "deltas": of_findings(evidence.delta_table(findings, cells)),
        "losses": of_findings(losses.loss_table(findings, cells)),
        "moderators": moderators.slope_table(findings),
        "interactions": of_findings(evidence.interaction_table(findings, cells, score)),
        "selections": fitted(selections, len(cells), "findings.json", evidence.MOST_SELECTIONS),
        "runs": runs.run_table(frame, cells, score, most(runs.MOST_ROWS, len(cells))),
    }


def _headings(findings: Findings) -> dict[str, str]:
    known = [(i.mean, i.ci95) for i in findings.interactions if i.n]
    flagged = sum(bool(selection.at_edge) for selection in findings.selections)
    return {
        "hypotheses": claims.claims_sentence(findings),
        "baselines": verdicts.baseline_heading(findings),
        "direct": verdicts.direct_heading(findings),
        "factor-interactions": evidence.factor_interaction_heading(findings),
        "deltas": evidence.deltas_heading(*evidence.delta_counts(findings)),
        "losses": losses.loss_heading(findings),
        "moderators": moderators.slope_heading(findings),
        "interactions": evidence.interaction_heading(known),
        "selections": evidence.selections_heading(flagged, len(findings.selections)),
    }


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
    rows = [
        ("Study", findings.study),
        ("Protocol", f"{findings.protocol}"),
        ("Spec hash (SHA-256)", findings.spec_hash),
        ("Runs", ", ".join(f"{number:,} {name}" for name, number in counts.items())),
        ("Devices", ", ".join(findings.devices) or "–"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(findings.versions.items())) or "–"),
    ]
    return rows + ([("Report built", f"{built:%Y-%m-%d %H:%M} UTC")] if built else [])
