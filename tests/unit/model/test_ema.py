from __future__ import annotations

import pytest
import torch

from wrn.model import AveragedModel, WideResNet
from wrn.model.ema import decay_at


def test_decay_warms_up() -> None:
    assert [round(decay_at(0.9, t), 4) for t in (0, 1, 8, 79, 80, 1000)] == [0.1, 0.1818, 0.5, 0.8989, 0.9, 0.9]


def test_weights_and_bn_statistics_follow_and_counts_are_copied() -> None:
    model = WideResNet(10, 1, num_classes=3)
    average = AveragedModel(model, 0.5)
    with torch.no_grad():
        model.conv1.weight.fill_(1.0)
        model.bn.running_var.fill_(3.0)  # type: ignore[union-attr]
        model.bn.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
        average.module.conv1.weight.fill_(0.0)
    average.update()  # decay 0.1 at first
    assert average.module.conv1.weight.mean().item() == pytest.approx(0.9)
    assert average.module.bn.running_var.mean().item() == pytest.approx(0.9 * 3 + 0.1 * 1)  # type: ignore[union-attr]
    assert average.module.bn.num_batches_tracked.item() == 7  # type: ignore[union-attr]


def test_the_average_converges_to_still_weights_and_never_moves_them() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, num_classes=3)
    average = AveragedModel(model, 0.9)
    before = model.fc.weight.clone()
    with torch.no_grad():
        average.module.fc.weight.zero_()
    for _ in range(200):
        average.update()
    assert torch.allclose(average.module.fc.weight, model.fc.weight, atol=1e-6)
    assert torch.equal(model.fc.weight, before)
