"""What is wrong with a spec, all of it at once: where, what was given, what is allowed, and what was perhaps meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from study.specs.space import NotAllowed


def sentences(error: ValidationError, data: Mapping[str, object], keys: Iterable[str]) -> str:
    """Say every problem in a sentence: key as it is written in the TOML, given, allowed, remedy.

    Args:
        error: What pydantic found.
        data: The TOML's content.
        keys: Every key that a spec may have somewhere.
    """
    known = sorted(keys)
    found = error.errors(include_url=False)
    # A list is too short for pydantic once its wrong entries are gone: these are told.
    inner = {other["loc"][:n] for other in found for n in range(1, len(other["loc"]))}
    found = [one for one in found if one["type"] != "too_short" or one["loc"] not in inner]
    told = list(dict.fromkeys(_sentence(dict(one), data, known) for one in found))
    if len(told) == 1:
        return told[0]
    return f"{len(told)} mistakes. " + " ".join(f"({number}) {sentence}" for number, sentence in enumerate(told, 1))


def _sentence(one: Mapping[str, object], data: Mapping[str, object], known: Sequence[str]) -> str:
    loc = one["loc"]
    assert isinstance(loc, tuple)
    key = written(["methods" if part == "own_methods" else part for part in loc], data)
    if one["type"] == "value_error":
        context = one["ctx"]
        assert isinstance(context, dict)
        given = f" = {one['input']!r} was given;" if isinstance(context["error"], NotAllowed) else ":"
        return f"{key}{given} {context['error']}."
    if one["type"] == "missing":
        return f"{key} is missing; add it."
    if one["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), [name for name in known if name != loc[-1]], n=1)
        meant = f"did you mean {near[0]}? Remove it" if near else "remove it"
        return f"{key} was given, which is not a key of a spec there; {meant} or mend its spelling."
    message = str(one["msg"])
    near = difflib.get_close_matches(str(one["input"]), [word.strip("' ") for word in message.split("'")[1::2]], n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    return f"{key} = {one['input']!r} was given; {message[0].lower()}{message[1:]}{meant}"


def written(loc: Sequence[str | int], data: object) -> str:
    """Return a place as the TOML writes it: ``search.trials``, ``[[problems]] 2: factors.label_noise``.

    What pydantic adds of its own, the branch of a union, is left out.
    """
    parts: list[str] = []
    head = ""
    if loc[:1] == ("own_methods",):  # what the table of methods becomes
        loc = ("methods", *loc[1:])
    for number, part in enumerate(loc):
        if isinstance(part, int) and isinstance(data, list | tuple):
            entry = data[part] if part < len(data) else None
            whole = ".".join(parts)
            head, parts = (
                f"[[{whole}]] {part + 1}: " if isinstance(entry, Mapping) else f"{whole}, entry {part + 1}",
                [],
            )
            data = entry
        elif isinstance(data, Mapping) and (part in data or number == len(loc) - 1):
            parts.append(str(part))
            data = data.get(part)
    found = head + ".".join(parts) if parts else head.removesuffix(": ")
    return found or "the spec"
