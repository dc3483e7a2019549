"""The options of ``python -m study.run``, and the sentence for each that is out of bounds."""

import argparse
from functools import partial
from pathlib import Path

from study.command_line import command, number, whole_number
from study.data.folders import DATA
from study.listeners.trackers import TRACKERS

_EXAMPLES = """\
examples:
  python -m study.run                          the default study, "quick", into results/quick
  python -m study.run my_study.toml --dry-run  what it would run and how long that would take
  python -m study.run --resume results/quick   go on where an interrupted study stopped
  python -m study.run --resume results/quick --retry-failed
                                               and run again what has failed
  python -m study.run quick --seed 1           the same study once more, independently: see study.replicate
  python -m study.run quick --replicates 4-7   a part of it, here; put the records together later
  python -m study.run claims                   thirteen published claims, one small study each, and their outcomes
  python -m study.run my_study.toml --address auto --gpus-per-trial 0.5
                                               on the Ray cluster of this machine, two runs a GPU
  python -m study.run my_study.toml --address auto --storage s3://bucket/study
                                               on a cluster that loses nodes: their runs go on elsewhere

exit codes: 0 done; 1 every run is done, and its findings or its report can't be made; 2 bad usage, spec or folder;
3 finished, but some runs failed; 130 interrupted, 143 terminated
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = command(
        "study.run",
        "Find out whether SAM, weight averaging or both help on your problem, how surely and at what cost.",
        _EXAMPLES,
    )
    add, flag = made.add_argument, partial(made.add_argument, action="store_true")
    above_0 = number("a number above 0", lambda value: value > 0)
    add("spec", nargs="?", metavar="SPEC", help='a TOML file or a built-in name; default "quick"')
    add("--out", type=_folder, metavar="DIR", help="results folder; default results/<spec name>")
    add("--resume", type=_folder, metavar="DIR", help="go on with the study of this results folder")
    flag("--retry-failed", help="run again what has failed; the old records are kept aside")
    flag(
        "--accept-changed-task",
        help="go on though the source of a task of your own has changed; findings and report will say so",
    )
    flag("--fresh", help="start anew; an existing folder is renamed, never deleted")
    flag("--dry-run", help="print the plan, its cost and estimated time; start nothing")
    add(
        "--data", type=_folder, metavar="DIR",
        help=f"folder of downloaded data; default ${DATA}, then ~/.cache/wasam-study, then Debian's dataset packages",
    )  # fmt: skip
    flag("--download", help="download data that are missing into that folder")
    add(
        "--seed", type=number("a whole number from 0 to below 2^32", lambda value: 0 <= value < 2**32, int),
        metavar="N",
        help="root of all random numbers, in place of the spec's; each makes an independent study with a folder of its "
        "own",
    )  # fmt: skip
    add(
        "--replicates", type=_numbers, metavar="A-B",
        help="run these replicates of the planned ones alone, such as 4-7; records of the same spec from elsewhere "
        "that are put into DIR/records count as its own",
    )  # fmt: skip
    add(
        "--sd", type=above_0, metavar="X",
        help="of --dry-run: standard deviation of a replicate's gain, in the metric's unit, to say what gain the "
        "replicates detect; default: as measured in the folder, or .006",
    )  # fmt: skip
    flag("--list", help="list the built-in studies")
    flag("--schema", help="print the JSON schema of a spec, for editors")
    add("--address", metavar="ADDR", help='join a Ray cluster ("auto", or host:port) instead of starting one')
    add("--cpus-per-trial", type=above_0, metavar="N", help="CPUs of each run; default 1")
    add(
        "--gpus-per-trial", type=number("a fraction up to 1 or a whole number", _is_share), metavar="X",
        help="GPUs of each run, may be a fraction; default 1 where the cluster has GPUs, else 0",
    )  # fmt: skip
    add("--max-concurrent", type=whole_number(), metavar="N", help="at most N runs side by side")
    add(
        "--storage", metavar="PATH",
        help="where runs are saved under way, for a lost node's to go on elsewhere: a folder or URI (s3://…) that all "
        "nodes reach; default DIR/ray on one machine, nowhere on a cluster",
    )  # fmt: skip
    add(
        "--hang-after", type=above_0, metavar="SECONDS",
        help="kill and retry a run that neither reports nor uses the CPU for so long; default 1800; one that uses the "
        "CPU, in a long epoch or in a loop without an end, has ten times as long until it reports",
    )  # fmt: skip
    for name, tracker in TRACKERS.items():
        add(f"--{name}", metavar=tracker.given, help=tracker.help)
    flag("--watch", help="rewrite the report while the study runs; open DIR/report.html once, it reloads itself")
    flag("--no-report", help="leave the report out; `python -m dashboards DIR` makes it later")
    flag("--quiet", help="print the report's path and nothing else")
    return made


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


def _is_share(value: float) -> bool:
    return 0 <= value <= 1 or (value > 1 and value == int(value))
