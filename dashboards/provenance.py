"""What a reader needs to run the same study again: the spec as TOML. What they need not know: where it ran."""

import json
import re
from collections.abc import Mapping

_HOME = re.compile(r"/home/[^/\s]+|/Users/[^/\s]+|/root\b|[A-Z]:\\Users\\[^\\\s]+")  # a page is passed on; names stay


def without_home(text: str) -> str:
    """Return a message with every home folder written as ``~``."""
    return _HOME.sub("~", text)


def spec_toml(spec: Mapping[str, object]) -> str:
    """Write a spec's plain data as TOML: keys first, then the search with its ranges, then the problems."""
    lines: list[str] = []
    _table(spec, "", lines)
    return "\n".join(lines).strip() + "\n"


def _table(table: Mapping[str, object], prefix: str, lines: list[str]) -> None:
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    arrays = {name: value for name, value in table.items() if _is_array_of_tables(value)}
    for name, value in table.items():
        if name not in inner and name not in arrays and value is not None:
            lines.append(f"{_key(name)} = {json.dumps(value, ensure_ascii=False)}")
    for name, value in inner.items():
        lines += ["", f"[{prefix}{_key(name)}]"]
        _table(value, f"{prefix}{_key(name)}.", lines)
    for name, value in arrays.items():
        assert isinstance(value, list | tuple)
        for entry in value:
            lines += ["", f"[[{prefix}{_key(name)}]]"]
            _table(entry, f"{prefix}{_key(name)}.", lines)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name, ensure_ascii=False)
