"""The page as a file: well-formed, closed to the network, unharmed by hostile text, honest about empty studies."""

import base64
import gzip
import hashlib
import json
import re
import socket
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from markup import Page, assert_closed
from synthetic import HOSTILE

from dashboards.page import json_text
from dashboards.provenance import spec_toml
from dashboards.report import build_report
from dashboards.tables.runs import run_table
from study.specs.spec import StudySpec
from study.stats import Effect

INJECTION = "</script><img src=x onerror=alert(1)><a href='//evil.example'>=cmd()</a>"


@pytest.fixture(scope="module")
def parsed(page: str) -> Page:
    return Page(page)


@pytest.fixture(scope="module")
def small(make):
    return make(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3)


def charts_in(page: Page) -> dict:
    return page.packed


def strings_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


def test_ids_are_unique_and_links_resolve(parsed: Page) -> None:
    ids = parsed.attributes("id")
    assert len(set(ids)) == len(ids)
    inner = {href for href in parsed.attributes("href") if not href.startswith("https://arxiv.org/abs/")}
    assert {href[:1] for href in inner} == {"#"}
    assert {href[1:] for href in inner} <= set(ids)
    for name in ("aria-labelledby", "data-download"):
        assert set(parsed.attributes(name)) <= set(ids)


def test_nothing_is_requested(parsed: Page, page: str) -> None:
    assert parsed.attributes("src") == []
    assert not {tag for tag, _ in parsed.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    head = re.sub(r'href="https://arxiv\.org/abs/[\d.]+"', "", page.split('id="figures"', maxsplit=1)[0])
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import", head)


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) <= 2.5 * 2**20  # 2 MiB shell, half a MiB of data


def test_equal_studies_give_equal_bytes(study, page: str) -> None:
    assert build_report(study.findings, study.frame.copy()) == page


def test_a_date_is_printed_only_when_one_is_given(small, page: str) -> None:
    dated = build_report(small.findings, small.frame, built=datetime(2020, 5, 17, 12, 30, tzinfo=UTC))
    assert "2020-05-17 12:30 UTC" in dated
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", page)


def test_the_policy_names_the_one_script(parsed: Page) -> None:
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[0].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    types = [a.get("type") for tag, a in parsed.tags if tag == "script"]
    assert types == [None, "text/plain", "text/plain"]
    assert not [name for _, a in parsed.tags for name in a if name.startswith("on")]


def test_plotly_is_packed_in(parsed: Page) -> None:
    assert gzip.decompress(base64.b64decode(parsed.scripts[2])).startswith(b"/**")
    assert charts_in(parsed)["config"]["displayModeBar"] is False


def test_no_place_and_no_name_of_the_machine_is_in_the_page(make) -> None:
    made = make(tasks=["digits"], factors={}, trials=2)
    error = "OSError: /home/someone/data.pt and /Users/someone/x and C:\\Users\\someone\\x"
    page = build_report(made.findings, made.frame.assign(error=error))
    assert "someone" not in page
    assert "~/data.pt and ~/x and ~\\x" in Page(page).words
    body = page.split("<body", 1)[1].split('id="figures"')[0] + Page(page).words
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", body)
    assert str(Path(__file__).parents[2]) not in page


def test_every_section_and_chart_stands_in_order(parsed: Page) -> None:
    ids = parsed.attributes("id")
    wanted = [
        *(
            "answer",
            "accuracies",
            "verdicts",
            "when",
            "two-by-two",
            "forest",
            "literature",
            "why",
            "curves",
            "averaging",
        ),
        *(
            "appendix",
            "caveats",
            "deltas",
            "comparisons",
            "baselines",
            "direct",
            "interactions",
            "tuning",
            "selections",
        ),
        *("rho", "calibration", "losses", "runs", "methods", "glossary", "provenance"),
    ]
    assert [i for i in ids if i in wanted] == wanted
    opened = [a.get("id") for tag, a in parsed.tags if tag == "details" and "open" in a]
    assert opened == ["glossary"]  # the page's script closes it: without one, it is where words lead
    assert set(parsed.attributes("data-chart")) == set(charts_in(parsed)["charts"])


def test_every_chart_has_a_table_and_a_label(parsed: Page) -> None:
    for chart in charts_in(parsed)["charts"]:
        assert f"{chart}-table" in parsed.attributes("id")
        assert parsed.packed["tables"][chart]["rows"]
        plot = next(a for _, a in parsed.tags if a.get("data-chart") == chart)
        assert plot["role"] == "img"
        assert len(plot["aria-label"] or "") > 40


def test_the_verdict_table_holds_every_comparison(study, page: str) -> None:
    assert len(Page(page).packed["tables"]["verdicts"]["rows"]) == len(
        {(e.cell, e.method, e.differences, e.verdict, len(e.against)) for e in study.findings.effects}
    )


def assert_unharmed(page: str) -> Page:
    parsed = assert_closed(page, scripts=3)
    for text in strings_in(charts_in(parsed)["charts"]):
        assert set(re.findall(r"<[^>]*>", text)) <= {"<b>", "</b>", "<br>"}
    return parsed


@pytest.mark.parametrize("text", [HOSTILE, INJECTION, "=cmd()", "%{x} {{ 7*7 }} {% raw %}"])
def test_hostile_text_stays_text(small, text: str) -> None:
    findings = replace(
        small.findings,
        study=text,
        question=text,
        effects=tuple(replace(e, task=f"{text} {e.task}") for e in small.findings.effects),
        averaging=tuple(replace(e, task=f"{text} {e.task}") for e in small.findings.averaging),
        devices=(text,),
        versions={text: text},
        spec={text: text, "inner": {text: [text]}, "problems": [{text: text}]},
        caveats=tuple(replace(c, detail=text, kind=text) for c in small.findings.caveats),
    )
    page = build_report(findings, small.frame.assign(error=text))
    parsed = assert_unharmed(page)
    assert " ".join(text.split()) in parsed.words
    assert "49" not in re.findall(r"%\{x\} (\S+)", page)


