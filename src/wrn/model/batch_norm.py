"""The running statistics of batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserve_bn_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, BN may update its running statistics; afterwards they are restored.

    SAM sees each image twice; only the pass at the unperturbed weights may update the statistics.
    """
    buffers = list(model.buffers())
    with torch.no_grad():
        before = [torch.empty_like(buffer) for buffer in buffers]
        torch._foreach_copy_(before, buffers)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(buffers, before)
