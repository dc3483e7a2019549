"""What is run and what was measured: `Job`, `RunRecord`, and what lies between runs.

A run is done when its record exists. Records outlive the code that wrote them: a field that was added later is left
out of a job's hash while it stands at its default, so the run ids of older studies stay; and a record of an older
version is read through the migrations of `study.store.record_files`, whose matter their files are.
"""

import hashlib
import json
from dataclasses import fields, replace
from operator import attrgetter
from typing import Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

RECORD_VERSION: Final[Literal[4]] = 4  # of `RunRecord.schema_version`
METRICS = (
    "train_loss", "train_score", "val_loss", "val_score", "test_loss", "test_score",
    "val_calibration_error", "test_calibration_error",
)  # fmt: skip
FactorValue = bool | int | float | str


def kind_of(weights: str) -> str:
    """Return the kind of a set of weights: ``swa`` for ``swa@0.75``; ``last`` and ``best`` are their own kinds."""
    return weights.partition("@")[0]


class Configuration(NamedTuple):
    """What identifies a training but its seed: where, how and how long. Fields as in `Job`; the cell holds the factors.

    A configuration that validation picked and the runs that confirm it have it in common. What one replicate has picked
    is another configuration than the same numbers in another: the two are tested on other examples.
    """

    cell: str
    replicate: int
    family: str
    epochs_factor: float
    learning_rate: float
    rho: float
    average_start: float
    weight_decay: float | None
    options: tuple[tuple[str, float], ...] = ()

    @property
    def id(self) -> str:
        """A hash of it, 12 hex digits: what the frame's column ``configuration`` holds."""
        return hashlib.sha256(repr(tuple(self) if self.options else tuple(self)[:-1]).encode()).hexdigest()[:12]


_identifying = attrgetter(*Configuration._fields)


def configuration_of(tried: object) -> Configuration:
    """Return the configuration of a `Job`, or of a `study.plan.selection.Selection`."""
    return Configuration._make(_identifying(tried))


_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, **_STRICT)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Needs:
    """What an optimizer that is not built in needs of the training loop, as it was found out before the first run.

    Attributes:
        closure: Its step is handed a function that computes the loss and its gradient anew.
        gradients_first: The gradient is computed once before such a step; its closure adds the other passes.
        passes: Forward-backward passes of a step, on average; counted on the model.
        modes: It has a training and an evaluation mode of its own, between which the weights are moved.
        resumable: Its state survives being saved and loaded bit for bit, so that a run can go on in the middle.
    """

    closure: bool = False
    gradients_first: bool = False
    passes: float = 1.0
    modes: bool = False
    resumable: bool = True


OptionValue = bool | int | float | str | tuple[bool | int | float | str, ...]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Family:
    """One kind of trajectory: the base optimizer and how its gradient is perturbed.

    Attributes:
        base: The base optimizer: ``sgd`` (with momentum), ``adamw``, or ``package:Class`` of one that is not built in.
        rule: Perturbation of `wasam_core`: ``sam``, ``asam`` (the authors' rule); None for the plain gradient.
        norm_layers_only: Perturb the parameters of normalization layers alone (SAM-ON).
        micro_batches: Take the ascent on micro-batches of the cell's ``ascent_batch`` examples (m-sharpness).
        perturb_from: Share of the steps that pass before the first perturbed one.
        learning_rate_scale, rho_scale: The searched ranges are multiplied by these, because the scales of AdamW's
            rate and of ASAM's or a part's radius differ from SGD's and SAM's.
        source: Where it was published.
        options: Arguments of an optimizer that is not built in.
        around, around_options: What a two-pass one takes its steps with, named like ``base``, and the arguments; "":
            nothing.
        schedule: A learning-rate schedule of its own; "": the cell's.
        needs: What such an optimizer needs of the loop; None before that is known.
    """

    base: str
    rule: Literal["sam", "asam"] | None = None
    norm_layers_only: bool = False
    micro_batches: bool = False
    perturb_from: float = 0.0
    learning_rate_scale: float = 1.0
    rho_scale: float = 1.0
    source: str = ""
    options: tuple[tuple[str, OptionValue], ...] = ()
    around: str = ""
    around_options: tuple[tuple[str, OptionValue], ...] = ()
    schedule: str = ""
    needs: Needs | None = None

    @property
    def passes(self) -> float:
        """Forward-backward passes per optimizer step, on average over the run."""
        return (self.needs.passes if self.needs else 1.0) + (0.0 if self.rule is None else 1.0 - self.perturb_from)

    def trains_with(self, other: "Family") -> bool:
        """Tell whether two families take their steps with the same optimizer, arguments and schedule."""
        named = attrgetter("base", "options", "around", "around_options", "schedule")
        return bool(named(self) == named(other))

    @property
    def brings_optimizer(self) -> bool:
        """Whether its optimizer is not built in."""
        return ":" in self.base


