"""What texts, docstrings and comments speak of is there: paths, names, links, commands with their flags, specs."""

import ast
import builtins
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest

import wasam_core
from study.specs.spec import StudySpec

ROOT = Path(__file__).parent.parent
OURS = ("wasam_core", "study", "dashboards", "tests")
FRONT_LINES = 150
READMES = (
    "study", "study/existing", "study/specs", "study/tasks", "study/engine", "study/deploy", "dashboards", "wasam_core",
    "tests/benchmarks",
)  # fmt: skip

PAGES = [
    path
    for pattern in ("*.md", ".github/*.md", *(f"{package}/**/*.md" for package in OURS))
    for path in sorted(ROOT.glob(pattern))
]
SOURCES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
OTHERS = [
    ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".pre-commit-config.yaml", *(ROOT / ".ci").iterdir(),
    *(ROOT / ".github" / "workflows").iterdir(),
    *(path for kind in ("toml", "html", "css", "js", "sh", "yaml") for package in OURS
      for path in sorted((ROOT / package).rglob(f"*.{kind}"))),
]  # fmt: skip
A_PATH = re.compile(r"(?<![\w/.-])(?:(?:wasam_core|study|dashboards|tests)(?:/[\w.*-]+)+|\.(?:ci|github)/[\w./-]+)")
MADE_BY_USERS = re.compile(r"study/.*/run\.pt")  # paths that look like ours
A_COMMAND = re.compile(r"python -m ((?:study|dashboards|benchmarks|faults|truth)(?:\.\w+)*)([^`\n#|]*)")
A_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OF_OTHERS = {
    "name",
    "names",
    "value",
    "ps",
    "pydoc",
    "cluster_utils",
    "_post_hook",
    "_foreach",
    "disable_running_stats",
}


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def is_there(path: str) -> bool:
    return (ROOT / path).exists() or any(ROOT.glob(path))


@cache
def prose_of(path: Path) -> list[tuple[int, str]]:
    """Return line and text of what a file says to people: of code its comments and docstrings, of others all."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return list(enumerate(text.splitlines(), 1))
    comments = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return comments + [
        (node.body[0].lineno, words)
        for node in nodes_of(path)
        if isinstance(node, documented) and (words := ast.get_docstring(node, clean=False))
    ]


def mentions(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield where something is mentioned, and the match."""
    for path in paths:
        for line, text in prose_of(path):
            yield from ((f"{path.relative_to(ROOT)}:{line}", match) for match in pattern.finditer(text))


@cache
def names() -> set[str]:
    """Return whatever our code defines, reads or names in a short text."""
    found: set[str] = set()
    for path in SOURCES:
        found.add(path.stem)
        for node in nodes_of(path):
            for field in ("name", "id", "attr", "arg"):
                value = getattr(node, field, None)
                found |= set(value.split(".")) if isinstance(value, str) else set()
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60:
                found.add(node.value)
    return found


@cache
def resolves(dotted: str) -> bool:
    """Tell whether a dotted name leads somewhere: in our code, read and not imported, or in a package."""
    parts = dotted.split(".")
    if parts[0] not in OURS:
        if all(part in names() for part in parts):
            return True
        try:
            return resolve_name(dotted) is not None
        except (ImportError, AttributeError):
            return False
    for end in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:end])
        file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if file.is_file():
            inside = {
                name
                for node in nodes_of(file)
                for name in (getattr(node, "name", None), getattr(node, "id", None), getattr(node, "attr", None))
            }
            return all(part in inside for part in parts[end:])
        if place.is_dir():
            return end == len(parts)
    return False


def test_every_path_that_is_mentioned_is_there() -> None:
    wrong = [
        f"{where}: {match[0]}"
        for where, match in mentions(A_PATH, [*PAGES, *SOURCES, *OTHERS])
        if not is_there(match[0].rstrip(".,:")) and not MADE_BY_USERS.fullmatch(match[0])
    ]
    assert not wrong, "\n".join(wrong)


