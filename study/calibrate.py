"""``python -m study.calibrate``: count how often the pipeline is wrong; a rate that chance can't explain is code 1."""

import sys
from collections.abc import Sequence

from study.command_line import aligned, command, execute, whole_number
from study.simulations import Rate, calibrate

_EXAMPLES = """\
example:
  python -m study.calibrate                  1,000 studies a row: a minute
  python -m study.calibrate --studies 10000  rates to half a percent

exit codes: 0 every rate is as it should be; 1 a rate is off; 2 bad usage
"""


def table(rates: Sequence[Rate]) -> str:
    """Return the rates as text: what, observed with its 95 % interval, and what it should be."""
    rows = [("", "", "observed", "95 % interval", "should be", "")]
    for rate in rates:
        low, high = rate.interval
        interval = f"{low:.1%} to {high:.1%}"
        rows.append((rate.group, rate.name, f"{rate.rate:.1%}", interval, rate.should, "OFF" if rate.off else ""))
    return aligned(rows, right=(2, 3, 4))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command(
        "study.calibrate",
        "Check that verdicts, intervals and tests are right as often as they say, on simulated studies.",
        _EXAMPLES,
    )
    parser.add_argument("--studies", type=whole_number(), default=1000, metavar="N", help="studies a row; default 1000")
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="S", help="root of all random numbers; default 0"
    )
    options = parser.parse_args(arguments)
    rates = calibrate(options.studies, options.seed)
    print(table(rates))
    off = [rate for rate in rates if rate.off]
    for rate in off:
        print(
            f"error: {rate.group}, {rate.name}: {rate.rate:.2%} of {rate.of} was observed; "
            f"it should be {rate.should}, and chance does not explain that.",
            file=sys.stderr,
        )
    return 1 if off else 0


if __name__ == "__main__":
    execute(main)
