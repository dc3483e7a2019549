"""Methods of a study's own: entries of the spec's table ``[methods.NAME]``, and the table that they make with the rest.

An entry names an optimizer and how its two switches stand: how the gradient is perturbed, and what average is read.
What it leaves out is its baseline's, where both train with the same optimizer.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, TypeAdapter

from study.records import Family, Needs, OptionValue
from study.specs.factors import FACTORS
from study.specs.methods import BUILT_IN, FAMILIES, METHODS, Method, Methods, WeightsKind
from study.specs.own_names import is_own_name
from study.specs.space import FamilyRanges, SearchRange, Strict, added_later, allowed

# How the gradient may be perturbed, by the built-in family that does it to SGD.
PERTURBATIONS: dict[str, Family] = {"none": FAMILIES["base"]} | {
    name: family for name, family in FAMILIES.items() if family.rule and family.base == "sgd"
}
# Built-in methods that others may be built on, and their base optimizers.
_BASES = {name: BUILT_IN.family_of(name).base for name in METHODS if BUILT_IN.is_baseline(name)}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+()-]{0,38}[A-Za-z0-9.+)])?", re.ASCII)
_SCHEDULE = FACTORS["schedule"]
_IMPORTED = 'it must be package:Class, such as "lion_pytorch:Lion", or a function of your own as "my_module:function"'
_OF_THE_STUDY = ("lr", "params", "model")  # arguments that it gives to an optimizer itself


def _is_optimizer(name: str) -> bool:
    return not name or is_own_name(name)


def _is_base(name: str) -> bool:
    return name in _BASES or _is_optimizer(name)


def _is_schedule(name: str) -> bool:
    return not name or _SCHEDULE.allows(name)


def _left_to_the_study(options: tuple[tuple[str, OptionValue], ...]) -> tuple[tuple[str, OptionValue], ...]:
    if taken := [option for option, _ in options if option in _OF_THE_STUDY]:
        raise ValueError(
            f"{taken[0]} was given; the study itself gives that to an optimizer, and its rate is learning_rate = "
            "{ low = …, high = …, log = true }, or one number that holds it fixed"
        )
    return options


Options = Annotated[
    tuple[tuple[str, OptionValue], ...],
    BeforeValidator(lambda given: tuple(given.items()) if isinstance(given, dict) else given),
    AfterValidator(_left_to_the_study),
    PlainSerializer(dict, return_type=dict[str, OptionValue]),
]


class OwnMethod(Strict):
    """One entry of ``[methods.NAME]``.

    Attributes:
        optimizer: ``package:Class``, or a function of the user's that returns an optimizer: called with the parameters
            and those of its arguments that the study knows. "": the baseline's.
        options: Arguments that are fixed.
        base: What a two-pass optimizer takes its steps with, where it has an argument ``base_optimizer``: ``SGD`` or
            ``AdamW``, with what the cell says, or ``package:Class``.
        base_options: Arguments of that.
        learning_rate: A range of its own, in place of the common one.
        schedule: A learning-rate schedule of its own, such as ``constant`` for an optimizer that needs none; "": the
            cell's.
        perturb: How its gradient is perturbed: a key of `PERTURBATIONS`.
        average: What average of its weights is read.
        baseline: The method that it is held against; "": see `own_table`.
    """

    optimizer: Annotated[str, allowed(_is_optimizer, _IMPORTED)] = added_later("")
    options: Options = added_later(())
    base: Annotated[str, allowed(_is_base, f"allowed are {', '.join(_BASES)}, or package:Class")] = added_later("")
    base_options: Options = added_later(())
    learning_rate: SearchRange | None = added_later(None)
    schedule: Annotated[str, allowed(_is_schedule, f"allowed is {_SCHEDULE.allowed}")] = added_later("")
    perturb: Annotated[str, allowed(PERTURBATIONS.__contains__, f"allowed are {', '.join(PERTURBATIONS)}")] = (
        added_later("none")
    )
    average: Literal["none", "swa", "ema", "lawa"] = added_later("none")
    baseline: str = added_later("")

    @property
    def weights(self) -> WeightsKind:
        """The weights that are read."""
        return "last" if self.average == "none" else self.average

    @property
    def is_plain(self) -> bool:
        """Whether both of its switches are off."""
        return self.perturb == self.average == "none"


def split_methods(given: Mapping[str, object]) -> tuple[list[str], dict[str, object]]:
    """Split the table ``[methods.NAME]`` into the names, in order, and the entries that are not built in."""
    own: dict[str, object] = {}
    taken = {name.casefold(): name for name in (*FAMILIES, *METHODS)}
    for name, entry in given.items():
        if name not in METHODS:
            _check_name(name, entry, taken)
            own[name] = entry
        elif entry != {}:
            raise ValueError(
                f"methods.{name} was given with settings; {name} is a built-in method, whose entry is empty: give "
                "one with settings a name of its own"
            )
    return list(given), own


def _check_name(name: str, entry: object, taken: dict[str, str]) -> None:
    """Refuse what is no name of an own method, or too near to one of those that are taken, to which it is added."""
    if entry == {}:
        raise ValueError(
            f"methods.{name} was given empty; {name!r} is no built-in method ({', '.join(METHODS)}): name its "
            'optimizer, such as optimizer = "lion_pytorch:Lion"'
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"methods.{name!r} was given; a method's name has letters, digits, blanks and . _ + - ( ), at most 40, "
            "and begins with a letter or a digit"
        )
    if name.endswith((" last", " best")) or name.casefold() == "baseline":
        raise ValueError(
            f"methods.{name!r} was given; {name.rpartition(' ')[2]!r} is what the study calls something else in its "
            "results: give it another name"
        )
    if (before := taken.setdefault(name.casefold(), name)) is not name:
        raise ValueError(
            f"methods.{name!r} was given, and there is {before!r} already, which differs in capital letters at "
            "most: give it another name"
        )


@cache
def own_table(own: tuple[tuple[str, OwnMethod], ...], needs: tuple[tuple[str, Needs], ...] = ()) -> Methods:
    """Return the built-in methods and families with a study's own.

    Methods whose trajectory is the same share its family, which is called like that one of them which reads the last
    weights, or else like the first. A plain entry without a baseline is one, unless it is built on a built-in method;
    one with a switch is held against the plain entry of its optimizer.

    Args:
        own: Names and entries.
        needs: What each family that is not built in was found to need, by its name.
    """
    if not own:
        return BUILT_IN
    entries, found = dict(own), dict(needs)
    baselines = {name: _baseline_of(name, entry, entries) for name, entry in own}
    trajectories = {name: _trajectory(_completed(name, entries, baselines)) for name in entries}
    names = {replace(family, source=""): name for name, family in FAMILIES.items()}
    for name, _ in sorted(own, key=lambda item: item[1].average != "none"):
        names.setdefault(trajectories[name], name)
    methods, families = dict(METHODS), dict(FAMILIES)
    for name, entry in own:
        family = names[trajectories[name]]
        method = Method(family, entry.weights, baselines[name])
        if same := next((other for other, one in methods.items() if one == method), None):
            raise ValueError(f"methods.{name} was given, which is the same as {same!r}: leave one of them out")
        methods[name] = method
        if family not in FAMILIES:
            families[family] = replace(trajectories[name], needs=found.get(family))
    return Methods(methods, families)


def table_in(spec: Mapping[str, object]) -> Methods:
    """Return the table of a study from its spec as plain data, such as findings hold it."""
    own = TypeAdapter(dict[str, OwnMethod]).validate_python(spec.get("own_methods") or {})
    needs = TypeAdapter(dict[str, Needs]).validate_python(spec.get("optimizers") or {})
    return own_table(tuple(own.items()), tuple(needs.items()))


def own_ranges(own: tuple[tuple[str, OwnMethod], ...], of: Mapping[str, FamilyRanges]) -> dict[str, FamilyRanges]:
    """Return the ranges of families with those of own methods: what their entries name, and then their baselines'."""
    table, found = own_table(own), dict(of)
    for name, entry in own:
        if entry.learning_rate is None:
            continue
        family = table[name].family
        before = found.get(family, FamilyRanges())
        if before.learning_rate not in (None, entry.learning_rate):
            raise ValueError(
                f"methods.{name}.learning_rate was given, and the trajectory that it reads has another range already, "
                f"that of {family!r}; give one of the two"
            )
        found[family] = before.model_copy(update={"learning_rate": entry.learning_rate})
    for name, _ in own:
        family, theirs = table[name].family, table[table[name].baseline].family
        alike = table.families[family].trains_with(table.families[theirs])
        if alike and theirs in found and table.families[family].brings_optimizer:
            found[family] = found.get(family, FamilyRanges()).or_of(found[theirs])
    return found


