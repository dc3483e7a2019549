"""``python -m dashboards FOLDER``: rebuild a study's report, or the index of many, from records alone."""

import argparse
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from dashboards.index import write_index
from dashboards.picture import write_picture
from dashboards.report import write_report
from dashboards.studies import is_study, study_folders
from dashboards.watch import EVERY_S, until_parent_exits, watch
from study.command_line import command, execute
from study.specs.spec import SpecError
from study.store.folder import ResultsError
from study.store.record_files import RecordError
from study.store.results import load

EXIT_DONE, EXIT_NO_PAGE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
_EXAMPLES = """examples:
  python -m dashboards results/quick                      writes results/quick/report.html
  python -m dashboards results/quick -o quick.html        writes quick.html
  python -m dashboards results/quick -o quick.svg         writes its verdicts alone, as a picture
  python -m dashboards results                            writes results/index.html over all studies in it
  python -m dashboards --watch results/quick --every 30   rewrites the report while the study runs
  SOURCE_DATE_EPOCH=$(date +%s) python -m dashboards results/quick     prints the date in the report

exit codes: 0 done; 1 the page can't be made; 2 the folder can't be used; 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = _parser().parse_args(arguments)
    picture = given.output is not None and given.output.suffix == ".svg"
    try:
        several = not is_study(given.results) and given.results.is_dir() and study_folders(given.results)
        if picture and (several or given.watch):
            print(
                f"python -m dashboards: -o {given.output} was given; a picture is of one study, and no page that can "
                "reload: name the study's own folder, without --watch, or a file that ends in .html",
                file=sys.stderr,
            )
            return EXIT_USAGE
        if given.watch:
            wait = until_parent_exits() if given.with_parent else time.sleep
            watch(given.results, given.output, every_s=given.every, wait=wait, say=partial(print, flush=True))
        elif several:
            print(write_index(given.results, given.output))
        elif picture:
            print(write_picture(load(given.results), given.output))
        else:
            print(write_report(load(given.results), given.output))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ResultsError, RecordError, SpecError, OSError) as error:
        print(f"python -m dashboards: {error}", file=sys.stderr)
        return EXIT_USAGE
    except Exception as error:  # a fault of ours, in whatever is computed or drawn
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"python -m dashboards: the page of {given.results} can't be made: {type(error).__name__}: {error} "
            f"({place.filename}, line {place.lineno}); the records are as they were.",
            file=sys.stderr,
        )
        return EXIT_NO_PAGE
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = command(
        "dashboards",
        "Rebuild the report of a study, or the index of several, from records alone. Nothing is trained.",
        _EXAMPLES,
    )
    parser.add_argument(
        "results",
        type=Path,
        metavar="FOLDER",
        help="folder that python -m study.run has written, or one that holds several of them",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: FOLDER/report.html, or FOLDER/index.html for several studies)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="rewrite the report whenever records have changed, until the study is done"
    )
    parser.add_argument(
        "--every", type=_seconds, default=EVERY_S, metavar="S", help=f"with --watch: every S seconds; default {EVERY_S}"
    )
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)  # see `dashboards.watch`
    return parser


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number of seconds from 1 is needed")
    return int(text)


if __name__ == "__main__":
    # A shell starts background jobs with SIGINT ignored; a watch must end on it there too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a folder's name may be no text
    execute(main)
