"""A procedure with a known truth: tuning on validation, the choice of weights, lengths, confirm runs, no training.

What a replicate does is done to numbers. Proposals have qualities, which methods share in part as they share learning
rates; a run has the level of its proposal, what its seed brings, and a curve over five evenly spaced checkpoints;
validation sees all of it through noise of its own. It picks a proposal, and in every confirm run the weights. The
truth of a side is its mean over replicates. A constant that is added to a side changes none of its choices, so a gain
is planted by adding it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from study.stats import Arm, Contrast, Effect, compare

Scores = NDArray[np.float64]
"""Test scores, replicate × confirm seed."""

TRIALS, CONFIRMS = 6, 3
ALPHA = 0.05
REPLICATES_OF_TRUTH = 20_000  # its standard error is a fiftieth of the half-width of a study's interval
KINSHIP = 0.5  # share of the variance of a proposal's quality that all trajectories have in common
CONTRAST = Contrast("cell", "digits", (), "tuned", "SAM", "G", "test_score")


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations: between proposals, between seeds, between checkpoints of a run, of validation."""

    proposals: float
    seeds: float
    checkpoints: float
    validation: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What is trained: the expected score at five evenly spaced epochs, and how many proposals are tried."""

    curve: tuple[float, float, float, float, float]
    trials: int = TRIALS


@dataclass(frozen=True, slots=True)
class Side:
    """Which trajectory is read, and whether its best checkpoint may be kept or the last has to be."""

    reads: str
    keeps: Literal["last", "best"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell: its spreads, its trajectories, and who is held against whom.

    ``level``: all baselines are equally good in truth; else they are what their curves make of them.
    ``off``: chance of a replicate in which every method is the strongest baseline, run for run.
    ``kinship``: share of what seeds bring that the methods have in common; they share none with the baselines.
    """

    spread: Spread
    trajectories: Mapping[str, Trajectory]
    methods: Mapping[str, Side]
    baselines: Mapping[str, Side]
    level: bool = False
    off: float = 0.0
    kinship: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """A setting with its truth: the mean score of every side, and the baseline that is the strongest."""

    setting: Setting
    truth: Mapping[str, float]
    strongest: str

    def draw(self, replicates: int, gain: float, rng: np.random.Generator, confirms: int = CONFIRMS) -> "Drawn":
        """Return new replicates in which every method gains ``gain`` over the strongest baseline.

        Args:
            replicates: How many.
            gain: The planted gain of those replicates that are not switched off.
            rng: Where the numbers come from.
            confirms: Confirm seeds of each.
        """
        scores = draw(self.setting, replicates, rng, confirms)
        top = self.truth[self.strongest]
        if self.setting.level:
            for name in self.setting.baselines:
                scores[name] += top - self.truth[name]
        off = rng.random(replicates) < self.setting.off
        for name in self.setting.methods:
            scores[name] += gain - (self.truth[name] - top)
            scores[name][off] = scores[self.strongest][off]
        return Drawn(self.setting, scores, off)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Replicates of a setting: the scores of every side, and in which the methods were switched off."""

    setting: Setting
    scores: Mapping[str, Scores]
    off: NDArray[np.bool_]

    def effect(self, method: str, units: slice, against: Sequence[str] = ()) -> Effect:
        """Return what a study of these replicates makes of a method."""
        arms = [arm_of(name, self.scores[name][units]) for name in (method, *(against or self.setting.baselines))]
        planned, confirms = self.scores[method][units].shape
        off = int(self.off[units].sum())
        return compare(CONTRAST, arms[0], arms[1:], planned=planned, confirms=confirms, alpha=ALPHA, off=off)

    def effects(self, method: str, size: int) -> list[Effect]:
        """Return what studies of ``size`` replicates each, all there are, make of a method."""
        count = len(self.off) // size
        return [self.effect(method, slice(size * study, size * (study + 1))) for study in range(count)]


def arm_of(name: str, scores: Scores) -> Arm:
    """Return one side of a comparison."""
    by_unit = {number: dict(enumerate(row)) for number, row in enumerate(scores.tolist())}
    return Arm(name, by_unit, scores.size, 0, 1.0)


def known(setting: Setting, rng: np.random.Generator) -> Known:
    """Find out the truth of a setting, from replicates that no study is made of."""
    truth = {name: float(scores.mean()) for name, scores in draw(setting, REPLICATES_OF_TRUTH, rng).items()}
    return Known(setting, truth, max(setting.baselines, key=truth.__getitem__))


def draw(setting: Setting, replicates: int, rng: np.random.Generator, confirms: int = CONFIRMS) -> dict[str, Scores]:
    """Run the whole procedure: return the test scores of every side, replicate × confirm seed."""
    spread = setting.spread
    of_methods = {side.reads for side in setting.methods.values()} - {s.reads for s in setting.baselines.values()}
    proposals = rng.normal(0, 1, (replicates, TRIALS))
    shared = {stage: rng.normal(0, 1, (replicates, size)) for stage, size in (("tune", TRIALS), ("confirm", confirms))}
    tried: dict[str, _Tried] = {}
    for name, trajectory in setting.trajectories.items():
        own = rng.normal(0, 1, (replicates, trajectory.trials))
        quality = _mixed(proposals[:, : trajectory.trials], own, KINSHIP) * spread.proposals
        kinship = setting.kinship if name in of_methods else 0.0
        stages = []
        for stage, size in (("tune", trajectory.trials), ("confirm", confirms)):
            seeds = _mixed(shared[stage][:, :size], rng.normal(0, 1, (replicates, size)), kinship) * spread.seeds
            wiggle = rng.normal(0, spread.checkpoints, (replicates, size, len(trajectory.curve)))
            truth = seeds[:, :, None] + wiggle + np.asarray(trajectory.curve)
            stages.append((truth, truth + rng.normal(0, spread.validation, truth.shape)))
        tried[name] = _Tried(quality, *stages)
    return {
        name: _scores(side.keeps, tried[side.reads])
        for name, side in (*setting.methods.items(), *setting.baselines.items())
    }


def _mixed(shared: Scores, own: Scores, share: float) -> Scores:
    mixed: Scores = math.sqrt(share) * shared + math.sqrt(1 - share) * own
    return mixed


@dataclass(frozen=True, slots=True)
class _Tried:
    """One trajectory: the quality of its proposals, and of either stage (truth, what validation sees)."""

    quality: Scores
    tune: tuple[Scores, Scores]
    confirm: tuple[Scores, Scores]


def _scores(keeps: str, tried: _Tried) -> Scores:
    """Let validation pick a proposal, and in every confirm run the weights; return the true scores of these."""
    seen = tried.tune[1]
    picked = (tried.quality + (seen.max(axis=2) if keeps == "best" else seen[:, :, -1])).argmax(axis=1)
    truth, seen = tried.confirm
    weights = seen.argmax(axis=2) if keeps == "best" else np.full(seen.shape[:2], seen.shape[2] - 1)
    found: Scores = np.take_along_axis(truth, weights[:, :, None], axis=2)[:, :, 0]
    found += tried.quality[np.arange(len(picked)), picked][:, None]
    return found