def _without_defaults(family: Family) -> dict[str, object]:
    """Return what a family says that is not usual, so that a field that is added to it later changes no run id."""
    return {
        field.name: getattr(family, field.name)
        for field in fields(family)
        if getattr(family, field.name) != field.default
    }


# Fields of `Job` that it did not have from the beginning.
_ADDED_LATER = (
    "probe_evaluations", "weight_decay", "rungs", "stop_below", "replicate", "test_seed", "own_family", "options",
    "loop", "tested_of", "features",
)  # fmt: skip
_NOT_IN_ID = {"cell", "reads", "own_methods"}  # labels that can change when a study grows; how much is looked at


class Job(_Frozen):
    """All that decides what a run computes. Equal jobs give bit-identical measurements on one machine.

    Attributes:
        stage: ``tune`` (measured on validation, never sees test) or ``confirm`` (fresh seed, test, once).
        replicate: Number of the repetition of the whole procedure that it belongs to, from 1.
        test_seed: Root of the stream that the replicate's test part is drawn from; see `study.plan.replicates`.
        cell: The cell's readable name, unique within a study.
        task: Name in the task table.
        factors: Every factor of the cell, resolved, by name.
        family: The trajectory, a name in the study's table of families; see `study.specs.methods.Methods`.
        epochs_factor: 1, or more for the baseline under equal gradient evaluations or time, such as 2; multiplies
            ``factors["epochs"]`` and stretches the schedule.
        learning_rate: > 0.
        rho: Radius of the perturbation, ≥ 0; 0 makes the step the base step.
        average_start: The proposed start of averaging, as a fraction of the epochs, in (0, 1).
        average_starts: The fixed grid of starts that are averaged beside it.
        ema_decays: Decays per step of exponential moving averages, in [0, 1); empty unless a method reads them.
        lawa_windows: Epochs in the windows of latest-weights averages; empty unless a method reads them.
        probed: Kinds of weights whose sharpness is measured at the end, and that are kept for lines between runs: of
            each that one which validation prefers. (Jobs of older records name the weights themselves.)
        reads: Kinds of weights that somebody may read: of ``last``, ``best``, ``swa``, ``ema`` and ``lawa``. All of
            these kinds are measured on validation; in ``confirm`` the preferred one of each kind alone is tested.
        probe_evaluations: Gradient evaluations that probing one of them may take at most; 0: as many as it wants.
        features: Measure the `FEATURES` of the run, too.
        weight_decay: ≥ 0, where it is searched; None: the cell's factor holds.
        rungs: Epochs before the last at which all weights are measured on validation, where a pruner is asked for.
        stop_below: Triples (rung, kinds of weights such as ``last+swa``, validation score): the run is pruned at a rung
            where, of all kinds that are named for it, the best is below the score; see `study.plan.halving`.
        options: Searched arguments of an optimizer that is not built in, by name.
        own_family: What the family is, unless it is a built-in one: a run needs no spec.
        own_methods: By kind of weights, the methods that read it then.
        loop: The task is a loop of the user's own, which trains and measures by itself; see `study.tasks.loop`.
        tested_of: Kinds of weights of which a confirm run of such a loop tests the one set that validation prefers;
            empty of all others, where one of each kind in ``reads`` is tested.
        seed: Root of every named random stream of the run.
        trial: Position of the proposal in its search, from 0; None in ``confirm``.
        search: Which search proposed it (a family when trajectories are shared, a method otherwise); "" in
            ``confirm``.
    """

    stage: Literal["tune", "confirm"]
    cell: str
    task: str
    factors: dict[str, FactorValue]
    family: str
    epochs_factor: float = Field(ge=1)
    learning_rate: float = Field(gt=0)
    rho: float = Field(ge=0)
    average_start: float = Field(gt=0, lt=1)
    average_starts: tuple[float, ...] = ()
    ema_decays: tuple[float, ...] = ()
    lawa_windows: tuple[int, ...] = ()
    probed: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("last",)
    replicate: int = Field(default=1, ge=1)
    test_seed: int = Field(default=0, ge=0)
    seed: int = Field(ge=0)
    trial: int | None = None
    search: str = ""
    probe_evaluations: int = Field(default=0, ge=0)
    weight_decay: float | None = Field(default=None, ge=0)
    rungs: tuple[int, ...] = ()
    stop_below: tuple[tuple[int, str, float], ...] = ()
    options: tuple[tuple[str, float], ...] = ()
    own_family: Family | None = None
    own_methods: dict[str, str] = Field(default_factory=dict)
    loop: bool = False
    tested_of: tuple[str, ...] = ()
    features: bool = False

    @property
    def run_id(self) -> str:
        """Hash of all that decides a measurement: 16 hex digits."""
        content = {name: value for name, usual in _IN_ID.items() if (value := getattr(self, name)) != usual}
        if self.own_family:  # what its optimizer needs follows from what it is
            content["own_family"] = _without_defaults(replace(self.own_family, needs=None))
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What people call its run."""
        proposal = "" if self.trial is None else f" trial {self.trial}"
        return f"{self.family} {self.cell} {self.stage} seed {self.seed}{proposal}"

    @property
    def starts(self) -> tuple[float, ...]:
        """Starts of its SWA averages: the grid's and the proposed one, each once."""
        return tuple(dict.fromkeys((*self.average_starts, self.average_start)))

    @property
    def averages(self) -> tuple[str, ...]:
        """Names of the averages that it measures: SWA by start, then EMA, then LAWA."""
        names = (
            *(f"swa@{start!r}" for start in self.starts),
            *(f"ema@{decay!r}" for decay in self.ema_decays),
            *(f"lawa@{window}" for window in self.lawa_windows),
        )
        return tuple(name for name in names if kind_of(name) in self.reads)

    def measures(self, other: "Job") -> bool:
        """Return whether this job, of the same run, measures whatever another does."""
        return {*other.reads} <= {*self.reads}

    @property
    def searched_factors(self) -> dict[str, FactorValue]:
        """Factors whose value the search proposed in the cell's stead, and searched arguments of an optimizer."""
        decay: dict[str, FactorValue] = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return decay | dict(self.options)

    @property
    def epochs(self) -> int:
        """Epochs that this run trains: the cell's, times ``epochs_factor``, and no more than that: it is a ceiling.

        Protocol 1, whose runs have no ``test_seed``, rounded to the nearest.
        """
        stretched = int(self.factors["epochs"]) * self.epochs_factor
        return int(stretched + 1e-9) if self.test_seed else round(stretched)


