"""The methods: which gradient × which weights, two literal tables, and what a study makes of them.

SGD, SWA, SAM and WASAM are the four corners of a 2×2; everything else is another setting of the same two switches.
A *family* is the trajectory that is trained. Averaging reads a trajectory without changing it, so one run of a family
answers for its last and for all of its averaged weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.records import FactorValue, Family, Job

Checkpoint = Literal["last", "best"]  # weights of one epoch: the last one, or the one that validation prefers
WeightsKind = Literal["last", "swa", "ema", "lawa"]


FAMILIES: dict[str, Family] = {
    "base": Family("sgd"),
    "sam": Family("sgd", "sam", source="Foret et al. 2021, arXiv 2010.01412"),
    "asam": Family("sgd", "asam", rho_scale=10, source="Kwon et al. 2021, arXiv 2102.11600"),
    "sam-on": Family("sgd", "sam", norm_layers_only=True, rho_scale=5, source="Müller et al. 2023, arXiv 2306.04226"),
    "m-sam": Family("sgd", "sam", micro_batches=True, source="Foret et al. 2021, section 4.1"),
    "late-sam": Family("sgd", "sam", perturb_from=0.8, source="Zhou et al. 2025, arXiv 2410.10373"),
    "adamw": Family("adamw", learning_rate_scale=0.04, source="Loshchilov & Hutter 2019, arXiv 1711.05101"),
    "adamw-sam": Family("adamw", "sam", learning_rate_scale=0.04, source="Foret et al. 2021"),
}


@dataclass(frozen=True, slots=True)
class Method:
    """A trajectory and the weights that are read from it.

    Attributes:
        family: Name of the trajectory's `Family` in the study's table.
        weights: ``last``: no averaging; the run keeps one of the spec's checkpoints. Otherwise validation chooses among
            all averages of that kind *and* these checkpoints, so that "no averaging" lies inside the space of every
            averaging method.
        baseline: The method it is held against: the plain gradient, under the same base optimizer.
    """

    family: str
    weights: WeightsKind
    baseline: str


METHODS: dict[str, Method] = {
    "SGD": Method("base", "last", "SGD"),
    "SWA": Method("base", "swa", "SGD"),
    "EMA": Method("base", "ema", "SGD"),
    "LAWA": Method("base", "lawa", "SGD"),
    "SAM": Method("sam", "last", "SGD"),
    "WASAM": Method("sam", "swa", "SGD"),
    "SAM+EMA": Method("sam", "ema", "SGD"),
    "SAM+LAWA": Method("sam", "lawa", "SGD"),
    "ASAM": Method("asam", "last", "SGD"),
    "ASAM+SWA": Method("asam", "swa", "SGD"),
    "SAM-ON": Method("sam-on", "last", "SGD"),
    "SAM-ON+SWA": Method("sam-on", "swa", "SGD"),
    "m-SAM": Method("m-sam", "last", "SGD"),
    "m-SAM+SWA": Method("m-sam", "swa", "SGD"),
    "late SAM": Method("late-sam", "last", "SGD"),
    "late SAM+SWA": Method("late-sam", "swa", "SGD"),
    "AdamW": Method("adamw", "last", "AdamW"),
    "AdamW+SWA": Method("adamw", "swa", "AdamW"),
    "AdamW+EMA": Method("adamw", "ema", "AdamW"),
    "AdamW+SAM": Method("adamw-sam", "last", "AdamW"),
    "AdamW+WASAM": Method("adamw-sam", "swa", "AdamW"),
}


@dataclass(frozen=True)
class Methods:
    """A table of methods and of their families: the built-in ones, and a study's own beside them.

    It is asked by name: ``table["SWA"]`` is a `Method`, ``"SWA" in table``, and iterating yields the names in order.

    Attributes:
        methods: By name, in the order in which they are shown.
        families: By name.
    """

    methods: Mapping[str, Method]
    families: Mapping[str, Family]

    def __getitem__(self, method: str) -> Method:
        return self.methods[method]

    def __contains__(self, method: object) -> bool:
        return method in self.methods

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def family_of(self, method: str) -> Family:
        """Return the trajectory that a method reads."""
        return self.families[self.methods[method].family]

    def is_baseline(self, method: str) -> bool:
        """Tell whether a method is what others are held against."""
        return self.methods[method].baseline == method

    def last_of(self, family: str) -> str:
        """Return the method that reads the last weights of a family's trajectory; without one, the family's first."""
        return self.reading(family)["last"]

    def averages_of(self, family: str) -> list[str]:
        """Return the methods that average a family's weights."""
        return [name for name, one in self.methods.items() if one.family == family and one.weights != "last"]

    def reading(self, family: str) -> dict[str, str]:
        """Return the methods that read a family's trajectory, by kind of weights; `last_of` stands at ``last``."""
        found: dict[str, str] = {}
        for name, one in self.methods.items():
            if one.family == family:
                found.setdefault(one.weights, name)
        return {"last": next(iter(found.values())), **found}

    def relative_passes(self, method: str) -> float:
        """Return the passes per step of a method, in those of its baseline."""
        return self.family_of(method).passes / self.family_of(self.methods[method].baseline).passes

    def relative_time(self, method: str, reference_times: Mapping[str, float]) -> float:
        """Return the time of a method's step in that of its baseline's, at least 1, from the time of a step by family.

        A family that is not named counts its passes.
        """
        own, base = (self.methods[name].family for name in (method, self.methods[method].baseline))
        times = {name: reference_times.get(name, self.families[name].passes) for name in (own, base)}
        return max(1.0, round(times[own] / times[base], 2))


BUILT_IN = Methods(METHODS, FAMILIES)


def family_of(job: Job) -> Family:
    """Return the trajectory of a job: a built-in one, or what it brings itself."""
    return job.own_family or FAMILIES[job.family]


def schedule_name(job: Job) -> str:
    """Return the name of the learning-rate schedule that a job follows: its method's own, or the cell's."""
    return family_of(job).schedule or str(job.factors["schedule"])


def methods_reading(job: Job) -> Mapping[str, str]:
    """Return the methods that read a job's trajectory, by kind of weights: ``last``, ``swa`` …; ``last`` is there."""
    return job.own_methods if job.own_family else BUILT_IN.reading(job.family)


def unread_factors(factors: Mapping[str, FactorValue], families: Sequence[Family], *, own: bool) -> dict[str, str]:
    """Return the factors of a cell that nothing reads, with the reason.

    Args:
        factors: The cell's.
        families: Of the study's methods.
        own: The task is a user's own, whose function reads what is not of the training.
    """
    found = {}
    if not any(family.micro_batches for family in families):
        found["ascent_batch"] = "m-SAM alone reads it, which is none of the methods"
    if not any("sgd" in (family.base, family.around) for family in families):
        found["momentum"] = "SGD alone reads it, which is the base of no method"
    if not own and factors.get("model") == "mlp":
        found["norm"] = 'model = "mlp" has no normalization'
    if not own and not factors.get("label_noise"):
        found["validation_label_noise"] = "it is read where label_noise is above 0"
    return found
