"""``python -m study.atlas``: say what the parts say, and add a finished study to them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from study.atlas.adding import part_of
from study.atlas.card import all_answers, front, write_card
from study.atlas.domains import DOMAINS
from study.atlas.frames import PARTS
from study.atlas.part import write_part
from study.command_line import execute, refused
from study.specs.spec import SpecError
from study.store.folder import ResultsError
from study.store.record_files import RecordError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "add":
            return _add(options)
        if options.command == "card":
            write_card()
        else:
            print(front(options.parts) if options.summary else all_answers(options.parts), end="")
        return 0
    except (SpecError, ResultsError, RecordError, OSError) as error:
        return refused(error)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m study.atlas",
        description='The atlas: gains of many studies, replicate by replicate; in Python `study.load("atlas")`.',
        epilog="A part is a study such as `python -m study.run atlas/digits`; see study/atlas/README.md.",
    )
    commands = made.add_subparsers(dest="command", required=True)
    for name, text in (
        ("answers", "say what the parts say, as Markdown"),
        ("card", "write the data card and the front page's sentences on the shipped parts anew"),
        ("add", "add a finished study as a part, after checks"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--parts",
            type=Path,
            default=PARTS,
            metavar="DIR",
            help="folder of the parts; default: those of the program",
        )
        if name == "answers":
            command.add_argument("--summary", action="store_true", help="in three sentences, as on the front page")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of the study")
    command.add_argument(
        "--domain", metavar="NAME",
        help=f"kind of data of tasks of your own, such as {', '.join(dict.fromkeys(DOMAINS.values()))}",
    )  # fmt: skip
    return made


def _add(options: argparse.Namespace) -> int:
    part = part_of(options.folder, options.domain)
    path = write_part(part, options.parts)
    if options.parts == PARTS:
        write_card()
    size = sum(file.stat().st_size for file in path.parent.glob(f"{part.facts.name}.*.parquet"))
    print(f"{path}: {len(part.facts.cells)} cells, {part.facts.asked.replicates} replicates, {size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    execute(main)
