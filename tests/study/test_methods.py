"""Every method in the table trains, costs what it says, and differs from its neighbours in its own switch alone."""

import numpy as np
import pytest
import torch
from torch import nn

from study.data import Pool, load_data
from study.models import NORMS, build_model
from study.plan.agenda import Agenda
from study.plan.cells import gradient_evaluations, searches
from study.records import Job
from study.specs.contenders import baseline_lengths, trials_at
from study.specs.methods import FAMILIES, METHODS
from study.specs.spec import StudySpec, parse_spec
from study.specs.tasks import default_factors
from study.tasks.augment import augmented
from study.training.trial import run

SPEC = """
name = "all"
question = "?"
methods = {methods}
replicates = 1
confirms = 1
average_starts = [0.5]
[search]
trials = 1
unperturbed_share = 0.0
[[problems]]
task = "digits"
factors.train_size = 200
factors.epochs = 5
"""


@pytest.fixture(scope="module")
def digits() -> Pool:
    torch.set_num_threads(1)
    return load_data("digits")


def spec_of(*methods: str) -> StudySpec:
    return parse_spec(SPEC.format(methods=list(methods)), "all")


def first_job(spec: StudySpec, family: str) -> Job:
    agenda = Agenda(spec)
    while job := agenda.next_job():
        if job.family == family and job.epochs_factor == 1:
            return job
    raise AssertionError(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_costs_what_the_plan_says(family: str, digits: Pool) -> None:
    job = first_job(spec_of(*METHODS), family)
    record = run(job, digits, "cpu", "0")
    assert record.status == "completed", record.error
    assert record.gradient_evaluations == gradient_evaluations(job) == round(1000 * FAMILIES[family].passes)
    assert {m.weights for m in record.measurements} == {"last", "best", *job.averages}
    assert record.method in METHODS
    assert (METHODS[record.method].family, METHODS[record.method].weights) == (family, "last")


def test_every_method_has_a_family_and_an_unperturbed_baseline() -> None:
    for name, method in METHODS.items():
        baseline = METHODS[method.baseline]
        assert baseline.weights == "last"
        assert FAMILIES[baseline.family].rule is None
        assert FAMILIES[baseline.family].base == FAMILIES[method.family].base, name


@pytest.mark.slow
def test_families_of_one_base_agree_without_perturbation(digits: Pool) -> None:
    jobs = {family: first_job(spec_of(*METHODS), family) for family in FAMILIES}
    base = jobs["base"]
    for family, settings in FAMILIES.items():
        if settings.base == "sgd":
            same = base.model_copy(update={"family": family, "rho": 0.0})
            assert run(same, digits, "cpu", "0").measurements == run(base, digits, "cpu", "0").measurements, family


@pytest.mark.slow
def test_perturbed_families_differ_from_each_other(digits: Pool) -> None:
    spec = spec_of(*METHODS)
    losses = {family: run(first_job(spec, family), digits, "cpu", "0").measurements[-1].val_loss for family in FAMILIES}
    assert len(set(losses.values())) == len(FAMILIES)


@pytest.mark.parametrize("method", ["SWA", "SAM", "WASAM", "late SAM", "AdamW+SAM", "EMA"])
@pytest.mark.parametrize("ceiling", [2.0, 3.0])
def test_the_baseline_may_spend_what_the_ceiling_allows_whatever_the_method_spends(method: str, ceiling: float) -> None:
    """A number of the spec, never derived from the methods that happen to be in the study."""
    spec = spec_of(METHODS[method].baseline, method).model_copy(update={"gradient_ceiling": ceiling})
    assert baseline_lengths(spec, method, "E") == (1.0,)
    short, *long = baseline_lengths(spec, method, "G")
    assert short == 1.0
    assert long == ([ceiling] if trials_at(spec, ceiling) else [])
    more = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 6})})
    assert baseline_lengths(more, method, "G") == (1.0, ceiling)
    lengths = {search.epochs_factor for search in searches(more) if FAMILIES[search.family].rule is None}
    assert lengths == {1.0, ceiling}
    assert {search.epochs_factor for search in searches(more) if FAMILIES[search.family].rule} <= {1.0}


def test_no_run_costs_more_than_the_ceiling() -> None:
    spec = spec_of(*METHODS)
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 2})})
    agenda = Agenda(spec)
    costs = {gradient_evaluations(job) for job in iter(agenda.next_job, None)}
    assert min(costs) == 1000
    assert max(costs) == 1000 * spec.gradient_ceiling


def test_averages_nobody_reads_are_not_kept() -> None:
    assert first_job(spec_of("SGD", "SAM"), "sam").averages == ()
    assert first_job(spec_of("SGD", "SAM"), "sam").reads == ("last", "best")
    assert first_job(spec_of("SGD", "SAM", "WASAM"), "sam").averages[0] == "swa@0.5"
    assert not any(name.startswith("ema") for name in first_job(spec_of("SGD", "SWA"), "base").averages)
    assert any(name.startswith("lawa") for name in first_job(spec_of("SGD", "LAWA"), "base").averages)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 40)])
def test_norm_and_width_shape_the_conv_net(norm: str, shape: tuple[int, ...]) -> None:
    factors = default_factors("digits") | {"norm": norm, "width": 2.0}
    model = build_model(factors, shape, 10, 0)
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    assert any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()) == (norm == "batch")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [32, 64, 128]


def test_augmentation_shifts_and_adds_noise() -> None:
    inputs = torch.zeros(500, 1, 8, 8)
    inputs[:, :, 4, 4] = 100.0
    draws = np.random.default_rng(0)
    out = augmented(1.0, inputs, draws)
    peaks = out.flatten(1).argmax(1)
    assert {int(p) for p in peaks // 8} == {int(p) for p in peaks % 8} == set(range(2, 7))
    rest = out[out < 50]
    assert rest.std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(inputs.sum(), torch.tensor(50_000.0))
