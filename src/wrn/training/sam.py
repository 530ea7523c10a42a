"""Sharpness-aware minimisation (SAM, arXiv:2010.01412): the gradient at the worst nearby weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def perturbed(parameters: list[nn.Parameter], rho: float) -> Iterator[None]:
    """Inside, the weights are w + rho * g / ||g||, with g their gradients; afterwards they are restored, bit for bit.

    Loss scaling (fp16) makes no difference: the perturbation does not depend on the norm of g. If g overflowed,
    the perturbed gradients are not finite either, and the loss scaler skips the step.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    weights: list[Tensor] = [p for p in parameters if p.grad is not None]
    with torch.no_grad():
        before = torch._foreach_mul(weights, 1.0)
        scale = rho / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
        torch._foreach_add_(weights, torch._foreach_mul(gradients, scale))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