# Fields that a run id is made of, with the value at which each is left out; no value is an Ellipsis.
_IN_ID = {
    name: field.default if name in _ADDED_LATER else ...
    for name, field in Job.model_fields.items()
    if name not in _NOT_IN_ID
}


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Measurement:
    """The metrics of one set of weights at the end of one epoch of one run.

    ``weights`` are ``last``, ``best`` or an average such as ``swa@0.75``; ``weights_epoch`` is the epoch that ``best``
    weights are from, None for all others. They are known as the best at the end, so ``epoch`` is the run's last.

    A study has far more of them than of anything else; as a model each would take three times the memory.

    Losses are the task's, for classification mean cross-entropies in nats. A score is the task's metric with the sign
    that makes higher better: for classification the accuracy, a fraction in [0, 1]. The calibration error (ECE, in
    [0, 1]) belongs to classification alone. ``train_*`` is measured in evaluation mode on a fixed subset of at most 500
    training examples with their (possibly noisy) labels. ``train_*`` and ``test_*`` are None in the tune stage; any
    metric may be None at epochs where it is not measured.
    """

    weights: str
    epoch: int = Field(ge=1)
    weights_epoch: int | None = Field(default=None, ge=1)
    train_loss: float | None = None
    train_score: float | None = None
    val_loss: float | None = None
    val_score: float | None = None
    test_loss: float | None = None
    test_score: float | None = None
    val_calibration_error: float | None = None
    test_calibration_error: float | None = None


