from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wrn.config.architecture import Architecture, multiply_adds, training_flops
from wrn.errors import ModelError
from wrn.model import WideResNet


def test_wrn_28_10_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = WideResNet(28, 10, num_classes=100)
    assert sum(p.numel() for p in model.parameters()) == 36_536_884
    assert multiply_adds(model.architecture) == 5_243_386_368
    assert training_flops(5_243_386_368) == 31_460_318_208


@pytest.mark.parametrize(
    ("depth", "nearest"), [(27, "22 and 28"), (5, "10 and 16"), (30, "28 and 34"), (4, "10 and 16")]
)
def test_a_depth_that_is_not_6n_plus_4(depth: int, nearest: str) -> None:
    with pytest.raises(ModelError, match=f"depth {depth} is not 6n\\+4; the nearest depths are {nearest}"):
        WideResNet(depth, 1)


@pytest.mark.parametrize("side", [32, 20, 17])
@pytest.mark.parametrize("shape", [(10, 1, 7), (16, 2, 100)])
def test_multiply_adds_agree_with_torch_counting(shape: tuple[int, int, int], side: int) -> None:
    depth, widen, classes = shape
    model = WideResNet(depth, widen, 0.0, classes).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() == 2 * multiply_adds(Architecture(depth, widen, 0.0, classes), side)


def test_widths_strides_and_shortcuts() -> None:
    model = WideResNet(16, 2)
    blocks = list(model.blocks())
    assert [(b.conv1.in_channels, b.conv1.out_channels, b.conv1.stride[0]) for b in blocks] == [
        (16, 32, 1),
        (32, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
    ]
    assert [b.shortcut is not None for b in blocks] == [True, False] * 3


def test_he_initialisation() -> None:
    torch.manual_seed(0)
    conv = list(WideResNet(10, 8).blocks())[2].conv2
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_zero_init_residual_starts_as_the_shortcut_and_is_not_dead() -> None:
    torch.manual_seed(0)
    model = WideResNet(16, 1, num_classes=5, zero_init_residual=True)
    block = list(model.blocks())[1]
    x = torch.randn(4, 16, 8, 8)
    assert torch.equal(block(x), x)
    model(torch.randn(4, 3, 16, 16)).logsumexp(1).sum().backward()
    assert block.conv2.weight.grad is not None
    assert block.conv2.weight.grad.abs().max() > 0


def test_dropout_is_between_the_convolutions_and_only_in_training() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, dropout=0.5, num_classes=5)
    x = torch.randn(2, 3, 16, 16)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    for bn in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        bn.eval()
    assert not torch.equal(model(x), model(x))


def test_the_classifier_starts_with_he_initialisation_over_the_fan_in_and_zero_bias() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 8)
    assert model.fc.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert not model.fc.bias.any()


def test_every_bn_has_the_configured_momentum() -> None:
    model = WideResNet(10, 1, bn_momentum=0.25)
    found = [module.momentum for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert found == [0.25] * 7