@pytest.mark.parametrize("text", [HOSTILE, INJECTION, "my_pkg.my_module:build", "=cmd()|'/c calc'!A1"])
def test_own_tasks_factors_and_values_stay_text(small, text: str) -> None:
    """A task is a path into somebody's package; its factors and their values are theirs to name."""
    frame = small.frame.copy()
    cells = frame["cell"].unique()
    value = frame["cell"].map({cell: f"{text} {number}" for number, cell in enumerate(cells)})
    frame.insert(list(frame.columns).index("weights"), text, value)
    frame["task"] = text

    def own(effect: Effect) -> Effect:
        factors = (*effect.factors, (text, f"{text} {list(cells).index(effect.cell)}"))
        return replace(effect, task=text, factors=factors)

    lists = ("effects", "averaging", "descriptive")
    findings = replace(small.findings, **{name: tuple(map(own, getattr(small.findings, name))) for name in lists})
    parsed = assert_unharmed(build_report(findings, frame))
    assert " ".join(text.split()) in parsed.words


def test_a_study_that_is_hostile_throughout_gives_a_page(make) -> None:
    made = make(tasks=["digits"], factors={}, hostile=True, failed=0.2, diverged=0.1, trials=4)
    assert_unharmed(build_report(made.findings, made.frame))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"runs": 0}, "No verdict yet: no run has finished."),
        ({"runs": 5, "planned": 1000}, "No verdict yet: 5 of 1,000 planned runs are done."),
        (
            {"runs": 6},
            "No verdict: no comparison has enough data (the most is 0 complete replicates; insufficient is: ",
        ),
        ({"replicates": 2}, "(the most is 2 complete replicates; insufficient is: fewer than 5 complete replicates "),
        ({"failed": 1.0}, "runs failed."),
        ({"replicates": 1}, "(the most is 1 complete seed; insufficient is: "),
        ({"replicates": 1, "confirms": 6}, "Over 6 paired seeds of one tuning"),
        (
            {"diverged": 1.0},
            "insufficient is: fewer than 5 complete replicates (or, with one tuning, seeds), more than",
        ),
        ({"factors": {}, "gains": {}}, "no method helps in the one problem"),
        ({"methods": ["SGD", "SWA"], "budgets": ["E"], "primary_budget": "E"}, "At equal epochs, SWA helps in"),
        ({"sampler": "tpe", "trials": 8}, "At up to 2× the gradient evaluations, "),
    ],
)
@pytest.mark.slow
def test_every_study_has_an_honest_page(make, settings: dict, sentence: str) -> None:
    made = make(**{"trials": 3, "tasks": ["digits"], "factors": {"schedule": ["cosine", "constant"]}} | settings)
    page = build_report(made.findings, made.frame)
    text = Page(page).words
    assert sentence in text
    assert " nan" not in text.lower()
    assert "NaN" not in page.split("</head>")[1].split('id="figures"')[0]


def test_an_unfinished_study_says_so_above_everything(make) -> None:
    made = make(tasks=["digits"], trials=2, planned=5000)
    text = Page(build_report(made.findings, made.frame)).words
    assert "Unfinished study." in text
    assert text.index("Unfinished study.") < text.index("No verdict yet")


def test_many_runs_are_cut_with_a_note_and_troubled_ones_stay(study) -> None:
    table = run_table(study.findings, study.frame, study.cells, limit=20)
    assert len(table.rows) == 20
    assert "20 of " in table.caption
    assert "runs.parquet" in table.caption
    troubled = study.frame[study.frame["status"] != "completed"]["run_id"].nunique()
    assert 0 < troubled < 20
    assert sum(row[1].text != "completed" for row in table.rows) == troubled
    at = [column.csv for column in table.columns].index("method")
    assert {row[at].text for row in table.rows} <= {"SGD", "SAM"}  # whose trajectory it is


def test_every_run_is_in_the_table_once(study) -> None:
    table = run_table(study.findings, study.frame, study.cells, limit=10_000)
    assert sorted(str(row[0].value) for row in table.rows) == sorted(study.frame["run_id"].unique())


def test_json_cannot_end_its_script() -> None:
    text = json_text({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))


def test_the_printed_spec_runs_the_same_study(study) -> None:
    again = StudySpec.model_validate(tomllib.loads(spec_toml(study.findings.spec)))
    assert again.hash == study.findings.spec_hash


def test_every_download_of_an_estimate_has_its_interval_its_n_and_its_unit(parsed: Page) -> None:
    told = set()
    for name, table in parsed.packed["tables"].items():
        columns = [column[1] for column in table["columns"]]
        for place, title in enumerate(column[0] for column in table["columns"]):
            if table["rows"] and title.endswith("[95 % CI]"):
                assert [csv.rpartition("_")[2] for csv in columns[place + 1 : place + 3]] == ["low", "high"], name
                assert {"n", "tasks"} & set(columns), name
                assert any(csv == "unit" or csv.endswith("_unit") for csv in columns), name
                told.add(name)
    assert told >= {
        "accuracies",
        "verdicts",
        "baselines",
        "direct",
        "forest",
        "averaging",
        "interactions",
        "literature",
    }
