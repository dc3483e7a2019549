"""``python -m study.new``: write an example task and its spec, which run as they are and wait for your data."""

import argparse
import importlib.util
import keyword
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from study.files import write_atomically

EXIT_DONE, EXIT_USAGE = 0, 2
_EXAMPLES = """\
examples:
  python -m study.new my_task.py                      a classification of tensors: my_task.py and my_task.toml
  python -m study.new my_task.py --kind regression    a number to predict, scored by R²
  python -m study.new my_task.py --kind tokens        sequences, scored by the share of right next tokens
  python -m study.new my_task.py --kind huggingface   a Dataset of dicts and a model of transformers

then, in the folder that holds the two files:
  python -m study.run my_task.toml --dry-run          tries the task, prints the plan and its cost
  python -m study.run my_task.toml                    runs it as it is; put your data and model in, run it again
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of example: what the spec says beside the task."""

    methods: tuple[str, ...] = ("SGD", "SWA", "SAM", "WASAM")
    score: str = "accuracy: 0.005 is half a percentage point"
    rate_note: str = ""


KINDS = {
    "classification": Kind(),
    "regression": Kind(score="R²"),
    "tokens": Kind(
        ("AdamW", "AdamW+SWA", "AdamW+SAM", "AdamW+WASAM"), "share of right tokens", " # AdamW's is 0.04 times this"
    ),
    "huggingface": Kind(("AdamW", "AdamW+SWA", "AdamW+SAM", "AdamW+WASAM"), rate_note=" # AdamW's is 0.04 times this"),
}


class NewError(ValueError):
    """A file that can't be written: what was given, what is allowed, what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m study.new",
        description="Write a commented example of a task of your own, and a study of it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="TASK.py", help="the file to write; a spec TASK.toml goes beside it")
    parser.add_argument("--kind", choices=KINDS, default="classification", help="default: classification")
    options = parser.parse_args(arguments)
    try:
        written = write_example(options.path, options.kind)
    except (NewError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    for path in written:
        print(f"wrote {path}")
    place = "" if options.path.parent == Path() else f"cd {options.path.parent} && "
    print(f"run it: {place}python -m study.run {written[1].name}")
    return EXIT_DONE


def write_example(path: Path, kind: str) -> tuple[Path, Path]:
    """Write an example task and its spec; return their paths.

    Args:
        path: Where the task goes, such as ``my_task.py``; its spec goes beside it.
        kind: Name in `KINDS`.

    Raises:
        NewError: the name can't be a module's, or a file is there already; nothing was written.
    """
    spec = path.with_suffix(".toml")
    _check_name(path)
    for taken in (path, spec):
        if taken.exists():
            raise NewError(f"{taken} is there already and is not overwritten; give another name")
    templates, chosen = resources.files("study") / "templates", KINDS[kind]
    content = {
        "module": path.stem,
        "methods": ", ".join(f'"{name}"' for name in chosen.methods),
        "score": chosen.score,
        "rate_note": chosen.rate_note,
    }
    text = Template((templates / "spec.toml").read_text(encoding="utf-8")).substitute(content)
    write_atomically(path, (templates / f"{kind}.py").read_text(encoding="utf-8"))
    try:
        write_atomically(spec, text)
    except OSError:
        path.unlink()  # both or none: what is there is not overwritten when the command is given again
        raise
    return path, spec


def _check_name(path: Path) -> None:
    if (
        path.suffix != ".py"
        or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", path.stem)
        or keyword.iskeyword(path.stem)
    ):
        raise NewError(
            f"{path} was given; the file needs the name of a Python module, such as my_task.py: letters, digits and _"
        )
    if not path.parent.is_dir():
        raise NewError(f"{path} was given; there is no folder {path.parent}: make it first")
    if not path.exists() and importlib.util.find_spec(path.stem) is not None:
        raise NewError(f"{path} was given; Python has a module {path.stem!r} already: give another name")


if __name__ == "__main__":
    sys.exit(main())
