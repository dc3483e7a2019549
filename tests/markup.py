"""A page read by the standard library's HTML parser, strictly: for every test that looks at a page as a file."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """Collects tags, ids and texts, and fails on a tag that is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        """What is read, with blanks as a browser shows them, and after it what the page's script writes into tables."""
        written = [entry if isinstance(entry, str) else entry[0] for rows in self.tables.values() for entry in rows]
        return " ".join(("".join(self.text) + " " + " ".join(written)).split())

    @property
    def packed(self) -> dict[str, Any]:
        """The data that figures and tables are drawn of; nothing where the page has none."""
        return json.loads(gzip.decompress(base64.b64decode(self.scripts[1]))) if len(self.scripts) > 2 else {}

    @property
    def tables(self) -> dict[str, list[Any]]:
        """Heads and entries of every packed table, by id."""
        found = self.packed.get("tables", {})
        return {
            name: [*(column[0] for column in table["columns"]), *(entry for row in table["rows"] for entry in row)]
            for name, table in found.items()
        }

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def assert_closed(page: str, scripts: int) -> Page:
    """Assert that a page keeps to itself (no request, handler, foreign tag) and that ids are unique and links fit."""
    parsed = Page(page)
    ids = parsed.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {href[1:] for href in parsed.attributes("href") if href.startswith("#")} <= set(ids)
    for name in ("aria-labelledby", "data-download", "data-filters"):
        assert set(parsed.attributes(name)) <= set(ids)
    assert [tag for tag, _ in parsed.tags].count("script") == scripts
    assert not {tag for tag, _ in parsed.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    assert parsed.attributes("src") == []
    assert not [name for _, a in parsed.tags for name in a if name.startswith("on")]
    links = [href for href in parsed.attributes("href") if re.match(r"[a-z]+:|//", href, re.IGNORECASE)]
    assert all(re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", href) for href in links)  # papers, to be followed
    return parsed
