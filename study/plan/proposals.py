"""Proposals: which hyper-parameters a search tries, as pure functions of its history.

Optuna's live samplers answer in the order in which runs happen to finish, so a resumed study would propose other
values than an undisturbed one. Here trial k is a function of the spec, the search and the results of *earlier
batches* only: equal results give equal proposals, whatever the timing. For QMC the design is a scrambled Sobol
sequence drawn by SciPy and handed to Optuna as fixed parameters, since Optuna's QMC sampler draws its first point
at random and reads its search space from the first run that completes.
"""

import functools
from collections.abc import Sequence

from study.plan.cells import Outcome, Proposal, Search, proposal_of, start_of
from study.plan.selection import preferred_of
from study.records import RunRecord
from study.specs.contenders import Contender
from study.specs.space import BATCH
from study.specs.spec import SearchSpace
from study.streams import torch_seed


def needed_outcomes(space: SearchSpace, trial: int) -> int:
    """Return how many of the first trials must have ended before ``trial`` can start: those it is made to depend on."""
    return 0 if space.sampler == "qmc" and space.pruner == "none" else trial // BATCH * BATCH


def propose(space: SearchSpace, search: Search, trial: int, history: Sequence[Outcome]) -> Proposal:
    """Return the proposal of one trial.

    Args:
        space: Ranges and sampler.
        search: Whose trial it is. Families share the QMC design, so their learning rates and starts agree.
        trial: Its position, from 0.
        history: The outcomes of the first `needed_outcomes` trials, in order.
    """
    if space.sampler == "qmc":
        return _qmc_proposal(space, search, trial)
    from study.plan.optuna_trials import tpe_proposal  # noqa: PLC0415  # Optuna takes a moment to import

    return tpe_proposal(space, search, trial, history)


def _qmc_proposal(space: SearchSpace, search: Search, trial: int) -> Proposal:
    names = space.searched_by(search.family)
    points = _sobol_points(space.trials, len(names), search.replicate.proposals)[trial]
    at = dict(zip(names, points, strict=True))

    def found(name: str) -> float:
        return space.range_of(name, search.family, search.trajectory).at(at[name])

    return Proposal(
        learning_rate=found("learning_rate"),
        rho=_rho_at(space, search, at["rho"]) if space.has_radius(search.family, search.trajectory) else 0.0,
        average_start=start_of(space, found("average_start")),
        weight_decay=found("weight_decay") if "weight_decay" in names else None,
        options=tuple((name, found(name)) for name in space.options_of(search.family)),
    )


@functools.lru_cache(maxsize=1024)
def _sobol_points(count: int, dimensions: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """Return points of the unit cube; a longer design begins with the shorter one's points. Each seed scrambles anew.

    One of more dimensions is another one throughout, so a dimension is added only where it is asked for.

    Source: Sobol 1967, scrambled after Matoušek 1998, as in ``scipy.stats.qmc.Sobol``.
    """
    from scipy.stats import qmc  # noqa: PLC0415  # takes a second to import, and not every command proposes

    exponent = max(count - 1, 1).bit_length()
    points = qmc.Sobol(d=dimensions, scramble=True, rng=torch_seed(seed, "qmc design")).random_base2(exponent)
    return tuple(tuple(map(float, point)) for point in points[:count])


def _rho_at(space: SearchSpace, search: Search, unit: float) -> float:
    """Map [0, 1) to a radius; the lowest ``unperturbed_share`` is exactly 0: the base step lies in the space.

    Not in that of an optimizer with a radius of its own, which is not known to be another's without it.
    """
    share = space.unperturbed_share if search.trajectory.rule else 0.0
    return (
        0.0
        if unit < share
        else space.range_of("rho", search.family, search.trajectory).at((unit - share) / (1 - share))
    )


def outcome_of(one: Contender, record: RunRecord) -> Outcome:
    """Return what a contender's search learns from a record: the best validation score of the weights it may use."""
    job = record.job
    best = preferred_of(record).of(one.reads) if record.measurements else None
    pruned_at = record.last_epoch if record.status == "pruned" else None
    return Outcome(proposal_of(job), best.val_score if best else None, pruned_at)
