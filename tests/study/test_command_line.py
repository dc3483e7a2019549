"""What all commands share: numbers within bounds, an error in one line, columns that stand beneath each other."""

import argparse

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
