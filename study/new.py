"""``python -m study.new``: write an example task or loop and its spec, which run as they are and wait for your data."""

import importlib.util
import json
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from study.command_line import EXIT_DONE, command, execute, refused
from study.files import write_atomically
from study.templates import spelled_out


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of example: what it shows, what its spec says beside the task, and the function that this names."""

    about: str
    methods: tuple[str, ...] = ("SGD", "SWA", "SAM", "WASAM")
    score: str = "accuracy: 0.005 is half a percentage point"
    delta: str = "0.005"
    rate_note: str = ""
    size: str = "factors.train_size = 200 # as many as $function trains on"
    function: str = "build"
    factors: str = ""
    entries: str = ""
    question: str = "Do SAM and weight averaging help my model?"


_OF_ADAMW, _RATE_OF_ADAMW = ("AdamW", "AdamW+SWA", "AdamW+SAM", "AdamW+WASAM"), " # AdamW's is 0.04 times this"
_OWN_METHODS = """\
[methods.Sign]           # any optimizer as package:Class or module:function; see study/specs/README.md
optimizer = "$module:SignMomentum"
options = { momentum = 0.9 }
learning_rate = { low = 1e-4, high = 1e-1, log = true }
baseline = "SGD"         # whom it is held against

[methods."Sign+SWA"]     # what an entry leaves out is its optimizer's: average and perturb are switches on top
optimizer = "$module:SignMomentum"
options = { momentum = 0.9 }
average = "swa"          # none, swa, ema or lawa; perturb: none, sam, asam …
baseline = "SGD"

"""
KINDS = {
    "classification": Kind("a classification of tensors"),
    "regression": Kind("a number to predict, scored by R²", score="R²"),
    "multitask": Kind("dicts of targets and of outputs"),
    "detection": Kind("a list of boxes for each image; a metric that streams", score="F1, a fraction"),
    "segmentation": Kind("a class for each pixel, some of which don't count", score="IoU, a fraction"),
    "stream": Kind(
        "an IterableDataset: steps_per_epoch in the place of a length",
        size="factors.steps_per_epoch = 10 # in the place of a length",
    ),
    "tokens": Kind(
        "sequences, scored by the share of right next tokens", _OF_ADAMW, score="share of right tokens",
        rate_note=_RATE_OF_ADAMW,
    ),
    "transformers": Kind("a Dataset of dicts and a model of transformers", _OF_ADAMW, rate_note=_RATE_OF_ADAMW),
    "optimizer": Kind(
        "an optimizer and a schedule of your own, held against SGD", ("SGD", "SWA"), entries=_OWN_METHODS,
        question="Does my optimizer help, averaged or not?",
        factors='factors.schedule = ["cosine", "$module:one_cycle"] # a schedule of your own\n',
    ),
    "loop": Kind("a training loop of your own, which reports to the study", function="run"),
    "lightning": Kind(
        "the same for a LightningModule and its Trainer", function="run",
        factors="factors.gradient_accumulation_steps = 2 # Lightning's accumulate_grad_batches\n",
    ),
    "huggingface": Kind(
        "the same for a Hugging Face Trainer", _OF_ADAMW, rate_note=_RATE_OF_ADAMW, function="run"
    ),
}  # fmt: skip
_EXAMPLES = "\n".join(
    [
        "kinds:",
        *(f"  --kind {name:15} {kind.about}" for name, kind in KINDS.items()),
        "",
        "then, in the folder that holds the two files:",
        "  python -m study.run my_task.toml --dry-run   tries the task, prints the plan and its cost",
        "  python -m study.run my_task.toml             runs it as it is; put your data and model in, run it again",
    ]
)


class NewError(ValueError):
    """A file that can't be written: what was given, what is allowed, what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command(
        "study.new",
        "Write a commented example of a task, a loop or a method of your own, and a study of it.",
        _EXAMPLES,
    )
    parser.add_argument("path", type=Path, metavar="TASK.py", help="the file to write; a spec TASK.toml goes beside it")
    parser.add_argument("--kind", choices=KINDS, default="classification", help="default: classification")
    options = parser.parse_args(arguments)
    try:
        written = write_example(options.path, options.kind)
    except (NewError, OSError) as error:
        return refused(error)
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
        "methods": "" if chosen.entries else f"methods = {json.dumps(chosen.methods)}\n",
        "question": chosen.question,
        "entries": _entries(chosen, path.stem),
        "score": chosen.score,
        "delta": chosen.delta,
        "size": Template(chosen.size).substitute(function=chosen.function),
        "rate_note": chosen.rate_note,
        "function": chosen.function,
        "factors": Template(chosen.factors).substitute(module=path.stem),
    }
    text = Template((templates / "spec.toml").read_text(encoding="utf-8")).substitute(content)
    write_atomically(path, spelled_out((templates / f"{kind}.py").read_text(encoding="utf-8")))
    try:
        write_atomically(spec, text)
    except OSError:
        path.unlink()  # both or none: what is there is not overwritten when the command is given again
        raise
    return path, spec


def _entries(chosen: Kind, module: str) -> str:
    """Return the table of methods, if a kind has one: empty entries of the built-in ones first."""
    if not chosen.entries:
        return ""
    built_in = "".join(f"[methods.{name}]\n" for name in chosen.methods)
    return f"{built_in}\n{Template(chosen.entries).substitute(module=module)}"


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
    execute(main)
