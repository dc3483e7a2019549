"""The options of ``python -m study.run``, and the sentence for each that is out of bounds."""

import argparse
from pathlib import Path

from study.data.folders import DATA
from study.listeners.trackers import TRACKERS

_EXAMPLES = """\
examples:
  python -m study.run                          the default study, "quick", into results/quick
  python -m study.run smoke --out /tmp/smoke   another built-in study, another folder
  python -m study.run my_study.toml --dry-run  what it would run and how long that would take
  python -m study.run --resume results/quick   go on where an interrupted study stopped
  python -m study.run --resume results/quick --retry-failed
                                               and run again what has failed
  python -m study.run quick --seed 1           the same study once more, independently: see study.replicate
  python -m study.run quick --replicates 4-7   a part of it, here; put the records together later
  python -m study.run quick --fresh            start again; the old folder is renamed, not deleted
  python -m study.run peers                    Schedule-Free and Muon, optimizers of other packages, against averages
  python -m study.run claims                   thirteen published claims, one small study each, and their outcomes
  python -m study.run atlas                    the parts of the atlas, each at most an hour on two idle cores
  python -m study.run my_study.toml --address auto --gpus-per-trial 0.5
                                               on the Ray cluster of this machine, two runs a GPU
  python -m study.run my_study.toml --address auto --storage s3://bucket/study
                                               on a cluster that loses nodes: their runs go on elsewhere

a spec names its methods in a list, or in a table with optimizers of your own or of any package:
  [methods.Lion]
  optimizer = "lion_pytorch:Lion"              # python -m study.new my_method.py --kind optimizer writes an example

exit codes: 0 done; 1 every run is done, and its findings or its report can't be made; 2 bad usage, spec or folder;
3 finished, but some runs failed; 130 interrupted, 143 terminated
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m study.run",
        description="Find out whether SAM, weight averaging or both help on your problem, how surely and at what cost.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("spec", nargs="?", metavar="SPEC", help='a TOML file or a built-in name; default "quick"')
    made.add_argument("--out", type=_folder, metavar="DIR", help="results folder; default results/<spec name>")
    made.add_argument("--resume", type=_folder, metavar="DIR", help="go on with the study of this results folder")
    made.add_argument(
        "--retry-failed", action="store_true", help="run again what has failed; the old records are kept aside"
    )
    made.add_argument(
        "--accept-changed-task", action="store_true",
        help="go on though the source of a task of your own has changed; findings and report will say so",
    )  # fmt: skip
    made.add_argument("--fresh", action="store_true", help="start anew; an existing folder is renamed, never deleted")
    made.add_argument(
        "--dry-run", action="store_true", help="print the plan, its cost and estimated time; start nothing"
    )
    made.add_argument(
        "--data", type=_folder, metavar="DIR",
        help=f"folder of downloaded data; default ${DATA}, then ~/.cache/wasam-study, then Debian's dataset packages",
    )  # fmt: skip
    made.add_argument("--download", action="store_true", help="download data that are missing into that folder")
    made.add_argument(
        "--seed", type=_seed, metavar="N",
        help="root of all random numbers, in place of the spec's; each makes an independent study with a folder of its "
        "own",
    )  # fmt: skip
    made.add_argument(
        "--replicates", type=_numbers, metavar="A-B",
        help="run these replicates of the planned ones alone, such as 4-7; records of the same spec from elsewhere "
        "that are put into DIR/records count as its own",
    )  # fmt: skip
    made.add_argument(
        "--sd", type=_positive_number, metavar="X",
        help="of --dry-run: standard deviation of a replicate's gain, in the metric's unit, to say what gain the "
        "replicates detect; default: as measured in the folder, or .006",
    )  # fmt: skip
    made.add_argument("--list", action="store_true", help="list the built-in studies")
    made.add_argument("--schema", action="store_true", help="print the JSON schema of a spec, for editors")
    made.add_argument(
        "--address", metavar="ADDR", help='join a Ray cluster ("auto", or host:port) instead of starting one'
    )
    made.add_argument(
        "--cpus-per-trial", type=_positive_number, metavar="N",
        help="CPUs of each run; default 1, or by measurement where CPUs would idle",
    )  # fmt: skip
    made.add_argument(
        "--gpus-per-trial", type=_share_of_gpus, metavar="X",
        help="GPUs of each run, may be a fraction; default 1 where the cluster has GPUs, else 0",
    )  # fmt: skip
    made.add_argument(
        "--scale", type=_positive_number, default=1.0, metavar="X",
        help="of a suite: multiply trials and replicates, for bigger machines; default 1",
    )  # fmt: skip
    made.add_argument("--max-concurrent", type=whole_number, metavar="N", help="at most N runs side by side")
    made.add_argument(
        "--storage", metavar="PATH",
        help="where runs are saved under way, for a lost node's to go on elsewhere: a folder or URI (s3://…) that all "
        "nodes reach; default DIR/ray on one machine, nowhere on a cluster",
    )  # fmt: skip
    made.add_argument(
        "--hang-after", type=_positive_number, metavar="SECONDS",
        help="kill and retry a run that neither reports nor uses the CPU for so long; default 1800; one that uses the "
        "CPU, in a long epoch or in a loop without an end, has ten times as long until it reports",
    )  # fmt: skip
    for name, tracker in TRACKERS.items():
        made.add_argument(f"--{name}", metavar=tracker.given, help=tracker.help)
    made.add_argument(
        "--watch", action="store_true",
        help="rewrite the report while the study runs; open DIR/report.html once, it reloads itself",
    )  # fmt: skip
    made.add_argument(
        "--no-report",
        action="store_true",
        help="leave the report out; `python -m dashboards DIR` makes it later",
    )
    made.add_argument("--quiet", action="store_true", help="print the report's path and nothing else")
    return made


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number from 0 to below 2^32 is needed")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} was given; numbers of replicates such as 4-7, from 1, are needed")
    return tuple(range(int(first), int(last) + 1))


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} was given; the path of a folder is needed")
    return Path(text)


def whole_number(text: str, least: int = 1) -> int:
    """Read a whole number from a command line.

    Raises:
        argparse.ArgumentTypeError: what is given is none, or too small.
    """
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number from {least} is needed")
    return int(text)


def _positive_number(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a number above 0 is needed")
    return value


def _share_of_gpus(text: str) -> float:
    value = _number(text)
    if value < 0 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} was given; a fraction up to 1 or a whole number is needed")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise argparse.ArgumentTypeError(f"{text!r} was given; a number is needed")
    return value
