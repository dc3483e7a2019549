"""A study in a notebook: frame, findings, figures by name, and itself as what the terminal says at its end."""

import html
from pathlib import Path

import plotly.graph_objects as go
import pytest
from markup import Page
from synthetic import HOSTILE, synthetic_study, write_results

from dashboards.closing import closing
from study import load
from study.store.folder import ResultsError
from study.store.results import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    spec, records = synthetic_study(tasks=["digits"], trials=3, replicates=5, hostile=True)
    return load(write_results(tmp_path_factory.mktemp("study"), spec, records))


def test_every_figure_of_the_report_is_there_by_name(study: Study) -> None:
    assert {"forest", "averaging", "curves", "rho"} <= set(study.figures)
    for name in study.figures:
        figure = study.figure(name)
        assert isinstance(figure, go.Figure)
        assert figure.layout.title.text


def test_an_unknown_figure_is_answered_with_the_names(study: Study) -> None:
    with pytest.raises(ResultsError, match="'florist' was given as a figure; this study has two-by-two, forest, "):
        study.figure("florist")


def test_it_shows_itself_as_the_terminal_does(study: Study) -> None:
    page = study._repr_html_()
    assert [tag for tag, _ in Page(page).tags if tag in ("script", "a", "img")] == []
    assert "&lt;script&gt;" in page
    assert html.unescape(page).removesuffix("</pre>").endswith(closing(study.findings, study.frame))


def test_its_text_is_one_short_line(study: Study) -> None:
    assert repr(study) == f"<Study 'synthetic': {len(study.records)} of {len(study.records)} runs, 0 failed>"


def test_a_study_without_runs_has_no_figures(tmp_path: Path) -> None:
    spec, _ = synthetic_study(tasks=["digits"], factors={}, trials=2, runs=0, hostile=True)
    empty = load(str(write_results(tmp_path, spec, [])))
    assert empty.figures == ()
    assert "No verdict yet" in empty._repr_html_()
    assert HOSTILE not in empty._repr_html_()
    with pytest.raises(ResultsError, match="has none yet"):
        empty.figure("forest")
