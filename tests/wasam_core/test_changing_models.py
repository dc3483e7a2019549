"""Averages of a model whose tensors are replaced, converted, added or put into another form."""

import copy
from contextlib import nullcontext

import pytest
import torch
from averaged import MODES, SETTINGS, move, net, plain, taken_in
from matrices import crossed
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from wasam_core import (
    WASAM,
    MultipleSWAModels,
    WeightAverages,
    frozen_batchnorm_statistics,
    recalibrate_batchnorm,
)

# A model that changes.


def assign(model: nn.Module) -> None:
    model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)


def load_partly(model: nn.Module) -> None:
    model.load_state_dict({"0.bias": torch.ones(5)}, strict=False)


def convert_anew(model: nn.Module) -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def convert_swapping(model: nn.Module) -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def new_head(model: nn.Module, outputs: int = 3) -> None:
    model[2] = nn.Linear(5, outputs)


def other_head(model: nn.Module) -> None:
    new_head(model, 7)


def through_meta(model: nn.Module) -> None:
    model.to("meta")
    model.to_empty(device="cpu")
    nn.init.zeros_(model[1].running_mean)
    nn.init.ones_(model[1].running_var)


def freeze(model: nn.Module) -> None:
    model[0].requires_grad_(False)


def norm_weights(model: nn.Module) -> None:
    parametrize.register_parametrization(model[2], "weight", Twice())


def add_adapter(model: nn.Module) -> None:
    model[0].adapter = nn.Linear(4, 2, bias=False)


def drop_bias(model: nn.Module) -> None:
    model[2].bias = None


def widen_in_place(model: nn.Module) -> None:
    model[2].weight.data = torch.zeros(7, 5)
    model[2].bias.data = torch.zeros(7)


def narrow_in_place(model: nn.Module) -> None:
    model[2].weight.data = torch.zeros(1, 5)
    model[2].bias.data = torch.zeros(1)


