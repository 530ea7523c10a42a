from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from wrn.bench import limits
from wrn.bench.limits import Convolution, convolutions, convolutions_alone, measured_peaks
from wrn.config.architecture import multiply_adds
from wrn.model import Precision, WideResNet

FP32 = Precision(torch.device("cpu"), torch.float32, "a test")


@pytest.mark.parametrize("side", [20, 32])
def test_the_convolutions_account_for_all_arithmetic(side: int) -> None:
    network = WideResNet(16, 2)
    found = convolutions(network, side)
    total = sum(layer.multiply_adds * count for layer, count in found.items())
    assert total + 128 * 100 == multiply_adds(network.architecture, side)  # the classifier is not a convolution
    assert found[Convolution(3, 16, 3, 1, side)] == 1
    assert found[Convolution(32, 32, 3, 1, side)] == 3
    assert found[Convolution(64, 128, 3, 2, side // 2)] == 1


def test_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(measured_peaks(FP32, at_least=0.01)) == {"matmul", "conv3x3"}

    def one_second(run: Callable[[], object], device: torch.device, at_least: float) -> float:
        run()
        return 1.0

    monkeypatch.setattr(limits, "fastest", one_second)
    # The first, two in each of three blocks, and the shortcuts of the two blocks that are wider than their input.
    assert convolutions_alone(WideResNet(10, 1), 8, 2, FP32) == 1 + 3 * 2 + 2
