"""What all commands share: numbers within bounds, an error in one line, columns beneath each other, how they end."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.command_line import aligned, command, number, refused, whole_number
from study.driver.options import parser


@pytest.mark.parametrize("text", ["1", "12", "1000000"])
def test_whole_numbers_are_read(text: str) -> None:
    assert whole_number()(text) == int(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "x", "", "inf", "nan", "9" * 400, "9" * 5000])
def test_what_is_no_whole_number_from_1_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"was given; a whole number from 1 is needed$"):
        whole_number()(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "-0.0", "x", ""])
def test_no_number_is_taken_that_is_not_finite_or_out_of_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' was given; a number above 0 is needed$"):
        number("a number above 0", lambda value: value > 0)(text)


@pytest.mark.parametrize(
    ("given", "value"), [("0", 0), ("0.25", 0.25), ("1", 1), ("2", 2), ("1.5", None), ("-1", None)]
)
def test_gpus_are_shared_or_whole(given: str, value: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    if value is not None:
        assert parser().parse_args(["--gpus-per-trial", given]).gpus_per_trial == value
        return
    with pytest.raises(SystemExit):
        parser().parse_args([f"--gpus-per-trial={given}"])
    assert "a fraction up to 1 or a whole number is needed" in capsys.readouterr().err


def test_columns_stand_beneath_each_other() -> None:
    text = aligned([("method", "n"), ("SGD", "10"), ("late SAM", "5")], right=(1,))
    assert text.splitlines() == ["method     n", "SGD       10", "late SAM   5"]


def test_an_error_is_one_line_and_help_shows_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(ValueError("this\n is wrong")) == 2
    assert capsys.readouterr().err == "error: this is wrong\n"
    assert "examples:\n  one\n" in command("study.x", "What it does.", "examples:\n  one\n").format_help()


ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for package in ("study", "dashboards", "wasam_core")
    for path in (ROOT / package).rglob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text(encoding="utf-8")
)
SILENT = {"study.findings.schema"}  # writes a file alone
LINES = [
    *(f"{name} --help" for name in COMMANDS if name not in SILENT | {"study.store.columns"}),
    "study.store.columns", "study.run --schema", "study.run --list",
]  # fmt: skip


def test_every_command_that_prints_ends_in_the_same_way() -> None:
    assert {"study.run", "study.judge", "dashboards", "dashboards.atlas"} <= {*COMMANDS}
    for name in {*COMMANDS} - SILENT:
        place = ROOT.joinpath(*name.split("."))
        path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
        end = path.read_text(encoding="utf-8").partition('\nif __name__ == "__main__":\n')[2]
        assert "    execute(" in end, name
        assert "sys.exit(main" not in end, name


# One process for all of them, because most of their time is imports: each writes into a pipe that nobody reads.
IN_ONE_PROCESS = """
import json, os, runpy, sys, warnings
warnings.simplefilter("ignore", RuntimeWarning)  # of a module that one before it has imported
asked, told, codes = sys.stdin.read().splitlines(), os.dup(1), {}
for line in asked:
    sys.stdout = None  # gone, with what nobody read, before the next one's pipe is there
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.close(write)
    sys.stdout = open(1, "w", closefd=False)
    module, *sys.argv[1:] = line.split()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        codes[line] = end.code
os.write(told, json.dumps(codes).encode())
"""


@pytest.mark.slow
def test_no_command_complains_where_nobody_reads_on() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS], input="\n".join(LINES), capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == dict.fromkeys(LINES, 141)
    assert ran.returncode == 0


WRITING = """
import sys
from study.command_line import execute
def main():
    print("a line")
    if sys.argv[1] == "error":
        raise ValueError("what was wrong")
    if sys.argv[1] == "pipe":
        raise BrokenPipeError("of somebody else")
    if sys.argv[1] == "stderr":
        print("a line", file=sys.stderr)
    return int(sys.argv[2])
execute(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "options", "reader", "code", "said"),
    [
        ("nothing", (), True, 3, ""),
        ("nothing", (), False, 141, ""),
        ("nothing", ("-u",), False, 141, ""),
        ("stderr", ("-u",), True, 0, "a line\n"),
        ("error", (), True, 1, "what was wrong"),
        ("pipe", (), True, 1, "of somebody else"),
    ],
)
def test_a_process_ends_as_its_command_did_or_with_141(
    what: str, options: tuple[str, ...], reader: bool, code: int, said: str
) -> None:
    read, write = os.pipe()
    if not reader:
        os.close(read)
    ran = subprocess.run(
        [sys.executable, *options, "-c", WRITING, what, str(code)], stdout=write, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert ran.returncode == code
    assert (said in ran.stderr) if said else ran.stderr == ""
    if reader:
        with open(read, encoding="utf-8") as pipe:
            assert pipe.read() == "a line\n"