def _baseline_of(name: str, entry: OwnMethod, entries: Mapping[str, OwnMethod]) -> str:
    """Return the method that an own one is held against."""
    found = entry.baseline or _usual_baseline(name, entry, entries)
    if not _is_baseline(found, entries):
        listed = ", ".join((*_BASES, *(other for other in entries if _is_baseline(other, entries))))
        raise ValueError(
            f"methods.{name} was given baseline = {found!r}; a baseline perturbs and averages nothing and is itself "
            f"held against nothing; allowed are {listed}"
        )
    return found


def _is_baseline(name: str, entries: Mapping[str, OwnMethod]) -> bool:
    if name not in entries:
        return name in _BASES
    entry = entries[name]
    return entry.is_plain and (entry.baseline == name or (entry.baseline == "" and entry.base not in _BASES))


def _usual_baseline(name: str, entry: OwnMethod, entries: Mapping[str, OwnMethod]) -> str:
    if not entry.optimizer:
        raise ValueError(
            f'methods.{name} names neither an optimizer nor a baseline; give optimizer = "package:Class", or the '
            "baseline whose optimizer it takes"
        )
    if entry.is_plain:
        return entry.base if entry.base in _BASES else name
    alike = [other for other in entries if _is_baseline(other, entries) and entries[other].optimizer == entry.optimizer]
    if len(alike) != 1:
        raise ValueError(
            f"methods.{name} has no baseline, and {' and '.join(alike) or 'none'} would be one with its optimizer "
            f"{entry.optimizer!r}; say which method it is held against: baseline = …"
            + ("" if alike else ", or add an entry of that optimizer alone: [methods.NAME], optimizer = …")
        )
    return alike[0]


