"""Methods of a study's own: entries of the spec's table ``[methods.NAME]``, and the table that they make with the rest.

An entry names an optimizer and how its two switches stand: how the gradient is perturbed, and what average is read.
What it leaves out is its baseline's, where both train with the same optimizer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from study.records import Family, Needs, OptionValue
from study.specs.factors import FACTORS
from study.specs.methods import BUILT_IN, FAMILIES, METHODS, Method, Methods, WeightsKind
from study.specs.own_names import is_own_name
from study.specs.space import FamilyRanges, SearchRange, Strict, added_later

# How the gradient may be perturbed, by the built-in family that does it to SGD.
PERTURBATIONS: dict[str, Family] = {"none": FAMILIES["base"]} | {
    name: family for name, family in FAMILIES.items() if family.rule and family.base == "sgd"
}
# Built-in methods that others may be built on, and their base optimizers.
_BASES = {name: BUILT_IN.family_of(name).base for name in METHODS if BUILT_IN.is_baseline(name)}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+()-]{0,38}[A-Za-z0-9.+)])?", re.ASCII)

Options = Annotated[
    tuple[tuple[str, OptionValue], ...],
    BeforeValidator(lambda given: tuple(given.items()) if isinstance(given, dict) else given),
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

    optimizer: str = added_later("")
    options: Options = added_later(())
    base: str = added_later("")
    base_options: Options = added_later(())
    learning_rate: SearchRange | None = added_later(None)
    schedule: str = added_later("")
    perturb: str = added_later("none")
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
    """Split the table ``[methods.NAME]`` into the names, in order, and the entries that are not built in.

    Raises:
        ValueError: a name that can't be one, or a built-in one with settings.
    """
    own = {}
    for name, entry in given.items():
        if name in METHODS:
            if entry != {}:
                raise ValueError(
                    f"methods.{name} was given with settings; {name} is a built-in method, whose entry is empty: give "
                    "one with settings a name of its own"
                )
            continue
        if entry == {}:
            raise ValueError(
                f"methods.{name} was given empty; {name!r} is no built-in method ({', '.join(METHODS)}): name its "
                'optimizer, such as optimizer = "lion_pytorch:Lion"'
            )
        _check_name(name)
        own[name] = entry
    _check_distinct(list(own))
    return list(given), own


def _check_name(name: str) -> None:
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


def _check_distinct(names: Sequence[str]) -> None:
    taken = {name.casefold(): name for name in (*FAMILIES, *METHODS)}
    for name in names:
        before = taken.setdefault(name.casefold(), name)
        if before is not name:
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

    Raises:
        ValueError: in one sentence, what does not fit.
    """
    if not own:
        return BUILT_IN
    entries, found = dict(own), dict(needs)
    baselines = {name: _baseline_of(name, entry, entries) for name, entry in own}
    trajectories = {name: _trajectory(name, _completed(name, entries, baselines)) for name in entries}
    names = {family: name for name, family in FAMILIES.items()}
    names = {replace(family, source=""): name for family, name in names.items()}
    for plainly in (True, False):
        for name, entry in own:
            if plainly == (entry.average == "none"):
                names.setdefault(trajectories[name], name)
    methods, families = dict(METHODS), dict(FAMILIES)
    read: dict[tuple[str, str, str], str] = {
        (one.family, one.weights, one.baseline): name for name, one in METHODS.items()
    }
    for name, entry in own:
        family = names[trajectories[name]]
        same = read.setdefault((family, entry.weights, baselines[name]), name)
        if same != name:
            raise ValueError(f"methods.{name} was given, which is the same as {same!r}: leave one of them out")
        methods[name] = Method(family, entry.weights, baselines[name])
        if family not in FAMILIES:
            families[family] = replace(trajectories[name], needs=found.get(family))
    return Methods(methods, families)


def table_in(spec: Mapping[str, object]) -> Methods:
    """Return the table of a study from its spec as plain data, such as findings hold it."""
    given = {name: spec.get(name) or {} for name in ("own_methods", "optimizers")}
    own = TypeAdapter(dict[str, OwnMethod]).validate_python(given["own_methods"])
    needs = TypeAdapter(dict[str, Needs]).validate_python(given["optimizers"])
    return own_table(tuple(own.items()), tuple(needs.items()))


