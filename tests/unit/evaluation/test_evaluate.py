from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from wrn.data.dataset import Split
from wrn.evaluation.evaluate import evaluate
from wrn.model import WideResNet, predict_logits
from wrn.model.precision import pick_precision

FP32 = pick_precision(torch.device("cpu"), amp=False)


class LeftOrRight(nn.Module):
    """Predicts 1 if the left half of the red channel is brighter, and ignores the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        lead = images[:, 0, :, :16].mean((1, 2)) - images[:, 0, :, 16:].mean((1, 2))
        return torch.stack([-lead, lead], 1) * self.scale


def split() -> Split:
    images = torch.zeros(10, 3, 32, 32, dtype=torch.uint8)
    images[:6, :, :, :16] = 200
    images[6:, :, :, 16:] = 100
    return Split(images, torch.tensor([1] * 6 + [0] * 4))


def test_every_image_counts_once_and_the_network_is_unchanged() -> None:
    model = LeftOrRight().train()
    found = evaluate(model, split(), mean=(0, 0, 0), std=(1, 1, 1), precision=FP32)
    assert (found.plain.images, found.plain.top1) == (10, 1.0)
    assert found.mirrored is None
    assert "tta" not in found.as_dict()
    assert model.training


def test_a_confidently_wrong_network_has_a_finite_loss() -> None:
    wrong = Split(split().images, 1 - split().labels)
    model = LeftOrRight()
    nn.init.constant_(model.scale, 1000.0)
    found = evaluate(model, wrong, mean=(0, 0, 0), std=(1, 1, 1), precision=FP32, tta=True)
    assert found.mirrored is not None
    assert found.plain.loss > 500  # a probability of exp(-500) is 0 in fp32
    assert math.isfinite(found.mirrored.loss)


@pytest.mark.gpu
@pytest.mark.parametrize("amp_dtype", ["bf16", "fp16"])
def test_scores_of_a_gpu_are_those_of_fp32_on_the_cpu(amp_dtype: str) -> None:
    """Logits within 2% of their norm: 16-bit convolutions keep 8 or 11 bits of each number."""
    torch.manual_seed(0)
    model = WideResNet(16, 2, 0.0, 5)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    logits = []
    for precision in (FP32, pick_precision(torch.device("cuda"), amp=True, amp_dtype=amp_dtype)):
        network = copy.deepcopy(model).to(precision.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = predict_logits(network, images, mean=(0.5,) * 3, std=(0.25,) * 3, precision=precision)
        logits.append(found.cpu())
    assert (logits[0] - logits[1]).norm() <= 0.02 * logits[0].norm()


def test_mirrored_scores_accompany_the_plain_ones() -> None:
    plain = evaluate(LeftOrRight(), split(), mean=(0, 0, 0), std=(1, 1, 1), precision=FP32)
    both = evaluate(LeftOrRight(), split(), mean=(0, 0, 0), std=(1, 1, 1), precision=FP32, tta=True)
    figures = both.as_dict()
    tta = figures.pop("tta")
    assert figures == plain.as_dict()
    # An image and its mirror image get opposite predictions, whose mean is even.
    assert abs(tta["loss"] - torch.tensor(2.0).log().item()) < 1e-6


def test_superclasses_are_scored_both_ways() -> None:
    found = evaluate(
        LeftOrRight(), split(), mean=(0, 0, 0), std=(1, 1, 1), precision=FP32, superclass_of=(0, 0), tta=True
    )
    assert found.plain.superclass == 1.0
    assert found.mirrored is not None
    assert found.mirrored.superclass == 1.0
