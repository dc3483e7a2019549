"""Weight decay is searched when asked, from the spec to the findings, and not a bit changes when it is not."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.stats import qmc
from synthetic import planned_runs, spec_text, synthetic_study

from study.findings import find
from study.listeners.optuna_store import OptunaStore
from study.plan.agenda import Agenda
from study.plan.cells import Outcome, Proposal, confirm_jobs, searches
from study.plan.proposals import propose
from study.specs.methods import FAMILIES
from study.specs.space import SearchRange, SearchSpace
from study.specs.spec import (
    SpecError,
    StudySpec,
    builtin_specs,
    extends,
    load_spec,
    parse_spec,
)
from study.stats.tuning import settings_needed
from study.store.frame import frame_of
from study.streams import torch_seed

RANGE: dict[str, Any] = {"low": 1e-5, "high": 1e-2, "log": True}
SEARCHED = SearchSpace(trials=16, weight_decay=SearchRange(**RANGE))


def design(space: SearchSpace, family: str, seed: int = 0) -> list[Proposal]:
    """Return the QMC design of a family in a replicate whose proposals have a seed."""
    asked = SimpleNamespace(family=family, trajectory=FAMILIES[family], replicate=SimpleNamespace(proposals=seed))
    return [propose(space, asked, trial, ()) for trial in range(space.trials)]  # type: ignore[arg-type]


def decaying(**settings: Any) -> tuple[StudySpec, Any]:
    search = {"trials": 8, "weight_decay": RANGE} | settings.pop("search", {})
    return synthetic_study(**({"tasks": ("digits",), "factors": {"label_noise": 0.3}} | settings), search=search)


@pytest.mark.parametrize("name", ["quick", "claims/08-late-sam"])
def test_a_key_that_was_added_later_enters_no_dump_and_no_hash_at_its_default(name: str) -> None:
    spec = load_spec(name)[0]
    assert not {"weight_decay", "pruner"} & set(spec.model_dump()["search"])
    spelled_out = spec.model_copy(update={"search": spec.search.model_copy(update={"pruner": "none"})})
    assert spelled_out.hash == spec.hash
    searched = spec.search.model_copy(update={"weight_decay": SearchRange(**RANGE)})
    asked = spec.model_copy(update={"search": searched})
    assert asked.hash != spec.hash
    assert asked.model_dump(mode="json")["search"]["weight_decay"] == RANGE
    assert not extends(asked, spec)
    assert not extends(spec, asked)


def test_a_spec_survives_its_own_text() -> None:
    spec, _ = decaying(runs=0)
    assert parse_spec(spec_text(spec), "copy") == spec
    assert parse_spec(spec_text(spec), "copy").hash == spec.hash


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("weight_decay = { low = -1e-4, high = 1e-2 }", "weight_decay = {'low': -0.0001, .* it must not be below 0"),
        ("weight_decay = { low = 0.0, high = 1e-2, log = true }", "a log scale needs low > 0"),
        ("of.adamw.weight_decay = { low = 1e-4, high = 1.0 }", "given without weight_decay"),
        ("weight_decay = 1e-4", "search.weight_decay = 0.0001 was given"),
    ],
)
def test_a_range_that_can_not_be_is_refused(lines: str, message: str) -> None:
    text = builtin_specs()["smoke"].replace("[search]", f"[search]\n{lines}")
    with pytest.raises(SpecError, match=message):
        parse_spec(text, "mine")


def test_a_value_is_searched_or_fixed_but_not_both() -> None:
    with pytest.raises(ValueError, match=r"search\.weight_decay and factors\.weight_decay were both given"):
        decaying(factors={"weight_decay": [0.0, 1e-3]}, runs=0)


def test_without_it_the_design_is_scipys_of_three_dimensions_with_it_of_four() -> None:
    plain = SearchSpace(trials=16)
    for seed, (space, dimensions) in itertools.product((0, 2**47), ((plain, 3), (SEARCHED, 4))):
        points = qmc.Sobol(d=dimensions, scramble=True, rng=torch_seed(seed, "qmc design")).random_base2(4)
        for proposal, point in zip(design(space, "base", seed), points, strict=True):
            assert proposal.learning_rate == space.learning_rate.at(point[0])
            assert proposal.average_start == round(space.average_start.at(point[2]), 4)
            assert proposal.weight_decay == (SearchRange(**RANGE).at(point[3]) if dimensions == 4 else None)


def test_it_is_spread_over_its_range_and_shared_by_the_families() -> None:
    base, sam = design(SEARCHED, "base"), design(SEARCHED, "sam")
    assert [p.weight_decay for p in base] == [p.weight_decay for p in sam]
    position = SearchRange(**RANGE).position
    assert sorted(int(16 * position(p.weight_decay or 0)) for p in base) == list(range(16))
    longer = SEARCHED.model_copy(update={"trials": 24})
    assert design(longer, "sam")[:16] == sam


def test_a_family_may_have_a_range_of_its_own() -> None:
    own = {"adamw": {"weight_decay": {"low": 1e-3, "high": 1.0, "log": True}}}
    space = SearchSpace.model_validate(SEARCHED.model_dump() | {"of": own})
    assert max(p.weight_decay or 0 for p in design(space, "adamw")) > 0.1
    assert max(p.weight_decay or 0 for p in design(space, "base")) <= 1e-2


def test_tpe_learns_it() -> None:
    spec, _ = decaying(search={"sampler": "tpe", "trials": 60}, runs=0)
    search = next(s for s in searches(spec) if s.name == "SGD best")
    history: list[Outcome] = []
    for trial in range(60):
        proposal = propose(spec.search, search, trial, history[: trial // 4 * 4])
        assert proposal.weight_decay is not None
        # The best value is 1e-3.
        history.append(Outcome(proposal, 1 - abs(np.log10(proposal.weight_decay) + 3)))
    values = [outcome.value or 0.0 for outcome in history]
    assert np.mean(values[40:]) > np.mean(values[:10]) + 0.2


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.slow
def test_what_validation_picks_is_confirmed_and_reported(sampler: str, tmp_path: Path) -> None:
    spec, records = decaying(search={"sampler": sampler}, replicates=5)
    tuned = [r for r in records if r.job.stage == "tune" and r.job.replicate == 1]
    assert all(r.job.weight_decay is not None for r in records)
    first = [r for r in tuned if (r.job.search, r.job.epochs_factor) == (tuned[0].job.search, 1)]
    assert len({r.job.weight_decay for r in first}) == 8
    found = find(spec, records, planned_runs(spec, records))
    assert all(effect.n == 5 for effect in found.effects)
    confirmed = {(r.job.learning_rate, r.job.weight_decay) for r in records if r.job.stage == "confirm"}
    assert {(s.learning_rate, s.weight_decay) for s in found.selections} == confirmed
    frame = frame_of(records)
    assert set(frame["weight_decay"]) == {r.job.weight_decay for r in records}
    told = [r for r in tuned if r.job.search in ("base", "SWA")]
    agenda = Agenda(spec, told)
    OptunaStore(tmp_path / "optuna.db", agenda, agenda.records).close()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    study = optuna.load_study(study_name="digits | SWA | replicate 1", storage=storage)
    assert {trial.params["weight_decay"] for trial in study.trials} <= {r.job.weight_decay for r in tuned}
    assert study.trials[0].distributions["weight_decay"] == optuna.distributions.FloatDistribution(**RANGE)
    storage.engine.dispose()


def test_a_selected_value_at_the_edge_is_flagged() -> None:
    narrow = {"low": 0.079, "high": 0.081}
    search = {"weight_decay": {"low": 5e-4, "high": 0.5, "log": True}, "trials": 32, "learning_rate": narrow}
    spec, records = decaying(search=search, noise=0.0005)
    found = find(spec, records, planned_runs(spec, records))
    position = spec.range_of("weight_decay", "base").position
    flagged = [s for s in found.selections if "weight_decay" in s.at_edge]
    assert flagged
    assert all((position(s.weight_decay or 0) < 0.05) == (s in flagged) for s in found.selections)
    often = Counter((s.contender, s.lengths) for s in flagged)
    told = [c.detail for c in found.caveats if c.kind == "edge of the search space" and "weight_decay" in c.detail]
    assert len(told) == len(set(told)) > 0
    assert set(told) == {
        f"Validation picked weight_decay for {name} in digits in {times} of 6 replicates at the edge of the searched "
        "range from 0.0005 to 0.5; a better value may lie outside."
        for (name, _), times in often.items()
        if 2 * times >= 6
    }


def test_its_importance_is_told_among_the_others() -> None:
    spec, records = decaying(search={"trials": 48}, noise=0.0005)
    shares = {entry.method: dict(entry.shares) for entry in find(spec, records, len(records)).importances}
    assert list(shares["WASAM"]) == ["learning_rate", "rho", "average_start", "weight_decay"]
    assert list(shares["SGD"]) == ["learning_rate", "weight_decay"]
    # On the surface it moves 0.02·(3 decades)², the rate 0.03·(1.7 decades)².
    assert shares["SGD"]["weight_decay"] > shares["SGD"]["learning_rate"]


def test_a_surface_of_more_coefficients_needs_more_settings() -> None:
    assert [settings_needed(count) for count in (1, 2, 3, 4)] == [16, 16, 16, 24]


def test_configurations_that_differ_in_it_alone_are_two() -> None:
    spec, records = decaying(confirms=3)
    search = next(s for s in searches(spec) if (s.family, s.epochs_factor) == ("base", 1))
    chosen = find(spec, records, len(records)).selections[0]
    other = replace(chosen, weight_decay=1e-4)
    assert len(confirm_jobs(spec, [search], [chosen, chosen])) == 3
    jobs = confirm_jobs(spec, [search], [chosen, other])
    assert len({job.run_id for job in jobs}) == 6
