"""Outcomes as Optuna's trials, and the proposals of its sampler that learns from them. Optuna is imported here."""

import logging
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from study.plan.cells import Outcome, Proposal, Search, start_of
from study.specs.spec import SearchRange, SearchSpace
from study.streams import torch_seed


def tpe_proposal(space: SearchSpace, search: Search, trial: int, history: Sequence[Outcome]) -> Proposal:
    """Return the proposal of one trial by the tree-structured Parzen estimator; arguments as for `propose`.

    Source: Bergstra et al. 2011, as in ``optuna.samplers.TPESampler``.
    """
    cell = search.cell.task, sorted(search.cell.factors.items())  # its name changes when a study grows by problems
    name = f"tpe {cell} {search.name} {search.epochs_factor!r} {trial}"
    seed = torch_seed(search.replicate.proposals, name) % 2**32
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(space.startup_trials, search.trials // 3))
    study = quiet_study(sampler=sampler, direction="maximize")
    study.add_trials([trial_of(space, search, outcome) for outcome in history])
    asked = study.ask()
    rate = _suggest(asked, "learning_rate", space.range_of("learning_rate", search.family, search.what))
    rho = 0.0
    if not search.what.rule and space.has_radius(search.family, search.what):
        rho = _suggest(asked, "rho", space.range_of("rho", search.family, search.what))
    if search.what.rule and asked.suggest_categorical("perturb", [True, False]):
        rho = _suggest(asked, "rho", space.range_of("rho", search.family, search.what))
    start = _suggest(asked, "average_start", space.average_start)
    decay = None
    if "weight_decay" in space.searched_by(search.family):
        decay = _suggest(asked, "weight_decay", space.range_of("weight_decay", search.family, search.what))
    options = tuple(
        (name, _suggest(asked, name, space.range_of(name, search.family, search.what)))
        for name in space.options_of(search.family)
    )
    return Proposal(rate, rho, start_of(space, start), decay, options)


def _suggest(trial: optuna.Trial, name: str, searched: SearchRange) -> float:
    return searched.within(trial.suggest_float(name, searched.low, searched.high, log=searched.log))


def trial_of(
    space: SearchSpace, search: Search, outcome: Outcome, attributes: dict[str, object] | None = None
) -> optuna.trial.FrozenTrial:
    """Return an outcome as a finished Optuna trial; a run that failed or was pruned is a trial that did so."""
    params, distributions = _parameters(space, search, outcome.proposal)
    state, reached = optuna.trial.TrialState.COMPLETE, {}
    if outcome.value is None:
        state = optuna.trial.TrialState.FAIL
    elif outcome.pruned_at is not None:
        state, reached = optuna.trial.TrialState.PRUNED, {outcome.pruned_at: outcome.value}
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=outcome.value,
        state=state,
        intermediate_values=reached,
        user_attrs=attributes or {},
    )


def _parameters(
    space: SearchSpace, search: Search, proposal: Proposal
) -> tuple[dict[str, object], dict[str, BaseDistribution]]:
    names = space.searched_by(search.family)
    params: dict[str, object] = {name: proposal.value_of(name) for name in names}
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(searched.low, searched.high, log=searched.log)
        for name in names
        for searched in [space.range_of(name, search.family, search.what)]
    }
    if search.what.rule:
        params["perturb"] = proposal.rho > 0
        distributions["perturb"] = CategoricalDistribution([True, False])
    if proposal.rho == 0:
        del params["rho"], distributions["rho"]
    return params, distributions


def quiet_study(**settings: object) -> optuna.Study:
    """Create a study without Optuna's line per study on the user's terminal."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    return optuna.create_study(**settings)  # type: ignore[arg-type]  # keywords pass through
