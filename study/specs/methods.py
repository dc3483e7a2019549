"""The methods: which gradient × which weights, two literal tables.

SGD, SWA, SAM and WASAM are the four corners of a 2×2; everything else is another setting of the same two switches.
A *family* is the trajectory that is trained. Averaging reads a trajectory without changing it, so one run of a family
answers for its last and for all of its averaged weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.records import FactorValue

Checkpoint = Literal["last", "best"]  # weights of one epoch: the last one, or the one that validation prefers
WeightsKind = Literal["last", "swa", "ema", "lawa"]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of trajectory: the base optimizer and how its gradient is perturbed.

    Attributes:
        base: The base optimizer: ``sgd`` (with momentum) or ``adamw``.
        rule: Perturbation of `wasam_core`: ``sam``, ``asam`` (the authors' rule); None for the plain gradient.
        norm_layers_only: Perturb the parameters of normalization layers alone (SAM-ON).
        micro_batches: Take the ascent on micro-batches of the cell's ``ascent_batch`` examples (m-sharpness).
        perturb_from: Share of the steps that pass before the first perturbed one.
        learning_rate_scale, rho_scale: The searched ranges are multiplied by these, because the scales of AdamW's
            rate and of ASAM's or a part's radius differ from SGD's and SAM's.
        source: Where it was published.
    """

    base: Literal["sgd", "adamw"]
    rule: Literal["sam", "asam"] | None = None
    norm_layers_only: bool = False
    micro_batches: bool = False
    perturb_from: float = 0.0
    learning_rate_scale: float = 1.0
    rho_scale: float = 1.0
    source: str = ""

    @property
    def passes(self) -> float:
        """Forward-backward passes per optimizer step, on average over the run."""
        return 1.0 if self.rule is None else 2.0 - self.perturb_from


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
        family: Name in `FAMILIES`.
        weights: ``last``: no averaging; the run keeps one of the spec's checkpoints. Otherwise validation chooses among
            all averages of that kind *and* these checkpoints, so that "no averaging" lies inside the space of every
            averaging method.
        baseline: The method it is held against: the plain gradient, under the same base optimizer.
    """

    family: str
    weights: WeightsKind
    baseline: str

    @property
    def passes(self) -> float:
        """Forward-backward passes per optimizer step."""
        return FAMILIES[self.family].passes


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
    if all(family.base != "sgd" for family in families):
        found["momentum"] = "SGD alone reads it, which is the base of no method"
    if not own and factors.get("model") == "mlp":
        found["norm"] = 'model = "mlp" has no normalization'
    if not own and not factors.get("label_noise"):
        found["validation_label_noise"] = "it is read where label_noise is above 0"
    return found


def is_baseline(method: str) -> bool:
    """Tell whether a method is what others are held against."""
    return METHODS[method].baseline == method


def last_of(family: str) -> str:
    """Return the method that reads the last weights of a family's trajectory."""
    return next(name for name, method in METHODS.items() if (method.family, method.weights) == (family, "last"))


def relative_passes(method: str) -> float:
    """Return the passes per step of a method, in those of its baseline."""
    return METHODS[method].passes / METHODS[METHODS[method].baseline].passes


def relative_time(method: str, reference_times: Mapping[str, float]) -> float:
    """Return the time of a method's step in that of its baseline's step, at least 1, from the time of a step by family.

    A family that is not named counts its passes.
    """
    own, base = (METHODS[name].family for name in (method, METHODS[method].baseline))
    ratio = reference_times.get(own, FAMILIES[own].passes) / reference_times.get(base, FAMILIES[base].passes)
    return max(1.0, round(ratio, 2))