class Probe(_Frozen):
    """One probe of one set of weights, at the end of a confirm run; it describes, and decides nothing.

    ``name`` is one of `PROBES`; ``low`` and ``high`` are the ends of its 95 % interval where it is estimated.
    """

    weights: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None


class LineRecord(_Frozen):
    """The loss along the straight line between the weights of two methods, one seed, BatchNorm recalibrated.

    ``alphas`` run from 0 (``start``'s weights) to 1 (``end``'s); losses are mean cross-entropies in nats.
    """

    cell: str
    replicate: int = 1
    seed: int
    start: str
    end: str
    alphas: tuple[float, ...]
    train_losses: tuple[float, ...]
    test_losses: tuple[float, ...]
    test_errors: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({*map(len, (self.alphas, self.train_losses, self.test_losses, self.test_errors))}) > 1:
            raise ValueError("alphas, train_losses, test_losses, test_errors must have equally many values")
        return self


class PlaneRecord(_Frozen):
    """The loss over the plane through three sets of weights of one seed, BatchNorm recalibrated at every point.

    Coordinates are distances in weight space; the origin is the first corner.

    Attributes:
        cell, replicate, seed: Whose weights they are.
        corners: Method, x and y of the baseline, of a perturbed method and of an average.
        x, y: Coordinates of the grid, ascending.
        train_losses, test_losses: One row a y, one value an x, in units of the task's loss.
        trajectories: By method (the first two corners), where the weights lay at some epochs, projected on the plane.
        off_plane: The same points' distances from the plane: the loss drawn beneath a point is its own only near 0.
        captured: Share of the trajectories' variance that lies in the plane, in [0, 1]; None without trajectories.
    """

    cell: str
    replicate: int = 1
    seed: int
    corners: tuple[tuple[str, float, float], ...] = Field(min_length=3, max_length=3)
    x: tuple[float, ...]
    y: tuple[float, ...]
    train_losses: tuple[tuple[float, ...], ...]
    test_losses: tuple[tuple[float, ...], ...]
    trajectories: dict[str, tuple[tuple[float, float], ...]] = Field(default_factory=dict)
    off_plane: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    captured: float | None = None


def changed_files(before: str, now: str) -> list[str]:
    """Return the names of the files that differ between two sources of a task, as `RunRecord.task_source` has them."""
    held, found = (dict(part.rpartition("=")[::2] for part in source.split()) for source in (before, now))
    return [name for name in dict.fromkeys((*found, *held)) if held.get(name) != found.get(name)]


PROBES = {
    "top_eigenvalue": "largest eigenvalue of the Hessian of the training loss",
    "trace": "trace of the Hessian of the training loss",
    "worst_case_rise": "largest rise of the training loss found within rho",
    "average_case_rise": "mean rise of the training loss under random perturbations of size rho",
}


# What describes a run of the baseline, so that others can be told apart by it; measured on the first training examples.
FEATURES = {
    **PROBES,
    "gradient_noise": "trace of the covariance of an example's gradient, at the end of training",
    "gradient_signal": "squared length of the expected gradient there; unbiased, so it may be below 0",
    "halfway_gradient_noise": "trace of the covariance of an example's gradient, half-way through training",
    "halfway_gradient_signal": "squared length of the expected gradient there, likewise",
    "memorized": "share of the wrong training labels that the network predicts, at the end of training",
}


