"""Assemble the report: findings and the frame in, the text of one self-contained page out."""

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from dashboards import far_out, page, prose, theme, words
from dashboards.cells import LabelledCell, cells_of
from dashboards.charts import charts_of
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, unit_of, unit_words
from dashboards.details import details_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.training import curves
from dashboards.page import figures, styles_of
from dashboards.provenance import spec_toml
from dashboards.score import metric_words, pooled_score, score_in, shown
from dashboards.tables import accuracies, beside_verdicts, claims, losses, matrix, moderators, runs, verdicts
from dashboards.tables.table import Table, fitted, most, rows_of
from study.files import write_atomically
from study.findings import Findings
from study.findings.taken import said
from study.findings.units import FRACTION
from study.records import LineRecord, PlaneRecord, RunRecord
from study.stats.typical import MEAN
from study.store.record_files import read_lines, read_planes

if TYPE_CHECKING:
    from study.store.results import Study

_AND_RUNS = " and runs.parquet, beside this page, hold"


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
    packed = {
        **figures(charts.values()),
        "tables": {
            table.id: rows_of(table) for table in [*tables.values(), *(chart.table for chart in charts.values())]
        },
        "styles": styles_of({*findings.methods, *(chosen.contender for chosen in findings.selections)}),
        "details": details_of(sources, curves.panels_of(sources)),
    }
    score, carried = sources.score, far_out.note(findings)
    return page.render(
        "template.html",
        ("page.js", "report.js", "details.js"),
        ("report.css",),
        title=findings.question,
        study=findings.study,
        marks=prose.marks(findings),
        unfinished=_unfinished(findings),
        claims=claims.claims_sentence(findings),
        decided=prose.has_verdict(findings),
        facts=prose.answer_of(findings, cells, command),
        reaches=_reaches(findings),
        meaning=prose.meaning(findings),
        no_comparison=prose.no_comparison(findings, command),
        glossary=words.glossary_of(score, {task: score_in(findings, task) for task in findings.scores}),
        matrices=matrix.matrices_of(findings, cells, sources.best_at),
        panels=accuracies.panels_of(findings, cells, reached),
        most_panels=accuracies.MOST_PANELS,
        charts=charts,
        tables=tables,
        claim_rows={name: claims.lines_of(tables[name]) for name in ("hypotheses", "literature")},
        headings=_headings(findings),
        readings={
            "hypotheses": claims.reading_of(findings) + carried,
            "literature": claims.LITERATURE_READING + carried,
            "comparisons": verdicts.comparison_reading(findings) + carried,
            "moderators": moderators.slope_reading(findings) + carried,
            "selections": beside_verdicts.selection_reading(score),
            "interactions": beside_verdicts.interaction_reading(findings) + carried,
        },
        carried=carried,
        judged=findings.origin is not None,
        beside=f"findings.json{', beside this page, holds' if findings.origin else _AND_RUNS}",
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


def _reaches(findings: Findings) -> str:
    table, metric = findings.origin, metric_words(findings)
    one = {"replicate": "replicate", "seed": "seed of one tuning", "run": "run"}[unit_of(findings)]
    whose = "method" if table else f"baseline and method at {budget_name(findings, findings.primary_budget)}"
    unit = dict(table.columns)["cost"] if table else "gradient evaluations"
    middles = prose.listed(sorted({score_in(findings, task).way.middle for task in findings.scores} or {MEAN.middle}))
    cost = f" Cost: {unit} of a run over those of the cheapest baseline." if unit else ""
    return (
        f"{metric[0].upper()}{metric[1:]}, of every {whose}: a dot is one {one}, the bar their {middles}; each problem "
        f"has a scale of its own, and arrows count what lies beyond it.{cost}"
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
    findings, cells = sources.findings, sources.cells

    def of_findings(table: Table) -> Table:
        return fitted(table, len(cells), "findings.json")

    with pooled_score(findings).written():
        across = {
            "hypotheses": claims.claims_table(findings),
            "literature": claims.literature_table(findings),
            "moderators": moderators.slope_table(findings),
        }
    selections = beside_verdicts.selection_table(findings, cells)
    comparisons = verdicts.verdict_table(findings, cells)
    return {
        **across,
        "verdicts": fitted(comparisons, len(cells), "findings.json", verdicts.MOST_ROWS),
        "baselines": of_findings(verdicts.baseline_table(findings, cells)),
        "direct": of_findings(verdicts.direct_table(findings, cells)),
        "deltas": of_findings(beside_verdicts.delta_table(findings, cells)),
        "losses": of_findings(losses.loss_table(findings, cells)),
        "interactions": of_findings(beside_verdicts.interaction_table(findings, cells)),
        "selections": fitted(selections, len(cells), "findings.json", beside_verdicts.MOST_SELECTIONS),
        "runs": runs.run_table(findings, sources.frame, cells, most(runs.MOST_ROWS, len(cells))),
    }


def _headings(findings: Findings) -> dict[str, str]:
    known = [(i.mean, i.ci95) for i in findings.interactions if i.n]
    flagged = sum(bool(selection.at_edge) for selection in findings.selections)
    return {
        "hypotheses": claims.claims_sentence(findings),
        "baselines": verdicts.baseline_heading(findings),
        "direct": verdicts.direct_heading(findings),
        "deltas": beside_verdicts.deltas_heading(findings),
        "losses": losses.loss_heading(findings),
        "moderators": moderators.slope_heading(findings),
        "literature": claims.literature_heading(findings.literature),
        "interactions": beside_verdicts.interaction_heading(known),
        "selections": beside_verdicts.selections_heading(flagged, len(findings.selections)),
    }


def _rules(findings: Findings) -> list[str]:
    with pooled_score(findings).written():
        return moderators.rule_sentences(findings)


def _caveats(findings: Findings, cells: Mapping[str, LabelledCell]) -> list[tuple[str, list[str]]]:
    """Return the caveats' sentences by kind, with every cell under the name that the report gives it."""
    found: dict[str, list[str]] = {}
    for caveat in findings.caveats:
        named = caveat.cell in cells
        detail = caveat.detail.replace(caveat.cell, cells[caveat.cell].label) if named else caveat.detail
        found.setdefault(caveat.kind, []).append(detail)
    if carried := far_out.sentences(findings, cells):
        found["far out"] = carried
    return list(found.items())


def _provenance(findings: Findings, built: datetime | None) -> list[tuple[str, str]]:
    """Return what made a study, or where results that were made elsewhere stood and what they were taken for."""
    if table := findings.origin:
        rows = [
            ("Table", f"{table.name}, read as {table.format}"),
            *([("SHA-256", table.sha256)] if table.sha256 else []),
            ("Rows", f"{table.rows:,}, {table.judged:,} judged"),
            *((role.capitalize(), content) for role, content in said(findings, table)),
        ]
    else:
        rows = [
            ("Study", findings.study),
            ("Protocol", f"{findings.protocol}"),
            ("Spec hash (SHA-256)", findings.spec_hash),
            ("Runs", ", ".join(f"{number:,} {name}" for name, number in asdict(findings.counts).items())),
            ("Devices", ", ".join(findings.devices) or "–"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(findings.versions.items())) or "–"),
        ]
    return [*rows, ("Report built", f"{built:%Y-%m-%d %H:%M} UTC")] if built else rows


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
