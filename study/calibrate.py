"""``python -m study.calibrate``: count how often the pipeline is wrong; a rate that chance can't explain is code 1."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from study.driver.options import whole_number
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
        rows.append(
            (
                rate.group,
                rate.name,
                f"{rate.rate:.1%}",
                f"{low:.1%} to {high:.1%}",
                rate.should,
                "OFF" if rate.off else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    align = [str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.ljust]
    return "\n".join(
        "  ".join(side(text, width) for side, text, width in zip(align, row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m study.calibrate",
        description="Check that verdicts, intervals and tests are right as often as they say, on simulated studies.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=whole_number, default=1000, metavar="N", help="studies a row; default 1000")
    parser.add_argument(
        "--seed",
        type=partial(whole_number, least=0),
        default=0,
        metavar="S",
        help="root of all random numbers; default 0",
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
    sys.exit(main())
