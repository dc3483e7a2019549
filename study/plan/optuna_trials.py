"""Outcomes as Optuna's trials, and the proposals of its sampler that learns from them. Optuna is imported here."""

import logging
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from study.plan.cells import Outcome, Proposal, Search, start_of
from study.specs.spec import SearchSpace
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

    def suggest(name: str) -> float:
        searched = space.range_of(name, search.family, search.trajectory)
        return searched.within(asked.suggest_float(name, searched.low, searched.high, log=searched.log))

    rate, rho = suggest("learning_rate"), 0.0
    perturbed = not search.trajectory.rule or asked.suggest_categorical("perturb", [True, False])
    if perturbed and space.has_radius(search.family, search.trajectory):
        rho = suggest("rho")
    start = start_of(space, suggest("average_start"))
    decay = suggest("weight_decay") if "weight_decay" in space.searched_by(search.family) else None
    return Proposal(rate, rho, start, decay, tuple((name, suggest(name)) for name in space.options_of(search.family)))


def trial_of(
    space: SearchSpace, search: Search, outcome: Outcome, attributes: dict[str, object] | None = None
) -> optuna.trial.FrozenTrial:
    """Return an outcome as a finished Optuna trial; a run that failed or was pruned is a trial that did so."""
    state, reached = optuna.trial.TrialState.COMPLETE, {}
    if outcome.value is None:
        state = optuna.trial.TrialState.FAIL
    elif outcome.pruned_at is not None:
        state, reached = optuna.trial.TrialState.PRUNED, {outcome.pruned_at: outcome.value}
    params: dict[str, object] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name in space.searched_by(search.family):
        if name != "rho" or outcome.proposal.rho > 0:
            searched = space.range_of(name, search.family, search.trajectory)
            params[name] = outcome.proposal.value_of(name)
            distributions[name] = FloatDistribution(searched.low, searched.high, log=searched.log)
    if search.trajectory.rule:
        params["perturb"] = outcome.proposal.rho > 0
        distributions["perturb"] = CategoricalDistribution([True, False])
    return optuna.trial.create_trial(
        params=params, distributions=distributions, value=outcome.value, state=state, intermediate_values=reached,
        user_attrs=attributes or {},
    )  # fmt: skip


def quiet_study(**settings: object) -> optuna.Study:
    """Create a study without Optuna's line per study on the user's terminal."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    return optuna.create_study(**settings)  # type: ignore[arg-type]  # keywords pass through
