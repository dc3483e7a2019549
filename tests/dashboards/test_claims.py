"""Claims: what was predicted, in units of their own, and never an outcome before the last run."""

import math
from dataclasses import replace

import pytest
from markup import Page

from dashboards.report import build_report
from dashboards.tables.claims import claims_sentence, claims_table
from study.findings import HypothesisResult, RunCounts


def result(outcome: str = "reproduced", kind: str = "gain", **changes: object) -> HypothesisResult:
    fields: dict = {
        "id": "a", "claim": "a claim", "kind": kind, "method": "SAM", "other": "SWA", "factor": "label_noise",
        "budget": "E", "expected": "+", "source": "Somebody 2020", "mean": 0.1, "sd": 0.1,
        "ci95": (0.05, 0.15), "ci90": (0.06, 0.14), "p": 0.01, "margin": 0.01, "n": 6,
        "unit": "seeds", "cells": 2, "outcome": outcome,
        "note": "",
    }  # fmt: skip
    return HypothesisResult(**fields | changes)


@pytest.fixture(scope="module")
def small(make):
    return make(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3)


def with_claims(made, *results: HypothesisResult, finished: bool = True):
    counts = made.findings.counts if finished else RunCounts(10_000, 5, 0, 0)
    return replace(made.findings, hypotheses=results, counts=counts)


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ([], ""),
        (["reproduced"], "The one claim is reproduced"),
        (["contradicted"] * 3, "All 3 claims are contradicted"),
        (["inconclusive", "reproduced", "reproduced"], "2 of 3 claims reproduced, 1 inconclusive"),
        (["inconclusive", "contradicted"], "1 of 2 claims contradicted, 1 inconclusive"),
    ],
)
def test_the_sentence_counts_every_claim(small, outcomes: list[str], sentence: str) -> None:
    assert claims_sentence(with_claims(small, *map(result, outcomes))) == sentence


@pytest.mark.parametrize(
    ("kind", "text", "value", "unit"),
    [
        ("gain", "+10.00 [+5.00, +15.00]", 0.1, "points"),
        ("slope", "+10 [+5, +15]", 0.1, "points per unit of label noise"),
        ("sharpness", "1.11× [1.05×, 1.16×]", math.exp(0.1), "times SWA's"),
        ("barrier", "0.1 [0.05, 0.15]", 0.1, "nats"),
    ],
)
def test_every_kind_has_its_unit(small, kind: str, text: str, value: float, unit: str) -> None:
    (row,) = claims_table(with_claims(small, result(kind=kind))).rows
    assert (row[2].text, row[2].value, row[5].text) == (text, pytest.approx(value), unit)


def test_there_is_no_outcome_before_the_last_run(small) -> None:
    findings = with_claims(small, result(), finished=False)
    assert claims_table(findings).rows[0][1].text == "undecided"
    assert "undecided until all runs are done" in claims_sentence(findings)
    assert "reproduced." not in build_report(findings, small.frame)


def test_what_can_not_be_known_is_a_dash(small) -> None:
    nothing = (math.nan, math.nan)
    unknown = result("inconclusive", mean=math.nan, ci95=nothing, ci90=nothing, n=0, note="Too few.")
    (row,) = claims_table(with_claims(small, unknown)).rows
    assert (row[2].text, row[2].value) == ("–", "")
    page = build_report(with_claims(small, unknown), small.frame)
    assert "NaN" not in page.split("</head>")[1].split('id="figures"')[0]
    assert "Too few." in Page(page).words


def test_claims_are_the_answer_and_have_a_section(small) -> None:
    page = build_report(with_claims(small, result(), result("inconclusive")), small.frame)
    assert '<p class="answer">1 of 2 claims reproduced, 1 inconclusive.</p>' in page
    assert 'id="hypotheses-table"' in page
    without = build_report(small.findings, small.frame)
    assert 'id="claims"' not in without
    assert 'href="#claims"' not in without


def test_hostile_claims_stay_text(small) -> None:
    text = "<img src=x onerror=alert(1)>"
    page = build_report(with_claims(small, result(claim=text, source=text, note=text)), small.frame)
    assert text not in page
