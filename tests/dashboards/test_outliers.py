"""A study in which one run ends far out: no axis, no title and no sentence follows it without saying so.

Scores without a bound (`study.stats.typical`): an R² of −1,000,000, and a user's metric of 1,000,000 either way.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
from markup import Page
from synthetic import synthetic_lines, synthetic_plane, synthetic_study

from dashboards import far_out, prose
from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.closing import closing
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.panels import inliers, reach
from dashboards.figures.why import relation
from dashboards.figures.why.relation import Point, Relation
from dashboards.report import build_report
from dashboards.score import Score
from dashboards.theme import writing
from study.findings import find
from study.records import Configuration, Measurement, RunRecord, configuration_of
from study.stats.typical import MEAN, MEDIAN
from study.store.frame import frame_of

FAR = 1_000_000.0
LARGE = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d(?:\.\d+)?e\+\d+|\d{5,}(?:\.\d+)?")
SAYS_SO = re.compile(r"far out|far off|beyond")
# The built-in task that is measured by R², and its records as those of a metric of one's own; the latter ends as much
# too good.
METRICS = {
    "R²": ({}, -FAR),
    "a cost": ({"metric": "cost", "unit": "k$", "higher_is_better": False}, FAR),
}


def ended_at(measurement: Measurement, value: float) -> Measurement:
    """Return a measurement with every score and loss of its split at a value."""
    scores = {f"{split}_score": value for split in ("train", "val", "test")}
    losses = {f"{split}_loss": FAR for split in ("train", "val", "test")}
    known = {name: v for name, v in (scores | losses).items() if getattr(measurement, name) is not None}
    return replace(measurement, **known)


def spoiled(records: list[RunRecord], picks: set[Configuration], one: Configuration, value: float) -> list[RunRecord]:
    """Return records of which a tune run that was not picked and a confirm run of one pick end far out.

    Averaging saves the confirm run: its gain within the run is as far out as the run.
    """
    found, left = [], {"tune", "confirm"}
    for record in records:
        job, stands = record.job, configuration_of(record.job)
        if job.stage in left and job.rho > 0 and (stands == one if job.stage == "confirm" else stands not in picks):
            left.remove(job.stage)
            ends = [
                ended_at(m, value)
                if m.epoch > job.epochs / 2 and (job.stage == "tune" or m.weights in ("last", "best"))
                else m
                for m in record.measurements
            ]
            record = record.model_copy(update={"measurements": tuple(ends)})
        found.append(record)
    assert not left
    return found


@dataclass(frozen=True)
class Study:
    """A study, whole or spoiled."""

    sources: Sources
    charts: dict[str, Chart]

    @cached_property
    def page(self) -> Page:
        s = self.sources
        return Page(build_report(s.findings, s.frame, records=s.records, lines=s.lines, planes=s.planes))


def study_of(metric: str, spoil: bool) -> Study:
    told, value = METRICS[metric]
    spec, records = synthetic_study(
        tasks=["diabetes"], factors={"schedule": ["cosine", "constant"]}, replicates=6, trials=20, budgets=["E"],
        primary_budget="E",
    )  # fmt: skip
    records = [record.model_copy(update=told) for record in records]
    if spoil:
        picked = [one for one in find(spec, records).selections if one.rho > 0]
        sam, wasam = ({configuration_of(c) for c in picked if c.method == method} for method in ("SAM", "WASAM"))
        records = spoiled(records, sam | wasam, min(sam & wasam, key=str), value)  # a run that both stand by
    lines = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    if spoil:
        losses = (*lines[1].train_losses[:5], FAR, *lines[1].train_losses[6:])
        lines[1] = lines[1].model_copy(update={"train_losses": losses})
    findings, frame = find(spec, records, len(records), lines), frame_of(records)
    cells = cells_of(findings, frame)
    plane = synthetic_plane(next(iter(cells)))
    sources = Sources(findings, frame, cells, tuple(records), tuple(lines), (plane,))
    return Study(sources, charts_of(sources))


@pytest.fixture(scope="module", params=METRICS)
def pair(request: pytest.FixtureRequest) -> tuple[Study, Study]:
    """The study without its far runs, and with them."""
    return study_of(request.param, spoil=False), study_of(request.param, spoil=True)


def large_numbers(text: str) -> list[str]:
    return [found for found in LARGE.findall(text) if float(found.replace(",", "")) > 3000]


def sentences(text: str) -> Iterator[str]:
    return (sentence for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text))


def spans(chart: Chart) -> list[float]:
    """Return how long every axis of a chart is that has two ends."""
    axes = [axis for name, axis in chart.figure.layout.items() if re.fullmatch(r"[xy]axis\d*", name)]
    return [axis["range"][1] - axis["range"][0] for axis in axes if "range" in axis and axis.get("type") != "log"]


def test_no_axis_follows_a_run_that_is_far_out(pair: tuple[Study, Study]) -> None:
    calm, wild = pair
    assert {*calm.charts} == {*wild.charts} >= {
        *("two-by-two", "forest", "curves", "averaging", "relation", "rho", "parallel", "best-of-trials", "lines"),
        *("sharpness", "plane", "calibration-error", "importance"),
    } - {"two-by-two"}  # fmt: skip
    for name, chart in wild.charts.items():
        assert max(spans(chart), default=0) <= 10 * max(spans(calm.charts[name]), default=0), name


def test_no_title_and_no_sentence_follows_it_without_saying_so(pair: tuple[Study, Study]) -> None:
    _, wild = pair
    for name, chart in wild.charts.items():
        for text in (chart.heading, *sentences(chart.reading), *sentences(chart.caption)):
            assert not large_numbers(text) or SAYS_SO.search(text), (name, text)
    for part in (wild.sources.findings.effects, wild.sources.findings.averaging):
        assert any(far_out.far_out(wild.sources.findings, effect) for effect in part)


def test_the_page_and_the_terminal_say_which_means_it_carries(pair: tuple[Study, Study]) -> None:
    calm, wild = pair
    text, caveats = wild.page.words, far_out.sentences(wild.sources.findings, wild.sources.cells)
    assert caveats
    assert all(
        re.search(r"1 of the [56] replicates is far out; .* in the mean, .* in the median", one) for one in caveats
    )
    assert all(one in text for one in caveats)
    assert text.count("Far out: ") == 5  # literature, comparisons, baselines, methods against each other, interactions
    assert "far out" in prose.answer_of(wild.sources.findings, wild.sources.cells)["How surely"]
    assert "far out" in " ".join(closing(wild.sources.findings, wild.sources.frame).split())
    assert max(map(len, closing(wild.sources.findings, wild.sources.frame).splitlines())) <= 80
    assert "far out;" not in calm.page.words
    assert "Far out" not in calm.page.words


def test_scores_of_runs_are_described_as_if_it_were_not_there(pair: tuple[Study, Study]) -> None:
    calm, wild = pair

    def columns(study: Study, chart: str, names: Callable[[str], bool]) -> list[list[object]]:
        table = study.charts[chart].table
        kept = [i for i, column in enumerate(table.columns) if names(column.csv)]
        return [[row[i].value for i in kept] for row in table.rows]

    for chart, wanted in {
        "curves": "val_score", "averaging": "last averaged", "lines": "train_loss test_loss barrier",
    }.items():  # fmt: skip
        before, after = (columns(study, chart, lambda name, of=wanted: name in of.split()) for study in pair)
        assert len(before) == len(after)
        numbers = [value for row in after for value in row if isinstance(value, float)]
        assert max(map(abs, numbers)) < 10, chart
    rows = wild.page.packed["tables"]["accuracies"]["rows"]
    assert not large_numbers(json.dumps([row[2][0] for row in rows], ensure_ascii=False))
    heads = [column[0] for column in calm.page.packed["tables"]["accuracies"]["columns"]]
    assert "Median [quartiles]" in heads


def test_a_mean_and_a_median_say_what_they_are() -> None:
    values = [0.41, 0.42, 0.44, 0.45, -FAR]
    assert MEDIAN.of(values).middle == 0.42
    assert MEDIAN.of(values).ends == (0.41, 0.44)
    assert MEAN.of(values).middle == pytest.approx(sum(values) / 5)
    assert MEDIAN.of([0.4]).middle == 0.4
    assert MEDIAN.of([]).n == 0
    assert Score("accuracy", share=True).way is MEAN
    assert Score("R²", share=False).way is MEDIAN


@pytest.mark.parametrize("far", [-FAR, FAR])
def test_a_panel_of_scores_without_a_bound_shows_no_far_one(far: float) -> None:
    scores = [0.40, 0.41, 0.42, 0.44, 0.45, far]
    with writing("R²", share=False):
        low, high = reach(scores)
        assert 0.2 < low < high <= 0.45
        assert reach(scores[:-1])[1] == 0.45
    with writing("points", share=True):
        assert reach([0.4, 0.5, 0.1]) == (0.1, 0.5)
    assert inliers(scores, times=8.0) == (0.40, 0.45)


def test_a_problem_with_gains_of_another_size_is_an_arrow_beside_the_others() -> None:
    points = tuple(Point(f"p{i}", "SAM", 1 + i / 10, gain, 1.0, (3, 3)) for i, gain in enumerate([0.01] * 5 + [-FAR]))
    with writing("R²", share=False):
        figure = relation.figure_of((Relation("SAM", points, None),), Score("R²", share=False))
    (trace,) = figure.data
    low, high = figure.layout["yaxis"]["range"]
    assert high - low < 0.1
    assert all(low <= y <= high for y in trace["y"])
    assert trace["marker"]["symbol"] == ["triangle-up"] * 5 + ["triangle-down"]


def test_a_line_in_the_terminal_and_a_loss_are_short_however_large(pair: tuple[Study, Study]) -> None:
    table = pair[1].page.packed["tables"]["losses"]
    texts = [entry if isinstance(entry, str) else str(entry[0]) for row in table["rows"] for entry in row]
    assert [text for text in texts if re.search(r"\d{4,}\.", text)] == []
    assert "Far out" in [column[0] for column in table["columns"]]


@pytest.mark.parametrize(
    ("gains", "count"),
    [
        ([0.01, 0.02, 0.0, 0.015, 0.005, -FAR], 1),
        ([0.01, 0.02, 0.0, 0.015, -FAR, FAR], 2),  # a third of them
        ([0.01, 0.02, 0.0, 0.015, 0.005, -0.03], 0),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.004], 0),  # switched off but once, and within δ
        ([0.3, -0.2, 0.5, -0.6, 0.1, 0.9], 0),  # wide, but none is alone
    ],
)
def test_what_is_far_out_is_counted(study, gains: list[float], count: int) -> None:
    effect = replace(study.findings.effects[0], differences=tuple(gains), n=6)
    assert far_out.far_out(study.findings, effect) == count
    assert far_out.far_out(study.findings, replace(effect, differences=tuple(-gain for gain in gains))) == count
    apart = replace(effect, differences=(), method_values=tuple(gains), baseline_values=(0.1, 0.2, 0.15))
    assert far_out.far_out(study.findings, apart) == count
    kept, said = far_out.steady(study.findings, [effect, study.findings.effects[1]])
    assert (len(kept), "far out" in said) == ((1, True) if count else (2, False))
    assert far_out.steady(study.findings, [effect])[0] == [effect]