def own_ranges(own: tuple[tuple[str, OwnMethod], ...], of: Mapping[str, FamilyRanges]) -> dict[str, FamilyRanges]:
    """Return the ranges of families with those of own methods: what their entries name, and then their baselines'.

    Args:
        own: Names and entries.
        of: Ranges that the spec gives to families.

    Raises:
        ValueError: a range is given twice.
    """
    table, entries, found = own_table(own), dict(own), dict(of)
    for name, entry in own:
        family = table[name].family
        before = found.get(family, FamilyRanges())
        if entry.learning_rate is None:
            continue
        if before.learning_rate not in (None, entry.learning_rate):
            raise ValueError(
                f"methods.{name}.learning_rate was given, and the trajectory that it reads has another range already, "
                f"that of {family!r}; give one of the two"
            )
        found[family] = before.model_copy(update={"learning_rate": entry.learning_rate})
    for name in entries:
        family, theirs = table[name].family, table[table[name].baseline].family
        alike = table.families[family].trains_with(table.families[theirs])
        if alike and theirs in found and table.families[family].brings_optimizer:
            found[family] = found.get(family, FamilyRanges()).or_of(found[theirs])
    return found


def _baseline_of(name: str, entry: OwnMethod, entries: Mapping[str, OwnMethod]) -> str:
    """Return the method that an own one is held against."""
    found = entry.baseline or _usual_baseline(name, entry, entries)
    if found == name:
        if not entry.is_plain:
            raise ValueError(
                f"methods.{name} was given baseline = {found!r}; one that perturbs or averages is held against another "
                "method, whose switches are off"
            )
        return found
    if found in METHODS:
        if not BUILT_IN.is_baseline(found):
            raise ValueError(
                f"methods.{name} was given baseline = {found!r}, which is held against "
                f"{METHODS[found].baseline!r} itself; allowed are {_listed(entries)}"
            )
        return found
    if found not in entries:
        raise ValueError(f"methods.{name} was given baseline = {found!r}; allowed are {_listed(entries)}")
    other = entries[found]
    usual = found if other.is_plain and other.base not in _BASES else other.base or "another"
    above = other.baseline or usual
    if above != found:
        raise ValueError(
            f"methods.{name} was given baseline = {found!r}, which is held against {above} itself; a baseline is "
            f"held against nothing: leave the baseline of {found!r} out, or name one of {_listed(entries)}"
        )
    return found


def _listed(entries: Mapping[str, OwnMethod]) -> str:
    plain = [name for name, entry in entries.items() if entry.is_plain and entry.baseline in ("", name)]
    return ", ".join((*(name for name in METHODS if BUILT_IN.is_baseline(name)), *plain))


def _usual_baseline(name: str, entry: OwnMethod, entries: Mapping[str, OwnMethod]) -> str:
    if not entry.optimizer:
        raise ValueError(
            f'methods.{name} names neither an optimizer nor a baseline; give optimizer = "package:Class", or the '
            "baseline whose optimizer it takes"
        )
    if not entry.is_plain:
        plain = [
            other for other, one in entries.items()
            if one.is_plain and one.optimizer == entry.optimizer and one.baseline in ("", other)
        ]  # fmt: skip
        if len(plain) != 1:
            raise ValueError(
                f"methods.{name} has no baseline, and {len(plain) or 'no'} plain "
                f"{'entry has' if len(plain) == 1 else 'entries have'} its optimizer {entry.optimizer!r}; say which "
                "method it is held against: baseline = …"
            )
        return plain[0]
    return entry.base if entry.base in _BASES else name


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


def _trajectory(name: str, entry: OwnMethod) -> Family:
    if entry.perturb not in PERTURBATIONS:
        raise ValueError(
            f"methods.{name} was given perturb = {entry.perturb!r}; allowed are {', '.join(PERTURBATIONS)}"
        )
    if entry.schedule:
        FACTORS["schedule"].check("schedule", entry.schedule, f"methods.{name}.schedule")
    rule = replace(PERTURBATIONS[entry.perturb], source="", schedule=entry.schedule)
    if not entry.optimizer:
        built_in = _BASES[entry.base]
        scale = next(family.learning_rate_scale for family in FAMILIES.values() if family.base == built_in)
        return replace(rule, base=built_in, learning_rate_scale=scale)
    if not is_own_name(entry.optimizer):
        raise ValueError(
            f"methods.{name} was given optimizer = {entry.optimizer!r}; it must be package:Class, such as "
            '"lion_pytorch:Lion", or a function of your own as "my_module:function"'
        )
    if entry.base and entry.base not in _BASES and not is_own_name(entry.base):
        raise ValueError(
            f"methods.{name} was given base = {entry.base!r}; allowed are {', '.join(_BASES)}, or package:Class"
        )
    for key, given in (("options", entry.options), ("base_options", entry.base_options)):
        if taken := [option for option, _ in given if option in ("lr", "params", "model")]:
            raise ValueError(
                f"methods.{name}.{key}.{taken[0]} was given; the study itself gives that to an optimizer, and its rate "
                "is learning_rate = { low = …, high = …, log = true }, or one number that holds it fixed"
            )
    around = _BASES.get(entry.base, entry.base)
    return replace(rule, base=entry.optimizer, options=entry.options, around=around, around_options=entry.base_options)
