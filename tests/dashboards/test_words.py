"""Words: each explains itself in place, in whatever stands around it; papers are links; nothing else is."""

import re

import pytest
from markup import Page
from synthetic import HOSTILE

from dashboards.report import build_report
from dashboards.words import GLOSSARY, PAPERS, cited, explained


def test_every_word_of_the_glossary_that_the_page_uses_leads_to_its_meaning(study, page: str) -> None:
    parsed = Page(page)
    linked = {href for href in parsed.attributes("href") if href.startswith("#term-")}
    text = page.split("<main>")[1].split('id="glossary"')[0]
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text))
    told_here = [term for term in GLOSSARY if term.id in parsed.attributes("id")]
    assert len(told_here) == len(GLOSSARY) - 1  # a study of accuracies has no "score"
    for term in told_here:
        meant = f"#{term.id}" in linked
        used = re.search(rf"(?<![\w&])(?:{term.pattern})(?!\w)", told)
        assert meant or not used, term.name
    assert {f"term-{href.removeprefix('#term-')}" for href in linked} <= set(parsed.attributes("id"))


def test_ids_of_terms_are_their_own() -> None:
    ids = [term.id for term in GLOSSARY]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"term-[\w-]+", name) for name in ids)


@pytest.mark.parametrize("text", [HOSTILE, "<b>gain</b> & replicate", "no word of it", ""])
def test_an_explained_text_is_escaped_and_otherwise_the_same(text: str) -> None:
    found = explained(text, GLOSSARY)
    assert re.sub(r"</?(?:dfn|a)\b[^>]*>", "", found) == re.sub(r"<[^>]*>", "", str(explained(text, ())))
    assert not re.search(r"<(?!/?dfn>|a href=\"#term-|/a>)", found)


def test_a_word_is_explained_once_a_text_and_the_longest_wins() -> None:
    found = explained("A gain over the strongest baseline; another gain, best epoch.", GLOSSARY)
    assert found.count("<dfn>") == 3
    assert ">strongest baseline</a>" in found
    assert ">best epoch</a>" in found


def test_citations_are_links_to_papers_and_nothing_else_is_one() -> None:
    found = cited("Foret 2021; Somebody 2020; arXiv 2405.03676 <script>")
    assert re.findall(r'href="([^"]+)"', found) == [
        f"https://arxiv.org/abs/{PAPERS['Foret 2021']}", "https://arxiv.org/abs/2405.03676",
    ]  # fmt: skip
    assert "<script>" not in found


def test_every_source_that_findings_name_is_a_link(study) -> None:
    for result in study.findings.literature:
        assert "https://arxiv.org/abs/" in cited(result.source), result.source
    assert "Foret 2021" in build_report(study.findings, study.frame)
