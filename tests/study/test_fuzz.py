"""Bad input, whatever it is: one sentence, exit code 2, nothing changed on disk, and never a traceback.

Thousands of generated command lines, specs, records and results folders, a fifth of them in `make test`, go through the
real command, in this process; only the engine is replaced by a mark that says it would have been started.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from synthetic import synthetic_study, write_results

import dashboards.__main__
import study.run
from study.specs.spec import StudySpec, builtin_specs, parse_spec
from study.store.results import load

HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
STARTED, DONE, FAILED_RUNS, REFUSED = "started", 0, 3, 2


BRIEF = settings.get_current_profile_name() == "brief"  # what that is stands in tests/conftest.py


def many(cases: int) -> settings:
    return settings(
        max_examples=cases // 5 if BRIEF else cases, deadline=None, derandomize=True, database=None,
        suppress_health_check=HEALTH, phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip


class Started(BaseException):
    """The engine would have been started."""


@contextmanager
def no_engine(*_: Any, **__: Any) -> Iterator[Any]:
    raise Started
    yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own, without an engine, without a stopwatch."""
    home = tmp_path / "cwd"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr("os.fsync", lambda _: None)  # thousands of files, none of which must survive a power cut
    for module in ("run", "driver.suite"):
        monkeypatch.setattr(f"study.{module}.engine", no_engine)
    monkeypatch.setattr("study.training.estimate.estimated_seconds", lambda *_: (1.0, 1.0))
    monkeypatch.setattr("study.training.estimate.reference_times", lambda spec: {"base": 1.0})
    return home


