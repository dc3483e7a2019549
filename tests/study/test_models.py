"""Networks have the published sizes, follow the cell's factors, and their initial weights belong to the seed."""

import copy

import pytest
import torch
from matrices import crossed
from torch import nn

from study.models import MODELS, build_model
from study.specs.factors import FACTORS
from study.specs.model_names import IMAGE_MODELS, form_of
from study.specs.tasks import TASKS, check_factor, default_factors
from study.streams import torch_seed

FACTORS_OF = {"width": 1.0, "norm": "batch"}
# Exact counts: kuangliu's ResNet-18; Zagoruyko's WRN; PyramidNet as in the model zoo pytorchcv. torchvision publishes
# its own; the others are those of their papers, in millions and as exactly as printed there.
PUBLISHED: dict[tuple[str, int], float] = {
    ("resnet18", 10): 11_173_962,
    ("wrn-28-10", 10): 36_479_194,
    ("wrn-28-10", 100): 36_536_884,
    ("pyramidnet-110-270", 10): 28_485_477,
    ("pyramidnet-110-270", 100): 28_511_307,
    ("pyramidnet-110-84", 10): 3_904_446,
    ("torchvision/resnet18", 1000): 11_689_512,
    ("torchvision/resnet50", 1000): 25_557_032,
}
IN_MILLIONS = {
    "resnet20": "0.27", "resnet32": "0.46", "resnet44": "0.66", "resnet56": "0.85", "resnet110": "1.7",
    "wrn-16-8": "11.0", "wrn-40-4": "8.9", "wrn-22-8": "17.2",
}  # fmt: skip


def on_paper(name: str, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), **factors: object) -> nn.Module:
    """Build a network of any size in no memory."""
    with torch.device("meta"):
        return build_model(FACTORS_OF | {"model": name} | factors, shape, classes, 0)  # type: ignore[operator]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "classes"), PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(name: str, classes: int) -> None:
    assert parameters(on_paper(name, classes)) == PUBLISHED[name, classes]


@pytest.mark.parametrize("name", IN_MILLIONS)
def test_a_network_has_the_size_of_its_paper(name: str) -> None:
    digits = len(IN_MILLIONS[name].partition(".")[2])
    assert f"{parameters(on_paper(name)) / 1e6:.{digits}f}" == IN_MILLIONS[name]


def by_hand(depth: int, widening: int, classes: int) -> int:
    """Count a wide ResNet's parameters from its table: convolutions, two norms a block, projections, the rest."""
    total, channels = 3 * 16 * 9, 16
    for base in (16, 32, 64):
        width = base * widening
        for _ in range((depth - 4) // 6):
            total += 9 * channels * width + 9 * width * width + 2 * channels + 2 * width
            total += channels * width if channels != width else 0
            channels = width
    return total + 2 * channels + (channels + 1) * classes


@pytest.mark.parametrize(("depth", "widening"), [(10, 1), (16, 4), (28, 2), (28, 10), (40, 8)])
def test_wide_resnets_add_up(depth: int, widening: int) -> None:
    assert parameters(on_paper(f"wrn-{depth}-{widening}")) == by_hand(depth, widening, 10)


SMALL = ("conv", "mlp", "resnet18", "resnet20", "wrn-10-1", "pyramidnet-8-10", "torchvision/squeezenet1_1")


@crossed(name=SMALL, shape=[(1, 28, 28), (3, 32, 32)])
def test_a_network_takes_small_images_and_gives_every_weight_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    model = build_model(FACTORS_OF | {"model": name}, shape, 10, 0)
    outputs = model(torch.randn(4, *shape, generator=torch.manual_seed(0)))
    assert outputs.shape == (4, 10)
    outputs.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if name != "mlp"])
def test_channels_last_changes_the_layout_and_not_the_result(name: str) -> None:
    model = build_model(FACTORS_OF | {"model": name}, (3, 32, 32), 10, 0).double()  # ReLU's kinks magnify rounding
    kernels = [p for p in model.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in kernels)
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    inputs = torch.randn(4, 3, 32, 32, generator=torch.manual_seed(0), dtype=torch.float64)
    for net in (model, plain):
        torch.manual_seed(1)  # some have dropout
        net(inputs).logsumexp(1).sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.grad.stride() == ours.stride()
        assert torch.allclose(ours.grad, theirs.grad)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_a_signal_goes_through_torchs_own_layers_for_signals_all_the_same(norm: str) -> None:
    model = build_model(FACTORS_OF | {"norm": norm, "model": "conv"}, (2, 40), 10, 0)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, "initial weights"))
        plain = nn.Sequential(*(_for_signals(layer) for layer in model if not isinstance(layer, nn.Unflatten)))
    inputs = torch.randn(16, 2, 40, generator=torch.manual_seed(0))
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.flatten(), theirs.flatten())
    outputs = [net(inputs) for net in (model, plain)]
    assert torch.allclose(*outputs, atol=1e-5)
    for output in outputs:
        output.logsumexp(1).sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad.flatten(), theirs.grad.flatten(), rtol=1e-3, atol=1e-4)


