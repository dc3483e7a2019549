"""Proposals: which hyper-parameters a search tries, as pure functions of its history.

Optuna's live samplers answer in the order in which runs happen to finish, so a resumed study would propose other
values than an undisturbed one. Here trial k is a function of the spec, the search and the results of *earlier
batches* only: equal results give equal proposals, whatever the timing. For QMC the design is a scrambled Sobol
sequence drawn by SciPy and handed to Optuna as fixed parameters, since Optuna's QMC sampler draws its first point
at random and reads its search space from the first run that completes.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy.stats import qmc

from study.methods import FAMILIES
from study.plan import Proposal, Search
from study.records import RunRecord
from study.selection import best_measurement
from study.spec import SearchRange, SearchSpace
from study.streams import torch_seed

TPE_BATCH = 4  # trials of a batch do not see each other's results, so they can run side by side
_START_DECIMALS = 4  # finer than an epoch of any run; keeps names such as swa@0.6172 short
_HYPERPARAMETERS = ("learning_rate", "rho", "average_start")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished trial as a search sees it: its proposal and the value to maximise (None: it failed)."""

    proposal: Proposal
    value: float | None


def needed_outcomes(space: SearchSpace, trial: int) -> int:
    """Return how many of the first trials must have ended before ``trial`` can be proposed."""
    return 0 if space.sampler == "qmc" else trial // TPE_BATCH * TPE_BATCH


def propose(space: SearchSpace, search: Search, trial: int, history: Sequence[Outcome]) -> Proposal:
    """Return the proposal of one trial.

    Args:
        space: Ranges and sampler.
        search: Whose trial it is. Families share the QMC design, so their learning rates and starts agree.
        trial: Its position, from 0.
        history: The outcomes of the first `needed_outcomes` trials, in order.
    """
    if space.sampler == "qmc":
        return _qmc_proposal(space, search.family, trial)
    return _tpe_proposal(space, search, trial, history)


def qmc_design(space: SearchSpace, family: str) -> tuple[Proposal, ...]:
    """Return all proposals of a family's searches: a scrambled Sobol design over rate, rho and average start."""
    return tuple(_qmc_proposal(space, family, trial) for trial in range(space.trials))


def _qmc_proposal(space: SearchSpace, family: str, trial: int) -> Proposal:
    rate, radius, start = _sobol_points(space.trials)[trial]
    return Proposal(
        learning_rate=space.range_of("learning_rate", family).at(rate),
        rho=_rho_at(space, family, radius) if FAMILIES[family].rule else 0.0,
        average_start=round(space.average_start.at(start), _START_DECIMALS),
    )


@functools.cache
def _sobol_points(count: int) -> tuple[tuple[float, float, float], ...]:
    """Return points of the unit cube; a longer design begins with the shorter one's points.

    Source: Sobol 1967, scrambled after Matoušek 1998, as in ``scipy.stats.qmc.Sobol``.
    """
    exponent = max(count - 1, 1).bit_length()
    points = qmc.Sobol(d=3, scramble=True, rng=torch_seed(0, "qmc design")).random_base2(exponent)
    return tuple((float(rate), float(radius), float(start)) for rate, radius, start in points[:count])


def _rho_at(space: SearchSpace, family: str, unit: float) -> float:
    """Map [0, 1) to a radius; the lowest ``unperturbed_share`` is exactly 0: the base step lies in the space."""
    share = space.unperturbed_share
    return 0.0 if unit < share else space.range_of("rho", family).at((unit - share) / (1 - share))


def _tpe_proposal(space: SearchSpace, search: Search, trial: int, history: Sequence[Outcome]) -> Proposal:
    sampler = optuna.samplers.TPESampler(seed=torch_seed(trial, f"tpe {search.key}") % 2**32)
    study = quiet_study(sampler=sampler, direction="maximize")
    study.add_trials([trial_of(space, search, outcome) for outcome in history])
    asked = study.ask()
    rate = _suggest(asked, "learning_rate", space.range_of("learning_rate", search.family))
    rho = 0.0
    if FAMILIES[search.family].rule and asked.suggest_categorical("perturb", [True, False]):
        rho = _suggest(asked, "rho", space.range_of("rho", search.family))
    start = _suggest(asked, "average_start", space.average_start)
    return Proposal(rate, rho, round(start, _START_DECIMALS))


def _suggest(trial: optuna.Trial, name: str, searched: SearchRange) -> float:
    return trial.suggest_float(name, searched.low, searched.high, log=searched.log)


def outcome_of(method: str, record: RunRecord) -> Outcome:
    """Return what a method's search learns from a record: the best validation accuracy of the weights it may use."""
    job = record.job
    best = best_measurement(method, record)
    return Outcome(Proposal(job.learning_rate, job.rho, job.average_start), best.val_accuracy if best else None)


def trial_of(
    space: SearchSpace, search: Search, outcome: Outcome, attributes: dict[str, object] | None = None
) -> optuna.trial.FrozenTrial:
    """Return an outcome as a finished Optuna trial; a run that failed is a failed trial."""
    params, distributions = _parameters(space, search, outcome.proposal)
    failed = outcome.value is None
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=outcome.value,
        state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
        user_attrs=attributes or {},
    )


def _parameters(
    space: SearchSpace, search: Search, proposal: Proposal
) -> tuple[dict[str, object], dict[str, BaseDistribution]]:
    params: dict[str, object] = {name: getattr(proposal, name) for name in _HYPERPARAMETERS}
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(searched.low, searched.high, log=searched.log)
        for name in _HYPERPARAMETERS
        for searched in [space.range_of(name, search.family)]
    }
    if FAMILIES[search.family].rule:
        params["perturb"] = proposal.rho > 0
        distributions["perturb"] = CategoricalDistribution([True, False])
    if proposal.rho == 0:
        del params["rho"], distributions["rho"]
    return params, distributions


def quiet_study(**settings: object) -> optuna.Study:
    """Create a study without Optuna's line per study on the user's terminal."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    return optuna.create_study(**settings)  # type: ignore[arg-type]  # keywords pass through
