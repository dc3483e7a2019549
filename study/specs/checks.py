"""What must hold between the parts of a spec; what must hold within one is checked where that is declared.

Each check raises a ValueError with what was given, what is allowed and what to do.
"""

from collections.abc import Sequence

from study.records import Family
from study.specs.methods import Methods, unread_factors
from study.specs.problems import Problem, cell_factors
from study.specs.space import SearchSpace
from study.specs.tasks import RESERVED, is_own_task, kind_of_value


def check_kinds(problems: Sequence[Problem]) -> None:
    """Refuse a factor that is of another kind in another problem: it has one column in the results."""
    kinds: dict[str, tuple[str, str]] = {}
    for problem in problems:
        for name, value in cell_factors(problem)[0].items():
            kind = kind_of_value(value)
            before, task = kinds.setdefault(name, (kind, problem.task))
            if before != kind:
                raise ValueError(
                    f"factors.{name} was given {before} in {task!r} and {kind} in {problem.task!r}; the values of "
                    "a factor are of one kind in all problems: give one of the two another name"
                )


def check_that_cells_differ(problems: Sequence[Problem], families: Sequence[Family]) -> None:
    """Refuse cells that are the same under different names."""
    for problem in problems:
        own = is_own_task(problem.task)
        unread = [unread_factors(factors, families, own=own) for factors in cell_factors(problem)]
        for name, given in problem.varied.items():
            if all(name in cell for cell in unread):
                raise ValueError(
                    f"factors.{name} = {given} was given for {problem.task}; {unread[0][name]}, so that cells "
                    "would differ in their names alone: leave it out, or give one value"
                )


def check_deltas(problems: Sequence[Problem]) -> None:
    """Refuse different δ for the problems of one task."""
    for problem in problems:
        deltas = {other.delta for other in problems if other.task == problem.task}
        if len(deltas) > 1:
            given = " and ".join(sorted("none" if delta is None else f"{delta:g}" for delta in deltas))
            raise ValueError(
                f"delta = {given} was given for problems of the task {problem.task!r}; a task has one δ, in the "
                "unit of its metric: give all of its problems the same, or none"
            )


def check_search(search: SearchSpace, starts: Sequence[float], problems: Sequence[Problem]) -> None:
    """Refuse what is both searched and fixed, and a pruner that can prune nothing."""
    if search.weight_decay and any("weight_decay" in problem.factors for problem in problems):
        raise ValueError(
            "search.weight_decay and factors.weight_decay were both given; a value is either searched or fixed "
            "by the problem: leave one of them out"
        )
    epochs = (int(factors["epochs"]) for problem in problems for factors in cell_factors(problem))
    if search.pruner != "none" and not any(search.rungs(starts, number) for number in epochs):
        raise ValueError(
            f"search.pruner = {search.pruner!r} was given; no run may be stopped before its last average has "
            f"started, at {max(*starts, search.average_start.high, 0.0):g} of the epochs, and no epoch is left "
            "between that and the end: lower average_starts and search.average_start.high, or leave the pruner out"
        )


def check_ranges(search: SearchSpace, table: Methods) -> None:
    """Refuse ranges of a family that there is not, or of what it does not have."""
    for name, own in search.of.items():
        if name not in table.families:
            where = f": {name} trains as {table[name].family}" if name in table else ""
            raise ValueError(f"search.of.{name} was given; available are {', '.join(table.families)}{where}")
        family, why = table.families[name], ""
        fixed = dict(family.options)
        for option in own.given:
            if option in own.options and not family.brings_optimizer:
                why = "a built-in family has ranges of learning_rate, rho and weight_decay"
            elif option in own.options and option in (*RESERVED, "lr", "params"):
                why = (
                    "that is what the study itself calls something: the rate is learning_rate, and an argument of "
                    "that name can be fixed in the method's options alone"
                )
            elif option in fixed:
                why = f"methods.{name}.options fixes it: a value is either searched or fixed, leave one of them out"
            if why:
                raise ValueError(f"search.of.{name}.{option} was given; {why}")
