"""wrn's network against one written independently from the paper, in benchmarks/peers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from peers.plain_pytorch import WRN
from wrn.config.schema import Config
from wrn.data.augment.batch import Batch
from wrn.model import WideResNet, pick_precision
from wrn.training.optimizer import Optimizers
from wrn.training.schedule import Schedule
from wrn.training.step import TrainStep

FP32 = pick_precision(torch.device("cpu"), amp=False)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Both list their tensors in the order of the layers; only the names differ."""
    pairs = list(zip(source.state_dict().values(), target.state_dict().values(), strict=True))
    with torch.no_grad():
        for value, place in pairs:
            assert value.shape == place.shape
            place.copy_(value)


@pytest.mark.parametrize(("depth", "widen"), [(28, 10), (16, 2)])
def test_equal_weights_give_equal_logits(depth: int, widen: int) -> None:
    torch.manual_seed(0)
    reference, ours = WRN(depth, widen), WideResNet(depth, widen)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        reference.train()(x)  # so that BN's statistics are not those of the start
        copy_weights(reference, ours)
        expected, logits = reference.eval()(x), ours.to(memory_format=torch.channels_last).eval()(x)  # type: ignore[call-overload]
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_with_silu_each_relu_of_it_is_a_silu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reference, ours = WRN(10, 2), WideResNet(10, 2, activation="silu")
    copy_weights(reference, ours)
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        plain = reference(x)
        monkeypatch.setattr(F, "relu", lambda x, inplace=False: x * torch.sigmoid(x))
        expected = reference(x)
        assert (ours(x) - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert not torch.allclose(plain, expected, atol=0.01)


def test_pooling_averages_2x2_pixels_for_both_convolutions() -> None:
    torch.manual_seed(0)
    plain, pooling = WideResNet(10, 2).eval(), WideResNet(10, 2, downsampling="pool").eval()
    pooling.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 16, 16)
    strided = plain(x)
    for block in plain.blocks():
        if block.conv1.stride == (2, 2):
            # The mean of 2x2 pixels, written as a convolution of each channel with itself.
            channels = block.conv1.in_channels
            mean = nn.Conv2d(channels, channels, 2, stride=2, groups=channels, bias=False)
            nn.init.constant_(mean.weight, 0.25)
            for convolution in (block.conv1, block.shortcut):
                assert convolution is not None
                convolution.stride = (1, 1)
            block.conv1, block.shortcut = nn.Sequential(mean, block.conv1), nn.Sequential(mean, block.shortcut)  # type: ignore[arg-type,assignment]
    assert torch.allclose(plain(x), pooling(x), atol=1e-5)
    assert not torch.allclose(strided, pooling(x), atol=0.01)


@pytest.mark.parametrize("side", [9, 10, 18, 28])
def test_pooling_halves_any_side_as_strides_do(side: int) -> None:
    strided, pooling = WideResNet(10, 1), WideResNet(10, 1, downsampling="pool")
    x = torch.randn(2, 3, side, side)
    assert pooling.groups(pooling.conv1(x)).shape == strided.groups(strided.conv1(x)).shape


def test_ten_training_steps_agree() -> None:
    torch.manual_seed(0)
    reference, ours = WRN(10, 2, num_classes=10), WideResNet(10, 2, num_classes=10)
    copy_weights(reference, ours)
    decayed = [p for p in reference.parameters() if p.ndim > 1]
    bare = [p for p in reference.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": bare, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    config = Config(lr=0.05, dropout=0.0, amp=False, batch_size=16, warmup_epochs=0)
    schedule = Schedule("step", peak=0.05, floor=0.0, warmup_steps=0, total_steps=10)
    step = TrainStep(config, ours, Optimizers(config, ours, FP32), FP32, schedule, lambda note: None)
    losses = SimpleNamespace(theirs=[], ours=[])
    for number in range(10):
        x, y = torch.randn(16, 3, 16, 16), torch.randint(0, 10, (16,))
        loss = F.cross_entropy(reference(x), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.theirs.append(loss.item())
        step(number, Batch(x, y))
        losses.ours.append(step.meters.read().loss)
        step.meters.reset()
    assert losses.ours == pytest.approx(losses.theirs, rel=1e-4)
