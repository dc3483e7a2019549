"""The comment beside a dependency in pyproject.toml names who needs it: that is there, and does need it."""

import re
import tomllib
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from io import StringIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
    assert {one.name for one in asked()} == {name for name, _ in places_named()}


def asked() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(one) for group in groups for one in group]


@pytest.mark.parametrize("one", asked(), ids=str)
def test_every_dependency_is_bounded_by_a_release_that_was_not_tried(one: Requirement) -> None:
    assert {"<", "=="} & {bound.operator for bound in one.specifier}, "bound it by the next release that was not tried"
    with suppress(PackageNotFoundError):  # an extra that the tests do without
        assert version(one.name) in one.specifier


def test_the_newest_of_all_are_asked_for_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    program = re.search(r"^UNBOUNDED := (.*?)\n\n", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert program
    monkeypatch.chdir(ROOT)
    told = StringIO()
    with redirect_stdout(told):
        exec(program[1].replace("\\\n", ""))
    lines = told.getvalue().split()
    assert {Requirement(line).name for line in lines} < {one.name for one in asked()}
    assert not [line for line in lines if "<" in line]


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
