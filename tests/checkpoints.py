"""A small checkpoint for tests."""

from __future__ import annotations

import torch

from wrn.training.checkpoint import Checkpoint


def make(step: int) -> Checkpoint:
    """Of step number `step`, with tensors of several types and layouts that are the same each time."""
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model/w": torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "model/n": torch.tensor(step),
        "meters": torch.tensor([float("inf"), 1.5], dtype=torch.float64),
    }
    return Checkpoint(tensors, {"step": step, "history": [{"loss": 0.1 + 0.2, "step": step}], "name": "ümlaut"})