class RunRecord(_Frozen):
    """What one run measured and what it cost.

    ``status``: ``completed``; ``diverged`` (a non-finite loss: its final measurements stand at chance level);
    ``failed`` (it raised or its process died: no measurements, the reason in ``error``); ``pruned`` (stopped at a rung
    of the tune stage: its measurements end there, and it can't be selected).
    Gradient evaluations count forward+backward passes in examples; forward evaluations count forward-only
    examples (BatchNorm passes and metrics). What the probes cost is billed apart, a forward as a third of a gradient
    evaluation. Seconds are wall-clock on a shared machine: stored, never compared.
    ``features`` are those of `FEATURES` that could be measured, where the job asks for them; older records have none.

    ``replicate`` is the job's, ``method`` the one that reads its trajectory's last weights. ``metric`` is what the task
    calls its score, in ``unit`` ("" for a plain number); where ``higher_is_better`` is false, scores are its negatives.
    ``task_source`` are the files of a user's own task with their hashes, as the run's process had imported them:
    ``my_task.py=0a1b2c3d4e5f``; "" of the built-in ones and of older records. ``own_sources`` are the same of a user's
    own optimizers and schedules, by name; those of installed packages have a version instead.

    ``val_examples`` are those that it was chosen by, 0 in older records. ``stream`` is a hash of what was trained on
    within the cell's epochs, where the training part is a stream, so that it can be told whether methods saw the same;
    ``inexact_resume``: it went on, after an interruption, with other examples of the stream than it had seen before.
    """

    schema_version: Literal[4] = RECORD_VERSION
    run_id: str
    spec_hash: str
    job: Job
    replicate: int = 1
    method: str = ""
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    task_source: str = ""
    own_sources: dict[str, str] = Field(default_factory=dict)
    val_examples: int = Field(default=0, ge=0)
    stream: str = ""
    inexact_resume: bool = False
    status: Literal["completed", "diverged", "failed", "pruned"]
    error: str | None = None
    measurements: tuple[Measurement, ...] = ()
    probes: tuple[Probe, ...] = ()
    features: dict[str, float] = Field(default_factory=dict)
    gradient_evaluations: int = Field(default=0, ge=0)
    forward_evaluations: int = Field(default=0, ge=0)
    probe_evaluations: float = Field(default=0.0, ge=0)
    skipped_steps: int = Field(default=0, ge=0)
    train_s: float = Field(default=0.0, ge=0)
    evaluate_s: float = Field(default=0.0, ge=0)
    wall_s: float = Field(default=0.0, ge=0)
    device: str = ""
    device_ids: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what no run measures, so that whoever reads a record need not doubt it."""
        if "epochs" not in self.job.factors:
            raise ValueError("a job without factors.epochs")
        stands = {(m.weights, m.epoch) for m in self.measurements}
        epochs = self.job.epochs
        if len(stands) < len(self.measurements):
            raise ValueError("two measurements of the same weights at the same epoch")
        if any(epoch > epochs for _, epoch in stands):
            raise ValueError(f"a measurement after the last epoch, {epochs}")
        if self.status == "failed" and stands:
            raise ValueError("measurements of a run that failed")
        if self.status == "pruned" and not stands:
            raise ValueError("a pruned run without a measurement")
        if self.status in ("completed", "diverged") and ("last", epochs) not in stands:
            raise ValueError(f"no measurement of the last weights at the last epoch, {epochs}")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """Source by name of all that is a user's own: the task, the optimizer, the schedule."""
        return ({self.job.task: self.task_source} if self.task_source else {}) | self.own_sources

    @property
    def last_epoch(self) -> int:
        """The epoch that it ended at: the job's last one, unless it was pruned."""
        return max(m.epoch for m in self.measurements) if self.status == "pruned" else self.job.epochs
