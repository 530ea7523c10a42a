from __future__ import annotations

from typing import Any

import torch

from wrn.data.normalise import normalise
from wrn.model import WideResNet, pick_precision, predict_logits

FP32 = pick_precision(torch.device("cpu"), amp=False)
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.1)}


def test_logits_do_not_depend_on_the_batch_and_leave_the_model_alone() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.5, 7)
    images = torch.randint(0, 256, (11, 3, 16, 16), dtype=torch.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = predict_logits(model, images, precision=FP32, **STATISTICS)
    parts = predict_logits(model, images, precision=FP32, batch_size=4, **STATISTICS)
    assert model.training
    assert torch.allclose(whole, parts, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        assert torch.allclose(whole, model(normalise(images, **STATISTICS)), atol=1e-5)


def test_mirrored_is_the_mirror_image() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, num_classes=7)
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    mirrored = predict_logits(model, images, precision=FP32, mirrored=True, **STATISTICS)
    flipped = predict_logits(model, images.flip(-1), precision=FP32, **STATISTICS)
    assert torch.allclose(mirrored, flipped, atol=1e-6)


def test_logits_are_fp32_whatever_the_convolutions_compute_in() -> None:
    precision = pick_precision(torch.device("cpu"), amp=True, amp_dtype="bf16")
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert predict_logits(WideResNet(10, 1), images, precision=precision, **STATISTICS).dtype is torch.float32
