from __future__ import annotations

import torch

from wrn.data.dataset import channel_statistics
from wrn.data.normalise import normalise


def test_agrees_with_the_formula_per_channel() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    expected = torch.stack([(images[:, c] / 255 - mean[c]) / std[c] for c in range(3)], dim=1)
    for layout in (torch.contiguous_format, torch.channels_last):
        result = normalise(images.contiguous(memory_format=layout), mean, std)
        assert torch.allclose(result, expected, atol=1e-5)
        assert result.dtype is torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    images[:, 2] = 7
    mean, std = channel_statistics(images)
    assert normalise(images, mean, std)[:, 2].abs().max() < 1e-4
