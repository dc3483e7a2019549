"""The charts about probabilities: whether the confidence tells the truth, and how good the predictions are."""

from collections.abc import Iterable, Mapping, Sequence

from dashboards import prose
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key
from dashboards.figures.kit.confirmed import Confirmed
from dashboards.figures.training import calibration, reliability
from dashboards.tables.limits import fitted
from study.findings import Findings
from study.records import RunRecord


def calibration_charts(
    findings: Findings, records: Iterable[RunRecord], runs: Sequence[Confirmed], cells: Mapping[str, Cell]
) -> list[Chart]:
    """Return the charts about calibration that have data; none for tasks that are no classification."""
    made = (_reliability(findings, records, cells), _calibration(findings, runs, cells))
    return [chart for chart in made if chart is not None]


def _reliability(findings: Findings, records: Iterable[RunRecord], cells: Mapping[str, Cell]) -> Chart | None:
    data = reliability.diagrams_of(records, findings.selections, cells)
    if not data:
        return None
    figure, narrow = reliability.figure_of(data)
    methods = dict.fromkeys(diagram.method for diagram in data)
    clauses = []
    for method in methods:
        own = [diagram.overconfidence for diagram in data if diagram.method == method]
        clauses.append(f"{method} in {sum(value > 0 for value in own)} of {len(own)}")
    return Chart(
        id="reliability",
        heading=f"Problems where the mean confidence is above the accuracy: {prose.listed(clauses)}",
        reading=(
            "On the dotted diagonal the confidence tells the truth; below it, the predictions are right less often "
            "than they promise. An averaging method stands for its average."
        ),
        caption=(
            f"Test predictions of {prose.seeds(diagram.seeds for diagram in data)} confirm seeds in 15 equal bins of "
            "confidence, those with less than 1 % of a method's predictions left out; 95 % Student-t intervals over "
            "seeds. Descriptive."
        ),
        keys=tuple(Key(method, method, "both") for method in methods),
        figure=figure,
        narrow=narrow,
        table=fitted(reliability.table_of(data), len(cells), "records/"),
    )


def _calibration(findings: Findings, runs: Sequence[Confirmed], cells: Mapping[str, Cell]) -> Chart | None:
    data = calibration.calibrations_of(runs, cells)
    if not data:
        return None
    figure, narrow = calibration.figure_of(data)
    clauses = [
        f"{lower} of {total} with {method}"
        for method, (lower, total) in calibration.lower_than(data, findings.baseline).items()
    ]
    return Chart(
        id="calibration-error",
        heading=(
            f"Problems where the mean calibration error is below that of {findings.baseline}: {prose.listed(clauses)}"
            if clauses
            else "Calibration error and loss on test"
        ),
        reading=(
            "Left is better in both panels. Calibration error: the mean gap between confidence and accuracy; negative "
            "log-likelihood: the test loss, which wrong and confident predictions drive up."
        ),
        caption=(
            f"Means over {prose.seeds(one.error.n for one in data)} completed confirm seeds, each a small tick, with "
            "their 95 % Student-t intervals; 15 equal bins. An averaging method stands for its average. Descriptive: "
            "paired differences are in the table of losses."
        ),
        keys=(
            *(Key(method, method) for method in dict.fromkeys(one.method for one in data)),
            Key("one seed", "", "tick"),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(calibration.table_of(data), len(cells), "runs.parquet"),
    )
