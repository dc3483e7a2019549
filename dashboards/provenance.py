"""What a reader needs to run the same study again: the spec as TOML. What they need not know: where it ran."""

import json
import re
from collections.abc import Mapping

_HOME = re.compile(r"/home/[^/\s]+|/Users/[^/\s]+|/root\b|[A-Z]:\\Users\\[^\\\s]+")  # a page is passed on; names stay


def without_home(text: str) -> str:
    """Return a message with every home folder written as ``~``."""
    return _HOME.sub("~", text)


def spec_toml(spec: Mapping[str, object]) -> str:
    """Write a spec's plain data as TOML: keys first, then its tables, then its arrays of tables."""
    plain: dict[str, object] = {}
    tables: list[str] = []
    for name, value in spec.items():
        if isinstance(value, Mapping):
            tables += ["", f"[{_key(name)}]", *_lines(value)]
        elif isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
            tables += [line for entry in value for line in ("", f"[[{_key(name)}]]", *_lines(entry))]
        else:
            plain[name] = value
    return "\n".join([*_lines(plain), *tables]).strip() + "\n"


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in table.items() if value is not None]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_lines(value))} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name, ensure_ascii=False)
