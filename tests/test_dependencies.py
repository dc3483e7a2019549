"""The comment beside a dependency in pyproject.toml names who needs it: that is there, and does need it."""

import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A line of a dependency in pyproject.toml: its name, and the comment that says who needs it.
DEPENDENCY = re.compile(r'^\s*(?:\w+ = \[)?"([\w.-]+)[^"]*"\]?,?\s*#\s*(.+)$', re.MULTILINE)
PLACE = re.compile(
    r"(?<![\w/.])(?:(?:wasam_core|study|dashboards|tests)(?:/[\w./-]*\w)?|\.[\w-]+\.yaml|make \w+)(?![\w/])"
)


def places_named() -> list[tuple[str, str]]:
    """Return every dependency with each file, folder or target of make that its comment names; "" if it names none."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\ndependencies = ")[2]
    return [(name, place) for name, words in DEPENDENCY.findall(text) for place in PLACE.findall(words) or [""]]


def canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


@cache
def modules_by_distribution() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, owners in packages_distributions().items():
        for owner in owners:
            found.setdefault(canonical(owner), set()).add(module)
    return found


def test_every_dependency_has_its_comment() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[><=]", one)[0] for group in asked for one in group}
    assert names == {name for name, _ in places_named()}


@pytest.mark.parametrize(("dependency", "place"), places_named())
def test_whoever_a_dependency_is_said_to_be_for_uses_it(dependency: str, place: str) -> None:
    assert place, "its comment names no file, folder or target of make"
    if place.startswith("make "):
        assert re.search(rf"^{place.removeprefix('make ')}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    path = ROOT / place
    assert path.exists()
    if path.suffix == ".yaml":
        return
    modules = modules_by_distribution().get(canonical(dependency), {dependency.replace("-", "_")})
    modules = modules | {
        dependency.removeprefix("pytest-")
    }  # what a plugin of pytest offers is an argument of the tests
    users = path.rglob("*.py") if path.is_dir() else [path]
    # Or it is asked for by its name, as `pytest.importorskip` and `importlib.util.find_spec` do.
    uses = re.compile(rf"(?:\b(?:import|from) |\(\"?)(?:{'|'.join(sorted(modules))})\b")
    assert any(uses.search(user.read_text(encoding="utf-8")) for user in users), f"{place} does not import {modules}"