def _for_signals(layer: nn.Module) -> nn.Module:
    """Make a layer anew, as one of torch's for signals where there is such."""
    if isinstance(layer, nn.Conv2d):
        stride, bias = layer.stride[-1], layer.bias is not None
        return nn.Conv1d(layer.in_channels, layer.out_channels, 3, stride, padding=1, bias=bias)
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm1d(layer.num_features)
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features)
    return nn.AdaptiveAvgPool1d(1) if isinstance(layer, nn.AdaptiveAvgPool2d) else layer


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "wrn-16-1", "pyramidnet-20-16"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_norm_and_width_shape_residual_networks(name: str, norm: str) -> None:
    one, two = (on_paper(name, norm=norm, width=width) for width in (1.0, 2.0))
    first, second = (next(m for m in model.modules() if isinstance(m, nn.Conv2d)) for model in (one, two))
    assert second.out_channels == 2 * first.out_channels
    norms = {type(m) for m in one.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)}
    assert norms == {"batch": {nn.BatchNorm2d}, "group": {nn.GroupNorm}, "none": set()}[norm]


def test_without_norms_a_block_keeps_its_shortcut() -> None:
    """The first ReLU of a wide block must not write into what the shortcut still needs."""
    model = build_model(FACTORS_OF | {"model": "wrn-10-1", "norm": "none"}, (3, 8, 8), 10, 0)
    block = next(m for m in model if type(m).__name__ == "WideBlock")
    inputs = torch.randn(2, 16, 8, 8, generator=torch.manual_seed(0))
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(inputs), inputs)


@pytest.mark.parametrize("name", ["conv", "mlp", "resnet18", "wrn-10-1", "pyramidnet-8-10"])
def test_initial_weights_belong_to_the_seed_and_leave_the_global_state_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        build_model(default_factors("digits") | {"model": name}, (1, 8, 8), 10, seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.dim() > 1:
            assert not torch.equal(a, c)


def test_convolutions_start_as_he_2015_says() -> None:
    model = build_model(FACTORS_OF | {"model": "wrn-16-4"}, (3, 32, 32), 10, 0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("conv", "conv"), ("wrn-28-10", "wrn-DEPTH-WIDTH"), ("wrn-27-10", None), ("wrn-4-1", None), ("wrn-28-0", None),
        ("wrn-28", None), ("pyramidnet-110-270", "pyramidnet-DEPTH-ALPHA"), ("pyramidnet-111-270", None),
        ("torchvision/resnet50", "torchvision/NAME"), ("torchvision/resnet5", None), ("resnet50", None),
        ("wrn-DEPTH-WIDTH", None), ("torchvision/NAME", None),
    ],
)  # fmt: skip
def test_a_name_fits_one_form_or_none(name: str, form: str | None) -> None:
    assert form_of(name, IMAGE_MODELS) == form
    if form is None:
        with pytest.raises(ValueError, match="wrn-DEPTH-WIDTH"):
            check_factor("model", name, "cifar10")
        with pytest.raises(ValueError, match="was given"):
            on_paper(name)
    else:
        check_factor("model", name, "cifar10")


def test_every_form_of_a_task_can_be_built() -> None:
    assert set(IMAGE_MODELS) == set(MODELS)
    assert {"digits", "cifar10"} <= set(TASKS)
    assert FACTORS["model"].kind is str


def test_names_of_torchvision_are_torchvisions() -> None:
    from torchvision import models  # noqa: PLC0415  # seconds

    assert all(form_of(f"torchvision/{name}", IMAGE_MODELS) for name in models.list_models(module=models))


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "maxvit_t", "googlenet", "inception_v3", "convnext_tiny"])
def test_what_torchvision_builds_with_options_answers_with_logits(name: str) -> None:
    with torch.device("meta"):
        model = build_model(FACTORS_OF | {"model": f"torchvision/{name}"}, (3, 224, 224), 7, 0).train()
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 7)


@pytest.mark.parametrize(("factor", "value"), [("width", 2.0), ("norm", "group")])
def test_torchvisions_networks_have_their_own_width_and_norm(factor: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"factors.{factor} = .* was given; torchvision/resnet18 has its own"):
        on_paper("torchvision/resnet18", **{factor: value})