@contextmanager
def printing() -> Iterator[tuple[TextIOWrapper, TextIOWrapper]]:
    """Take what is printed, in streams like those that the commands set up for themselves."""
    streams = [TextIOWrapper(BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield streams[0], streams[1]


def text_of(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def files(folder: Path) -> dict[str, bytes | str | None]:
    """Return all that a folder holds."""
    found: dict[str, bytes | str | None] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def outcome(main: Callable[[list[str]], int], arguments: list[str]) -> object:
    """Run a command and check what holds for all of them; return how it ended."""
    before = files(Path.cwd())
    by_argparse = False
    with printing() as (_, errors):
        try:
            code: object = main(arguments)
        except Started:
            code = STARTED
        except SystemExit as error:
            code, by_argparse = error.code, True
    said = text_of(errors)
    assert "Traceback" not in said
    if code == REFUSED:
        assert said.strip()
        assert by_argparse or said.count("\n") == 1, said
        assert files(Path.cwd()) == before
    else:
        assert code in (STARTED, DONE, FAILED_RUNS)
    return code


def cleared(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# Values that a hand, a script or a broken disk may put anywhere. Numbers stay small where a plan would be long.
SCALARS = st.one_of(
    st.integers(-3, 60), st.sampled_from([-1, 0, 1e-300, 1e300, -0.0, 2**63, 10**30, float("inf"), float("nan")]),
    st.floats(0, 1), st.booleans(), st.text(max_size=8),
    st.sampled_from(["", "SAM", "SGD", "qmc", "tpe", "asha", "digits", "../../etc", "os:system", "\0", "<b>", "E"]),
)  # fmt: skip
KEYS = st.sampled_from(
    [
        *StudySpec.model_fields,
        "low",
        "high",
        "log",
        "task",
        "factors",
        "design",
        "centre",
        "epochs",
        "id",
        "kind",
        "x",
        "",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """Write a value as TOML; JSON's strings are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def document(tables: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tables.items())


BUILTIN = sorted(builtin_specs().items())


@st.composite
def mutated_specs(draw: st.DrawFn) -> str:
    """Draw a built-in spec with one to three of its lines changed, dropped, doubled or added."""
    lines = draw(st.sampled_from(BUILTIN))[1].splitlines()
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 1))
        key = lines[index].partition("=")[0].strip() or "name"
        lines[index : index + 1] = draw(
            st.sampled_from([[], [lines[index], lines[index]], [lines[index][:-1]]])
            | VALUES.map(lambda value, key=key: [f"{key} = {toml(value)}"])
            | st.builds(lambda new, value, old=lines[index]: [f"{new} = {toml(value)}", old], KEYS.filter(bool), VALUES)
        )
        lines = lines or [""]
    return "\n".join(lines)


@many(700)
@given(text=mutated_specs() | st.dictionaries(KEYS, VALUES, max_size=6).map(document) | st.text(max_size=60))
@pytest.mark.slow
def test_a_spec_is_used_or_refused(text: str, workplace: Path) -> None:
    cleared(workplace)
    (workplace / "mine.toml").write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    if outcome(study.run.main, ["mine.toml", "--quiet"]) == STARTED:
        (folder,) = (workplace / "results").iterdir()  # named by the spec, and nowhere else
        assert load(folder).spec.hash == parse_spec(text.replace("\r\n", "\n"), "again").hash


@many(100)
@given(content=st.binary(max_size=80))
def test_bytes_are_no_spec(content: bytes, workplace: Path) -> None:
    (workplace / "mine.toml").write_bytes(content)
    assert outcome(study.run.main, ["mine.toml"]) == REFUSED


MANY_VALUES = "\n".join(
    f"factors.{name} = [{', '.join(map(str, range(10, 210)))}]" for name in ("epochs", "train_size")
)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "9" * 5000,
        "name = 1979-05-27T07:32:00Z",
        dict(BUILTIN)["smoke"].replace("factors.epochs = 4\nfactors.train_size = 400", "") + MANY_VALUES,
        "\ufeff" + dict(BUILTIN)["smoke"],
        "[[problems]]\n" * 3,
        dict(BUILTIN)["smoke"].replace('name = "smoke"', 'name = "../smoke"'),
        dict(BUILTIN)["smoke"].replace('name = "smoke"', 'name = "smoke\\n"'),
    ],
    ids=["deep", "long number", "date", "four million cells", "byte order mark", "empty tables", "way out", "newline"],
)
def test_a_hostile_spec_is_refused_at_once(text: str, workplace: Path) -> None:
    (workplace / "mine.toml").write_text(text, encoding="utf-8")
    assert outcome(study.run.main, ["mine.toml"]) == REFUSED


@pytest.mark.parametrize("content", ["[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}", "{}", "\0", '{"a": NaN}'])
def test_a_hostile_record_is_refused_at_once(content: str, unfinished: Path, workplace: Path) -> None:
    folder = copied(unfinished, workplace)
    (folder / "records" / "0123456789abcdef.json").write_text(content)
    assert outcome(study.run.main, ["--resume", "study"]) == REFUSED


PATHS = st.sampled_from(
    ["", ".", "..", "out", "out/deeper", "a-file", "a-file/inside", "/dev/null", "/dev/null/x", "/proc/self/x",
     "x" * 300, "nul\0byte", "\udce4", "-", "--", "~", "loop", "results", "smoke.toml"]
)  # fmt: skip
OPTIONS = st.one_of(
    st.sampled_from([["--quiet"], ["--no-report"], ["--dry-run"], ["--list"], ["--schema"], ["--fresh"], ["--help"],
                     ["--retry-failed"]]),
    st.tuples(st.sampled_from(["--out", "--resume", "--address"]), PATHS).map(list),
    st.tuples(
        st.sampled_from(["--cpus-per-trial", "--gpus-per-trial", "--scale", "--max-concurrent", "--hang-after",
                         "--seed", "--replicates", "--sd"]),
        st.sampled_from(["0", "1", "-1", "0.5", "1e9", "nan", "inf", "", "many", "٣", "1_0", "0x1", "1-2", "2-1", "2-",
                         "1-999999999999", str(2**32)]),
    ).map(list),
    st.text(max_size=6).map(lambda text: [text]),
)  # fmt: skip
SPECS = st.sampled_from(["smoke", "quick", "nonsense", "claims", "../x", "claims/01-label-noise"]) | PATHS


@many(500)
@given(spec=st.lists(SPECS, max_size=2), options=st.lists(OPTIONS, max_size=3))
@pytest.mark.slow
def test_a_command_line_is_used_or_refused(spec: list[str], options: list[list[str]], workplace: Path) -> None:
    cleared(workplace)
    (workplace / "a-file").write_text("precious")
    (workplace / "loop").symlink_to("loop")
    outcome(study.run.main, [*spec, *(part for option in options for part in option)])
    assert (workplace / "a-file").read_text() == "precious"


@many(200)
@given(
    options=st.lists(OPTIONS | st.sampled_from([["-o", "x/y"], ["--every", "0"], ["-o", "/dev/null/x"]]), max_size=3)
)
def test_a_command_line_of_the_dashboards_is_used_or_refused(options: list[list[str]], workplace: Path) -> None:
    (workplace / "loop").unlink(missing_ok=True)
    (workplace / "loop").symlink_to("loop")
    outcome(dashboards.__main__.main, [part for option in options for part in option])


TINY: dict[str, Any] = {"tasks": ("digits",), "factors": {}, "trials": 2, "replicates": 2, "methods": ["SGD", "SAM"]}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder to copy, with 7 records."""
    return write_results(tmp_path_factory.mktemp("unfinished"), *synthetic_study(**TINY, runs=7))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("finished"), *synthetic_study(**TINY))


def copied(template: Path, workplace: Path) -> Path:
    cleared(workplace)
    shutil.copytree(template, workplace / "study")
    return workplace / "study"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["completed", "diverged", "failed", "pruned", "tune", "confirm", "sam", "adamw", "last", "../x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[str], bytes]:
    """Draw a way to damage a JSON file: a value, a key, an end, a byte."""
    kind = draw(st.sampled_from(["value", "value", "value", "drop", "add", "cut", "flip", "replace"]))
    share, value, key = draw(st.floats(0, 1, exclude_max=True)), draw(JSON_VALUES), draw(st.text(max_size=4))

    def damaged(text: str) -> bytes:
        if kind == "cut":
            return text.encode()[: int(share * len(text))]
        if kind == "flip":
            content = bytearray(text.encode())
            content[int(share * len(content))] ^= 1 << int(share * 997) % 8
            return bytes(content)
        if kind == "replace":
            return json.dumps(value).encode()
        document = json.loads(text)
        everywhere = list(places(document))
        *way, last = everywhere[int(share * len(everywhere))]
        inner = document
        for step in way:
            inner = inner[step]
        if kind == "drop":
            del inner[last]
        elif kind == "add" and isinstance(inner, dict):
            inner[key] = value
        else:
            inner[last] = value
        return json.dumps(document).encode()

    return damaged


def resume_and_read(folder: Path) -> None:
    resumed = outcome(study.run.main, ["--resume", folder.name, "--quiet", "--no-report"])
    if resumed != REFUSED:
        load(folder)


@many(500)
@given(which=st.integers(0, 6), damage=mutations())
@pytest.mark.slow
def test_a_damaged_record_is_refused_or_harmless(
    which: int,
    damage: Callable[[str], bytes],
    unfinished: Path,
    workplace: Path,
) -> None:
    folder = copied(unfinished, workplace)
    path = sorted((folder / "records").iterdir())[which]
    path.write_bytes(damage(path.read_text()))
    resume_and_read(folder)


@many(60)
@given(which=st.integers(0, 9), damage=mutations())
def test_a_report_of_damaged_records_is_made_or_refused(
    which: int, damage: Callable[[str], bytes], finished: Path, workplace: Path
) -> None:
    folder = copied(finished, workplace)
    path = sorted((folder / "records").iterdir())[which]
    path.write_bytes(damage(path.read_text()))
    outcome(dashboards.__main__.main, ["study", "-o", "out.html"])


HEADERS = ["# spec hash: ", "# extends: ", "# replicates before it was extended: "]


@many(150)
@given(header=st.lists(st.sampled_from(HEADERS) | st.text(max_size=9), max_size=4),
       hashes=st.lists(st.sampled_from(["0" * 64, "f" * 63, "", "real", "3"]), min_size=4, max_size=4))  # fmt: skip
def test_a_header_is_right_or_refused(
    header: list[str],
    hashes: list[str],
    unfinished: Path,
    workplace: Path,
) -> None:
    folder = copied(unfinished, workplace)
    frozen = (folder / "spec.toml").read_text()
    real = parse_spec(frozen, "frozen").hash
    lines = [key + hashed.replace("real", real) for key, hashed in zip(header, hashes, strict=False)]
    text = "\n".join([*lines, frozen.partition("\n")[2]])
    (folder / "spec.toml").write_text(text, encoding="utf-8", errors="surrogateescape")
    resume_and_read(folder)


FILES = ["spec.toml", "records", "records/x.json", "lines", "lines/x.json", "planes/x.json", "findings.json", "ray",
         "runs.parquet", "optuna.db", "report.html", "weights", ".lock", "records/failed"]  # fmt: skip


@many(200)
@given(
    name=st.sampled_from(FILES),
    kind=st.sampled_from(["file", "folder", "nowhere", "loop", "device"]),
    content=st.binary(max_size=30),
    command=st.sampled_from(["resume", "retry", "report"]),
)
@pytest.mark.slow
def test_anything_in_place_of_a_file_is_harmless_or_refused(
    name: str,
    kind: str,
    content: bytes,
    command: str,
    unfinished: Path,
    workplace: Path,
) -> None:
    path = copied(unfinished, workplace) / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    targets = {"nowhere": "not-there", "loop": path.name, "device": os.devnull}
    if kind == "file":
        path.write_bytes(content)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(targets[kind])
    if command == "report":
        outcome(dashboards.__main__.main, ["study", "-o", "out.html"])
    else:
        flags = ["--retry-failed"] if command == "retry" else []
        outcome(study.run.main, ["--resume", "study", "--quiet", "--no-report", *flags])


LINE = {"cell": "digits", "seed": 1000, "start": "SGD", "end": "SAM", "alphas": [0.0, 1.0], "train_losses": [1.0, 2.0],
        "test_losses": [1.0, 2.0], "test_errors": [0.1, 0.2]}  # fmt: skip


@many(120)
@given(damage=mutations())
def test_a_damaged_line_is_refused_or_harmless(
    damage: Callable[[str], bytes],
    finished: Path,
    workplace: Path,
) -> None:
    folder = copied(finished, workplace)
    (folder / "lines").mkdir()
    (folder / "lines" / "0123456789abcdef.json").write_bytes(damage(json.dumps(LINE)))
    outcome(study.run.main, ["--resume", "study", "--quiet", "--no-report"])