def test_every_name_in_backticks_is_one() -> None:
    """Dotted ones everywhere; plain ones in docstrings and comments, where single backticks are for code of ours."""
    ours = re.compile(r"`{1,2}((?:study|wasam_core|dashboards|tests)(?:\.\w+)+)(?:\([^`]*\))?`{1,2}")
    code = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([^`]*\))?`(?!`)")
    wrong = [f"{where}: {match[1]}" for where, match in mentions(ours, [*PAGES, *SOURCES]) if not resolves(match[1])]
    for where, match in mentions(code, SOURCES):
        dotted = "." in match[1]
        if (dotted and not resolves(match[1])) or not (
            dotted or match[1] in names() or hasattr(builtins, match[1]) or match[1] in OF_OTHERS
        ):
            wrong.append(f"{where}: {match[1]}")
    assert not wrong, "\n".join(wrong)


def test_every_command_and_its_flags_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    flags = {flag for path in SOURCES for flag in re.findall(r'"(--[a-z][a-z-]+)"', path.read_text())} | {"--help"}
    targets = {*re.findall(r"^([\w-]+):", makefile, re.MULTILINE)}
    targets |= {path.stem.replace("_", "-") for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py")}
    wrong = []
    for where, match in mentions(A_COMMAND, [*PAGES, *SOURCES, *OTHERS]):
        module = match[1] if match[1].split(".")[0] in OURS else f"tests.{match[1]}"
        place = ROOT.joinpath(*module.split("."))
        if match[1].endswith("_"):  # the rest is a variable's
            continue
        if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file():
            wrong.append(f"{where}: python -m {match[1]}")
        wrong += [f"{where}: {match[1]} {flag}" for flag in A_FLAG.findall(match[2]) if flag not in flags]
    for where, match in mentions(re.compile(r"(?:^|`|run: )make ([a-z][\w-]*\w)\b(?!-)"), [*PAGES, *SOURCES, *OTHERS]):
        if match[1] not in targets and match[1].islower():
            wrong.append(f"{where}: make {match[1]}")
    assert not wrong, "\n".join(wrong)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_between_pages_leads_somewhere() -> None:
    wrong = []
    for where, match in mentions(re.compile(r"\]\(([^)\s]+)\)"), PAGES):
        target, _, anchor = match[1].partition("#")
        if target.startswith("http"):
            continue
        here = ROOT / where.partition(":")[0]
        page = (here.parent / target).resolve() if target else here
        if not page.exists() or (anchor and anchor not in anchors(page)):
            wrong.append(f"{where}: {match[1]}")
    assert not wrong, "\n".join(wrong)


def test_the_front_page_is_short_and_every_folder_of_its_own_has_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= FRONT_LINES
    assert [folder for folder in READMES if not (ROOT / folder / "README.md").is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "study/specs/README.md"])
def test_the_example_of_a_spec_is_one(page: str) -> None:
    snippets = re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    specs = [tomllib.loads(text) for text in snippets if text.startswith("name")]
    assert specs
    for spec in specs:
        StudySpec.model_validate(spec)


def test_what_a_page_imports_of_ours_is_there() -> None:
    imports = re.compile(r"^\s*from ((?:study|wasam_core|dashboards)[\w.]*) import (.+)$")
    wrong = [
        f"{where}: {match[1]}.{name}"
        for where, match in mentions(imports, PAGES)
        for name in match[2].split(", ")
        if not resolves(f"{match[1]}.{name}")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_page_of_what_can_be_called_names_all_of_the_library() -> None:
    page = (ROOT / "study" / "API.md").read_text(encoding="utf-8")
    assert [name for name in wasam_core.__all__ if f"`wasam_core.{name}`" not in page] == []


def test_the_numbers_of_the_front_page_stand_in_the_tables_behind_it() -> None:
    pages = ("README.md", "study/README.md", "study/atlas/README.md")
    front, *behind = ((ROOT / page).read_text(encoding="utf-8") for page in pages)
    told = re.findall(r"[+-]0\.\d{4}", front)
    assert len(told) >= 6
    assert [number for number in told if not any(number in page for page in behind)] == []