class Twice(nn.Module):
    """A parametrization."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


SAME = (assign, load_partly, convert_anew, convert_swapping, new_head, through_meta, freeze)
OTHER = (other_head, norm_weights, add_adapter, drop_bias, widen_in_place, narrow_in_place)


@crossed(change=SAME, when=(0, 1, 2), buffers=(False, True))
def test_replaced_tensors_are_averaged_as_torchs_averaged_model_does(change, when, buffers):
    model = net()
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=4, average_buffers=buffers)
    theirs = AveragedModel(net(), use_buffers=buffers)
    for epoch in range(4):
        if epoch == when:
            change(model)
        move(model, epoch)
        model[1].running_mean.fill_(float(epoch))
        averages.update(epoch + 1)
        theirs.update_parameters(model)
    own = copy.deepcopy(model.state_dict())
    with averages.average_parameters("swa@0.0"):
        inside = copy.deepcopy(model.state_dict())
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(inside[name].float(), value.float(), rtol=1e-5, atol=1e-6, msg=name)
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name]), name


@pytest.mark.parametrize("change", OTHER)
def test_a_model_of_other_weights_is_averaged_from_its_first_update_and_refused_after_it(change):
    model = net()
    averages = WeightAverages(model, **SETTINGS)
    change(model)
    taken_in(averages, range(1, 4))
    with averages.average_parameters("swa@0.0"):
        for p, value in zip(model.parameters(), averages.read("swa@0.0"), strict=True):
            torch.testing.assert_close(p.detach(), value)

    model = net()
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 4))
    before = plain(averages.state_dict())
    change(model)
    own = copy.deepcopy(model.state_dict())
    for call in (
        lambda: averages.update(4),
        averages.update_step,
        lambda: averages.average_parameters("ema@0.7").__enter__(),
    ):
        with pytest.raises(RuntimeError, match="begin with new WeightAverages"):
            call()
    with pytest.raises(ValueError, match="saved averages"):
        averages.load_state_dict(averages.state_dict())
    assert plain(averages.state_dict()) == before
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_weights_that_were_tied_and_are_not_any_more_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 2))
    assign(model)
    with pytest.raises(RuntimeError, match=r"1\.weight is new"):
        averages.update(2)


def test_a_model_without_values_is_refused():
    model = net().to("meta")
    averages = WeightAverages(model, **SETTINGS)
    with pytest.raises(RuntimeError, match=r"meta device.*to_empty"):
        averages.update(1)
    lazy = nn.Sequential(nn.LazyLinear(2))
    averages = WeightAverages(lazy, **SETTINGS)
    with pytest.raises(RuntimeError, match="uninitialized"):
        averages.update(1)
    lazy(torch.ones(1, 3))
    taken_in(averages, range(1, 3))
    assert averages.count("swa@0.0") == 2


def test_parametrized_weights_are_averaged_in_their_own_terms():
    model = nn.Sequential(nn.Linear(2, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=3)
    originals = []
    for epoch in (1, 2, 3):
        move(model, epoch)
        averages.update(epoch)
        originals.append([p.detach().clone() for p in model.parameters()])
    own = model[0].weight.detach().clone()
    _, size, direction = (torch.stack(parts).mean(0) for parts in zip(*originals, strict=True))
    with averages.average_parameters("swa@0.0"):
        torch.testing.assert_close(model[0].weight, torch._weight_norm(direction, size))
    assert torch.equal(model[0].weight, own)


@pytest.mark.slow
def test_a_compiled_model_evaluates_the_average():
    model, x = net().eval(), torch.ones(3, 4)
    compiled = torch.compile(model, backend="aot_eager")
    averages = taken_in(WeightAverages(compiled, **SETTINGS), range(1, 4))
    last = compiled(x)
    for name in averages.ready:
        with averages.average_parameters(name), torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x))
            assert not torch.equal(compiled(x), last)
        assert torch.equal(compiled(x), last)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")  # and still in use
def test_a_scripted_model_is_averaged_and_swapped():
    model, twin = torch.jit.script(net()), net()
    pair = [taken_in(WeightAverages(one, **SETTINGS), range(1, 4)) for one in (model, twin)]
    before = plain(model.state_dict())
    for name in pair[0].ready:
        with pair[0].average_parameters(name), pair[1].average_parameters(name):
            assert plain(model.state_dict()) == plain(twin.state_dict())
            model(torch.ones(3, 4))
    with frozen_batchnorm_statistics(model):
        model(torch.ones(3, 4))
    with pytest.raises(ValueError, match="part of a scripted model"):
        recalibrate_batchnorm(model, [torch.ones(3, 4)])
    assert plain(model.state_dict()) == before


@crossed(there=MODES, back=MODES)
def test_a_swap_in_one_mode_may_end_in_another(there, back):
    model, x = net(), torch.ones(3, 4)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    with MODES[there]():
        optimizer.update_swa()
    move(model, 1)
    own = plain(model.state_dict())
    with MODES[there]():
        optimizer.swap_swa_sgd()
        optimizer.bn_update([x], model)
    with MODES[back]():
        optimizer.swap_swa_sgd()
    assert plain(model.state_dict()) == own
    optimizer.step(lambda: model(x).square().mean().backward() or torch.ones(()))
    optimizer.update_swa()


def test_split_parameters_are_not_averaged():
    model = net()
    model[2].weight._fsdp_flattened = True  # as FullyShardedDataParallel marks what it has split
    with pytest.raises(RuntimeError, match=r"split over processes.*DistributedDataParallel"):
        WeightAverages(model, **SETTINGS).update(1)


@pytest.mark.parametrize("change", [assign, convert_anew, new_head, through_meta, norm_weights, drop_bias])
def test_an_optimizer_whose_parameters_have_left_the_model_swaps_no_average(change):
    for when in ("before", "after"):
        model = net()
        optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
        if when == "after":
            optimizer.update_swa()
        change(model)
        if change is norm_weights:  # which goes on with the same parameter, under another name
            optimizer.update_swa()
            continue
        for call in (optimizer.update_swa, optimizer.swap_swa_sgd):
            with pytest.raises(RuntimeError, match="no longer the model's"):
                call()


def test_statistics_of_a_model_that_does_not_feel_the_swap_are_refused():
    model, other = net(), net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    optimizer.update_swa()
    optimizer.bn_update([torch.ones(3, 4)], other)
    with optimizer.average_parameters():
        optimizer.bn_update([torch.ones(3, 4)], model)
        for stranger in (other, assign(model) or model):
            with pytest.raises(RuntimeError, match="holds none of the optimizer's parameters"):
                optimizer.bn_update([torch.ones(3, 4)], stranger)


def test_parameters_outside_the_model_and_groups_that_are_added_are_no_orphans():
    model, scale = net(), nn.Parameter(torch.ones(1))
    optimizer = WASAM([*model[0].parameters(), scale], torch.optim.SGD, lr=0.1, model=model)
    optimizer.add_param_group({"params": list(model[2].parameters())})
    copied = copy.deepcopy(optimizer)
    for one in (optimizer, copied):
        one.update_swa()
        one.swap_swa_sgd()
        one.swap_swa_sgd()
    new_head(model)
    with pytest.raises(RuntimeError, match="2 of the optimizer's 5"):
        optimizer.update_swa()
    copied.update_swa()


@pytest.mark.parametrize("change", [other_head, add_adapter, drop_bias, norm_weights])
def test_copies_of_another_model_are_refused_before_anything_changes(change):
    model = net()
    copied = MultipleSWAModels(model, "cpu", 4, [0.0, 0.5])
    copied.update_parameters(model, 1)
    before = plain(copied.state_dict())
    change(model)
    with pytest.raises(ValueError, match="Build it after such a change"):
        copied.update_parameters(model, 2)
    assert plain(copied.state_dict()) == before


# What the block puts back.


def half(model: nn.Module) -> None:
    model.half()


@pytest.mark.parametrize("change", [half, convert_swapping, freeze, through_meta])
@pytest.mark.parametrize("spelling", ["WeightAverages", "WASAM"])
def test_conversions_inside_the_block_are_undone(change, spelling):
    model = net()
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 3))
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    optimizer.update_swa()
    before = {name: (t.data_ptr(), t.dtype, t.clone()) for name, t in model.state_dict().items()}
    block = averages.average_parameters("swa@0.0") if spelling == "WeightAverages" else optimizer.average_parameters()
    replaced = change in (through_meta, convert_swapping)  # the others change what the parameters hold
    with pytest.raises(RuntimeError, match="The change is undone") if replaced else nullcontext(), block:
        change(model)
        model[1].running_mean.fill_(5.0)
    for name, t in model.state_dict().items():
        assert (t.data_ptr(), t.dtype) == before[name][:2], name
        assert torch.equal(t, before[name][2]), name


@pytest.mark.parametrize("change", [assign, convert_anew])
def test_parameters_that_are_replaced_inside_the_block_return_and_it_is_said(change):
    model = net()
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 3))
    before = [(p, p.detach().clone()) for p in model.parameters()]

    def replace_inside():
        with averages.average_parameters("swa@0.0"):
            change(model)

    with pytest.raises(RuntimeError, match="The change is undone"):
        replace_inside()
    for p, (was, value) in zip(model.parameters(), before, strict=True):
        assert p is was
        assert torch.equal(p, value)


def test_a_model_that_is_rebuilt_inside_the_block_is_reported():
    model = net()
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 3))
    head, own = model[2], model[2].weight.detach().clone()

    def rebuild_inside():
        with averages.average_parameters("swa@0.0"):
            new_head(model)

    with pytest.raises(RuntimeError, match="rebuilt inside"):
        rebuild_inside()
    assert torch.equal(head.weight, own)


def test_a_cache_that_grows_inside_the_block_stays():
    model = nn.Linear(2, 1)
    model.register_buffer("cache", torch.zeros(3))
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 3))
    with averages.average_parameters("swa@0.0"):
        model.cache = torch.ones(9)
    assert model.cache.tolist() == [1.0] * 9
