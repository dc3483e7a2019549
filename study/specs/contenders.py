"""Contenders: who is held against whom, and what each may use. Read off a spec alone.

A method is held against every baseline that its budget contains: the plain gradient with its last weights and with its
best epoch, each at the cell's epochs and, where the budget allows it, at as many as the ceiling buys; each tuned on
its own. Methods on the plain gradient may use both lengths themselves, and validation picks one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from study.specs.budgets import Budget
from study.specs.methods import Method
from study.specs.spec import StudySpec


@dataclass(frozen=True, slots=True)
class Contender:
    """A method with what it may use; validation picks its configuration, and in every run its weights.

    Attributes:
        method: Name of the method.
        entry: Its entry in the study's table.
        reads: The kinds of weights that it may read: of ``last``, ``best``, ``swa``, ``ema``, ``lawa``.
        lengths: The training lengths that it may use, in multiples of the cell's epochs, ascending.
    """

    method: str
    entry: Method
    reads: tuple[str, ...]
    lengths: tuple[float, ...]

    @property
    def family(self) -> str:
        """The trajectory that it reads."""
        return self.entry.family

    @property
    def is_baseline(self) -> bool:
        """Whether others are held against it."""
        return self.entry.baseline == self.method

    @property
    def average(self) -> str | None:
        """The kind of average that it may read; None if it does not average."""
        return None if self.entry.weights == "last" else self.entry.weights

    @property
    def role(self) -> str:
        """What it is called whatever its length: ``SGD best`` for a baseline, the method's name for others."""
        return f"{self.method} {self.reads[0]}" if self.is_baseline else self.method

    @property
    def name(self) -> str:
        """What it is called: ``SGD best, 2× epochs`` for a baseline, the method's name for others."""
        longer = f", {self.lengths[0]:g}× epochs" if self.is_baseline and self.lengths[0] != 1 else ""
        return f"{self.role}{longer}"


def contender(spec: StudySpec, method: str, budget: Budget) -> Contender:
    """Return a method with what it may use under a budget."""
    what = spec.table[method]
    reads = (*spec.weights, *((what.weights,) if what.weights != "last" else ()))
    cheap = spec.table.relative_passes(method) == 1 and budget != "T"  # T is the time of a method at the cell's epochs
    plain = cheap and spec.protocol > 1
    return Contender(method, what, reads, baseline_lengths(spec, method, budget) if plain else (1.0,))


def at_equal_epochs(spec: StudySpec, method: str) -> Contender:
    """Return a method at the cell's epochs; of a baseline, with the last of the spec's kinds of weights."""
    if spec.table.is_baseline(method):
        return baseline_with(spec, method, spec.weights[-1])
    return contender(spec, method, "E")


def baseline_with(spec: StudySpec, method: str, kind: str, length: float = 1.0) -> Contender:
    """Return a method's baseline with one kind of weights, at one length."""
    name = spec.table[method].baseline
    return Contender(name, spec.table[name], (kind,), (length,))


def baselines(spec: StudySpec, method: str, budget: Budget) -> tuple[Contender, ...]:
    """Return all that a method is held against under a budget."""
    return tuple(
        baseline_with(spec, method, kind, length)
        for length in baseline_lengths(spec, method, budget)
        for kind in spec.weights
    )


def baseline_lengths(spec: StudySpec, method: str, budget: Budget) -> tuple[float, ...]:
    """Return the lengths at which a method's baseline is tuned under a budget: the cell's, and what the ceiling buys.

    Protocol 1 held a method against one length alone: that which spends what the method spends.
    """
    time = spec.table.relative_time(method, spec.reference_times)
    if spec.protocol == 1:
        return ({"E": 1.0, "G": spec.table.relative_passes(method), "T": time}[budget],)
    ceiling = {"E": 1.0, "G": spec.gradient_ceiling, "T": time}[budget]
    return tuple(length for length in dict.fromkeys((1.0, ceiling)) if trials_at(spec, length))


def trials_at(spec: StudySpec, length: float) -> int:
    """Return the trials of a search at a length.

    Where a method has k trials at twice the price, the base has k at the cell's epochs and, under a ceiling of c, the
    first ⌊k(c − 1)/c⌋ of them once more at c times the epochs: as much in all.
    """
    trials = spec.search.trials
    return trials if length == 1 or spec.protocol == 1 else int(trials * (length - 1) / length + 1e-9)


def contenders(spec: StudySpec) -> tuple[Contender, ...]:
    """Return every contender of a study once: the baselines first, then the methods in the spec's order."""
    others = others_of(spec)
    held_against = (found for method in others for budget in spec.budgets for found in baselines(spec, method, budget))
    first = (baseline_with(spec, m, kind) for m in spec.methods if spec.table.is_baseline(m) for kind in spec.weights)
    judged = (contender(spec, method, budget) for method in others for budget in spec.budgets)
    return tuple(dict.fromkeys((*first, *held_against, *judged)))


def others_of(spec: StudySpec) -> tuple[str, ...]:
    """Return the methods that are held against a baseline."""
    return tuple(method for method in spec.methods if not spec.table.is_baseline(method))


def kinds_read(some: Iterable[Contender]) -> tuple[str, ...]:
    """Return the kinds of weights that contenders read, ``last`` first: a run is always measured at its end."""
    return tuple(dict.fromkeys(("last", *(kind for one in some for kind in one.reads))))
