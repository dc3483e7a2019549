"""``python -m dashboards RESULTS``: rebuild a study's report from its records alone, without training."""

import argparse
import sys
from pathlib import Path

from dashboards.report import write_report
from study.records import RecordError
from study.results import ResultsError, load
from study.spec import SpecError

_EXAMPLES = """examples:
  python -m dashboards results/quick                      writes results/quick/report.html
  python -m dashboards results/quick -o quick.html        writes quick.html
  SOURCE_DATE_EPOCH=$(date +%s) python -m dashboards results/quick     prints the date in the report
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 2 the folder can't be used."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards",
        description="Rebuild the report of a study from its records alone. Nothing is trained.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder that python -m study.run has written")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write the page (default: RESULTS/report.html)"
    )
    given = parser.parse_args(arguments)
    try:
        path = write_report(load(given.results), given.output)
    except (ResultsError, RecordError, SpecError, OSError) as error:
        print(f"python -m dashboards: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