def _completed(name: str, entries: Mapping[str, OwnMethod], baselines: Mapping[str, str]) -> OwnMethod:
    """Return an entry with what it leaves out, from its baseline with the same optimizer."""
    entry, other = entries[name], entries.get(baselines[name])
    if baselines[name] == name or (other and entry.optimizer not in ("", other.optimizer)):
        return entry
    if other is None:
        if not entry.optimizer and (entry.options or entry.base or entry.base_options):
            raise ValueError(
                f"methods.{name} was given settings of an optimizer and none; name it, such as "
                'optimizer = "torch.optim:SGD"'
            )
        return entry if entry.optimizer else entry.model_copy(update={"base": baselines[name]})
    shared = ("optimizer", "options", "base", "base_options", "schedule")
    return entry.model_copy(update={key: getattr(entry, key) or getattr(other, key) for key in shared})


def _trajectory(entry: OwnMethod) -> Family:
    rule = replace(PERTURBATIONS[entry.perturb], source="", schedule=entry.schedule)
    if not entry.optimizer:
        built_in = _BASES[entry.base]
        scale = next(family.learning_rate_scale for family in FAMILIES.values() if family.base == built_in)
        return replace(rule, base=built_in, learning_rate_scale=scale)
    around = _BASES.get(entry.base, entry.base)
    return replace(rule, base=entry.optimizer, options=entry.options, around=around, around_options=entry.base_options)
