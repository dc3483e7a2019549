"""A loop of one's own: ``my_package.my_module:run``, called as ``run(trial)`` once a run; it reports what it measures.

Whatever trains may stand in it. The study proposes, pairs seeds, keeps budgets, decides and concludes; the loop trains
with what the `Trial` says, and reports to it. Search and findings treat the reports like measurements of their own.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any, NoReturn

from torch import nn

from study.data.pool import TaskError
from study.plan.halving import stopped
from study.plan.selection import preferred_at
from study.records import Job, Measurement, kind_of
from study.specs.schedules import Schedule
from study.tasks.own import Handed, arguments_of, own_function
from wasam_core import WeightAverages

_LARGEST = 1e300  # scores beyond it are no numbers to calculate with


class StopTraining(BaseException):  # no Exception, so that it passes through a loop's `except Exception`
    """The run ends here, because it was pruned or has diverged; a loop need not know of it."""


class LoopError(TaskError):
    """A loop that does not keep to the contract; one sentence."""


@dataclass(frozen=True, slots=True)
class LoopMetric:
    """What a loop's scores are: its module holds one under the name ``metric``.

    Attributes:
        name: As people call it, such as ``accuracy`` or ``return``.
        guess: What somebody gets who learns nothing, finite: a run that diverges counts like that.
        higher_is_better: If not, a lower score is the better one.
        unit: Of its values, such as ``k$`` or ``nats``; ``fraction`` of a share that is written in percent; "" for a
            plain number.
    """

    name: str
    guess: float
    higher_is_better: bool = True
    unit: str = ""

    def signed(self, value: float) -> float:
        """Return a value with the sign that makes higher better."""
        return value if self.higher_is_better else -value


def is_loop(name: str) -> bool:
    """Tell whether a user's function is a loop: the one argument that it must be given is called ``trial``.

    That of a task takes a seed and factors.

    Raises:
        TaskError: it is not there.
    """
    return arguments_of(own_function(name)) == ["trial"]


def load_loop(name: str) -> tuple[Callable[["Trial"], object], LoopMetric]:
    """Import a loop, and what its scores are.

    Raises:
        TaskError: it is not there, is none, or its module does not say what its scores are. What the user's code raises
            itself passes as it is.
    """
    function = own_function(name)
    if not is_loop(name):
        raise LoopError(
            f"task = {name!r} was planned as a loop, whose one argument is called trial, and its function takes "
            f"({', '.join(arguments_of(function) or ['…'])}); start the study anew with --fresh if it has become a task"
        )
    metric = getattr(sys.modules[name.partition(":")[0]], "metric", None)
    if not isinstance(metric, LoopMetric):
        given = "there is none" if metric is None else f"it is {type(metric).__name__}"
        raise LoopError(
            f"task = {name!r} is a loop, and its module must say what it reports, as `metric`; {given}: write "
            'metric = LoopMetric("accuracy", guess=0.1, unit="fraction"), guess being what somebody gets who learns '
            "nothing, and higher_is_better=False where less is better"
        )
    if (
        not (isinstance(metric.name, str) and metric.name and isinstance(metric.unit, str))
        or _number(metric.guess) is None
    ):
        raise LoopError(
            f"task = {name!r} has metric = {metric!r}; it needs a name, a unit (may be empty) and a finite guess"
        )
    return function, metric


@dataclass(slots=True)
class Reports:
    """What a loop has reported so far.

    Attributes:
        measurements: One of each set of weights at each epoch, from 1; ``best`` ones in the order of their reports, at
            the epochs that they are from.
        epoch: The latest epoch that was reported, from 1; 0 before.
        gradient_evaluations: Of the whole run so far; counted_at: the epoch at which they were told last.
        tested: The weights that were tested; "" before.
    """

    measurements: list[Measurement] = field(default_factory=list)
    epoch: int = 0
    gradient_evaluations: int = 0
    counted_at: int = 0
    tested: str = ""

    def at(self, epoch: int) -> list[Measurement]:
        """Return what was reported of an epoch, and the best weights so far as they stand there."""
        found = [one for one in self.measurements if one.weights != "best" and one.epoch == epoch]
        best = [one for one in self.measurements if one.weights == "best" and one.epoch <= epoch]
        return [*found, *(replace(one, epoch=epoch, weights_epoch=one.epoch) for one in best[-1:])]

    def add(self, found: Measurement) -> None:
        """Add a measurement, in the place of what is known of the same weights; of ``best`` ones at the end."""
        keys, key = [(one.weights, one.epoch) for one in self.measurements], (found.weights, found.epoch)
        if key in keys and found.weights != "best":
            self.measurements[keys.index(key)] = found
            return
        if key in keys:
            del self.measurements[keys.index(key)]
        self.measurements.append(found)


@dataclass(frozen=True, slots=True)
class TrialMethod:
    """What is trained.

    Attributes:
        name: Of the method that the run is for; of a run that serves several, of the one that reads its last weights.
        family: Name of the trajectory, such as ``base`` or ``sam``.
        optimizer: Where its class or function is imported from, such as ``torch.optim:SGD`` or ``lion_pytorch:Lion``.
        options: Its arguments, fixed and searched, beside the learning rate, the weight decay and, of torch's SGD, the
            factor ``momentum``.
        base: What a two-pass optimizer of others takes its steps with, named alike; "" for none.
        perturb: How the gradient is perturbed: ``sam``, ``asam``; "" for the plain one.
        average: The kind of average that the method may read: ``swa``, ``ema``, ``lawa``; "" for none.
    """

    name: str
    family: str
    optimizer: str
    options: Mapping[str, object]
    base: str
    perturb: str
    average: str


class Trial:
    """One run of a loop: what it is to do, and where it reports; the README of this folder says it in a table.

    Attributes:
        seed: Root of all that is random in the run. torch, NumPy and random are seeded with it before the loop is
            called; ``stream(trial.seed, "purpose")`` of `study.streams` gives a generator to each purpose.
        replicate: Root of the replicate's own streams, for a test part that is drawn or split off anew.
        stage: ``tune`` (validation alone) or ``confirm`` (validation, then one test).
        epochs: How many to train; what an epoch is, is the loop's to say, the same for all methods.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        weights: Names of the weights that somebody reads in this run: ``last``, ``best`` and averages.
        averages: The averages among them, such as ``swa@0.75``.
        miniature: The study is tried before it starts: a few steps on a few examples will do.
        saved: What the loop had given to `save` before the run was interrupted; None in one that begins.
        reports, read, ends, refused, returned: The study's: what was reported, what was read of what is searched; why
            nothing more is taken (``diverged``, ``pruned``, ``abandoned``), a report that did not fit, and whether the
            loop has returned.
    """

    def __init__(self, job: Job, metric: LoopMetric, run: Any) -> None:
        self._job, self._metric = job, metric
        self._run = run  # what carries the loop out: `study.training.loops.LoopRun`
        self.ends, self.returned = "", False
        self.refused: LoopError | None = None  # stands, whatever the loop makes of it
        self.reports: Reports = run.reports
        self.read: set[str] = set()
        self.factors: Handed = run.factors
        self.device: str = run.device_name
        self.saved: Any = run.saved
        self.miniature: bool = run.miniature
        self.seed, self.replicate, self.stage, self.epochs = job.seed, job.test_seed, job.stage, job.epochs
        self.averages = job.averages
        self.weights = ("last", *(["best"] if "best" in job.reads else []), *self.averages)

    @property
    def method(self) -> TrialMethod:
        """What is trained: the optimizer, its perturbation, its average."""
        self.read.add("method")
        found: TrialMethod = self._run.method
        return found

    @property
    def learning_rate(self) -> float:
        """The proposed learning rate, > 0: the peak, where a schedule changes it."""
        self.read.add("learning_rate")
        return self._job.learning_rate

    @property
    def rho(self) -> float:
        """The proposed radius of the perturbation, ≥ 0; 0 where the method does not perturb, or it is switched off."""
        self.read.add("rho")
        return self._job.rho

    @property
    def average_start(self) -> float:
        """The proposed share of the epochs that pass before averaging begins, in (0, 1)."""
        return self._job.average_start

    @property
    def weight_decay(self) -> float:
        """The weight decay, ≥ 0: the proposed one where it is searched, else the cell's."""
        self.read.add("weight_decay")
        return float(self._job.weight_decay if self._job.weight_decay is not None else self.factors["weight_decay"])

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule: from the share of the steps done, in [0, 1), to the factor on the rate.

        It is the method's own, if it has one, else that of the factors ``schedule`` and ``warmup``.
        """
        self.read.add("schedule")
        self.factors.read |= {"schedule", "warmup"}
        found: Schedule = self._run.schedule
        return found

    def build_optimizer(self, model: nn.Module, **options: Any) -> Any:
        """Return the optimizer of the method over a model, as a study of tasks builds it.

        It reads the learning rate, rho, and the factors momentum, weight_decay, clip_norm and (m-SAM) ascent_batch. The
        schedule is for the loop to follow; torch's schedulers take its ``base_optimizer``.

        Args:
            model: What is trained.
            options: More options of `wasam_core.WASAM`, such as ``gradient_accumulation_steps``.

        Returns:
            A `WASAM`, or what takes the steps of an optimizer that is neither built in nor perturbed: in either case
            with ``step(closure, examples=…)``, ``cost``, ``param_groups``, ``base_optimizer``, ``state_dict`` and
            ``load_state_dict``.
        """
        self.read |= {"method", "learning_rate", "rho", "weight_decay"}
        self.factors.read |= {"momentum", "weight_decay", "clip_norm", "ascent_batch"}
        return self._run.build_optimizer(model, **options)

    def build_averages(self, model: nn.Module) -> WeightAverages:
        """Return the averages that the run may be asked for, still empty: call its ``update(epoch)`` after every epoch.

        They are of the weights of the model.
        """
        found: WeightAverages = self._run.build_averages(model)
        return found

    @property
    def chosen(self) -> str:
        """Name of the weights that are to be tested: those that this run's own validation prefers of the method's.

        Ties go to the later epoch, then to the lower validation loss.

        Raises:
            LoopError: they are not all reported yet.
        """
        self._check_whole("trial.chosen was asked for")
        found = preferred_at(self._final, self.epochs).of(self._job.tested_of or self._job.reads)
        assert found is not None
        return found.weights

    def report(
        self,
        *,
        weights: str,
        epoch: int | None = None,
        val: float | None = None,
        val_loss: float | None = None,
        test: float | None = None,
        test_loss: float | None = None,
        gradient_evaluations: int | None = None,
    ) -> None:
        """Report the score of one set of weights: on validation, or once in the confirm stage on test.

        Epochs come in order. Those of the last weights need not all be reported; the learning curve is made of those
        that are. Weights ``best`` stand as they were reported last.

        Args:
            weights: Their name, of ``last``, ``best`` and the averages of `weights`; others of these kinds are ignored.
            epoch: As in ``range(trial.epochs)``: from 0 to ``trial.epochs - 1``; of ``best``, the epoch that they are
                from. Not needed with ``test``.
            val: Their validation score, in the metric's unit. One that is not finite ends the run as diverged.
            val_loss: Their validation loss, which decides between runs of equal scores.
            test: The test score of the weights that `chosen` names.
            test_loss: Their test loss.
            gradient_evaluations: Examples that have gone forward and backward so far, in all, since the run began: a
                count that grows, such as ``optimizer.cost.gradient_evaluations``.

        Raises:
            LoopError: what is reported does not fit; the run has failed, whatever the loop makes of it.
        """
        if self.ends:
            raise StopTraining(self.ends)
        stand = self.epochs if test is not None else self._stand(weights, epoch)
        if gradient_evaluations is not None:
            self._count(gradient_evaluations, stand)
        if test is not None:
            self._take_test(weights, test, test_loss, val)
            return
        left = self.reports.epoch  # of which all is reported, if this is of a later one
        if stand > left and left in self._job.rungs and stopped(self._job, left, self.reports.at(left)):
            self._stop("pruned")
        if kind_of(weights) in self._job.reads:
            score = self._metric.signed(self._finite(val, "val"))
            loss = None if val_loss is None else self._finite(val_loss, "val_loss")
            self.reports.add(Measurement(weights=weights, epoch=stand, val_score=score, val_loss=loss))
        self.reports.epoch = max(self.reports.epoch, stand)
        self._pause(None)

    def save(self, state: Any) -> None:
        """Offer what the run needs to go on, at the end of an epoch, after its reports; optional.

        A run whose worker is lost then goes on from there, and starts from its beginning otherwise.

        Args:
            state: Tensors and plain data (numbers, texts, bytes, lists, dicts), or a function that returns them, which
                is called now if they are wanted, and else never. `saved` holds them when the run goes on.
        """
        if self.ends:
            raise StopTraining(self.ends)
        self._pause(state if callable(state) else lambda: state)

    def _pause(self, state: Callable[[], Any] | None) -> None:
        self._run.stand(state)
        if self.ends:
            raise StopTraining(self.ends)

    def finish(self) -> None:
        """Make sure that a loop which has returned has reported all that it had to.

        Raises:
            LoopError: it has not.
        """
        self.returned = True
        if self.refused:
            raise self.refused
        self._check_whole("the loop returned")
        if not self.reports.gradient_evaluations:
            self._refuse(
                "the loop returned, and has not reported its gradient_evaluations; give the examples that went forward "
                "and backward so far with every report, because budgets are made of them"
            )
        if self.stage == "confirm" and not self.reports.tested:
            self._refuse(
                'the loop returned in the confirm stage without a test; end it with `if trial.stage == "confirm": '
                "trial.report(weights=trial.chosen, test=…)`"
            )

    @property
    def measurements(self) -> list[Measurement]:
        """What is known of the run: its curve, and all weights at its last epoch or, if it was pruned, at a rung."""
        last = self.reports.epoch
        before = [one for one in self.reports.measurements if one.weights != "best" and one.epoch < last]
        at_rungs = (one for rung in self._job.rungs if rung < last for one in self.reports.at(rung))
        return [*before, *(one for one in at_rungs if one.weights == "best"), *self.reports.at(last)]

    @property
    def _final(self) -> list[Measurement]:
        return self.reports.at(self.epochs)

    @property
    def missing(self) -> list[str]:
        """Kinds of weights that are read, and of which none is reported at the last epoch yet."""
        known = {kind_of(one.weights) for one in self._final}
        return [kind for kind in self._job.reads if kind not in known]

    def _check_whole(self, when: str) -> None:
        if missing := self.missing:
            names = [name for name in self.weights if kind_of(name) == missing[0]]
            at = "" if missing[0] == "best" else f" at its last epoch, epoch = {self.epochs - 1}"
            self._refuse(
                f"{when}, and weights = {' or '.join(map(repr, names))} were not reported{at}, in the {self.stage} "
                f"stage of {self._run.method.name}; trial.weights says which weights are read, and a run trains all of "
                "trial.epochs: one that stops early reports the weights that it has for the last epoch"
            )

    def _stand(self, weights: str, epoch: Any) -> int:
        """Return the epoch of a report, from 1."""
        self._check_name(weights)
        if self.reports.tested:
            self._refuse(f"{weights!r} was reported after the test; validation comes first, all of it")
        number = index(epoch) if hasattr(epoch, "__index__") and not isinstance(epoch, bool) else None
        if number is None or not 0 <= number < self.epochs:
            self._refuse(
                f"epoch = {epoch!r} was reported; epochs are counted as in range(trial.epochs), from 0 to "
                f"{self.epochs - 1}"
            )
        stand = number + 1
        if weights != "best":
            if stand < self.reports.epoch:
                self._refuse(
                    f"epoch = {epoch} was reported after epoch = {self.reports.epoch - 1}; epochs come in order, and a "
                    "checkpoint of an earlier one is reported under the name 'best'"
                )
            if any((one.weights, one.epoch) == (weights, stand) for one in self.reports.measurements):
                self._refuse(f"{weights!r} was reported twice at epoch = {epoch}; report each set of weights once")
        return stand

    def _check_name(self, weights: str) -> None:
        """Refuse weights that are none of the study's, whether this run is asked for them or not."""
        averages = self._job.model_copy(update={"reads": ("swa", "ema", "lawa")}).averages
        if weights not in ("last", "best", *averages):
            self._refuse(
                f"weights = {weights!r} was reported; allowed are 'last', 'best' (a checkpoint that you keep) and the "
                f"averages of this study, {', '.join(map(repr, averages)) or 'of which it has none'}"
            )

    def _finite(self, value: object, name: str) -> float:
        """Return a score or a loss as a number; one that is not finite ends the run."""
        number = _number(value, finite=False)
        if number is None:
            self._refuse(f"{name} = {value!r} was reported; give a number")
        if not abs(number) < _LARGEST:
            self._stop("diverged")
        return number

    def _count(self, told: object, stand: int) -> None:
        count, before = _number(told), self.reports.gradient_evaluations
        if count is None or count < 0 or count != int(count):
            self._refuse(f"gradient_evaluations = {told!r} was reported; give a whole number of examples, from 0")
        stuck = count == before and stand > self.reports.counted_at > 0
        if count < before or stuck:
            earlier = " of an earlier epoch" if stuck else ""
            self._refuse(
                f"gradient_evaluations = {int(count)} was reported after {before}{earlier}; it is the count so far, "
                "since the run began: add the epochs up"
            )
        if count > before:
            self.reports.gradient_evaluations, self.reports.counted_at = int(count), stand

    def _take_test(self, weights: str, test: object, test_loss: object, val: object) -> None:
        if self.stage != "confirm":
            self._refuse(
                f"test = {test!r} was reported in the {self.stage} stage, where validation alone decides; report it "
                'where trial.stage == "confirm"'
            )
        if val is not None:
            self._refuse("val and test were reported together; report validation first, then the test of trial.chosen")
        if self.reports.tested:
            self._refuse(f"a second test was reported, of {weights!r} after {self.reports.tested!r}; a run has one")
        if weights != self.chosen:
            self._refuse(
                f"a test of {weights!r} was reported, and this run's validation prefers {self.chosen!r}: test "
                "trial.chosen, because what is tested is chosen on validation alone"
            )
        score = self._metric.signed(self._finite(test, "test"))
        loss = None if test_loss is None else self._finite(test_loss, "test_loss")
        (found,) = (one for one in self._final if one.weights == weights)
        stands = found.weights_epoch or found.epoch
        self.reports.add(replace(found, epoch=stands, weights_epoch=None, test_score=score, test_loss=loss))
        self.reports.tested = weights

    def _stop(self, why: str) -> NoReturn:
        self.ends = why
        raise StopTraining(why)

    def _refuse(self, sentence: str) -> NoReturn:
        error = LoopError(f"{self._job.task}: {sentence}")
        self.refused = self.refused or error
        raise error


def _number(value: object, *, finite: bool = True) -> float | None:
    """Return what can be taken for a number, such as a tensor of one; None for anything else."""
    if isinstance(value, str | bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) or not finite else None
