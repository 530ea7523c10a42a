"""3x3 convolutions in fp32 on CPUs by Winograd's algorithm: a quarter of the multiplications that oneDNN makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wrn.model import native

TILE = 4
"""Pixels of the output, down and across, that are computed together; as in winograd.cpp."""
LEAST_TILES = 24
"""For fewer, what becomes of the weights costs more than it saves."""
LEAST_FILLED = 1 / 3
"""The least share of the tiles' area that pictures must fill: tiles reach beyond sides that are no multiple of four."""


def winograd_pays(x: Tensor) -> bool:
    """Whether a plain 3x3 convolution of x (B, C, H, W) takes less time this way."""
    count, _, height, width = x.shape
    tiles = -(-height // TILE) * -(-width // TILE)
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and count * tiles >= LEAST_TILES
        and height * width >= LEAST_FILLED * TILE**2 * tiles
    )


def winograd(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), of stride 1 and padding 1, to about 5e-6 of its norm, and so are its gradients; oneDNN's to 1e-6.

    x is channels-last, and channels come in multiples of native.LANES. An infinity in x makes NaN of some of what it
    reaches.
    """
    y: Tensor = _Winograd.apply(x, conv.weight)  # type: ignore[no-untyped-call]
    return y


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight.permute(2, 3, 1, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_y = of_y.contiguous(memory_format=torch.channels_last)
        # The gradient of x is a convolution of y's gradient, with each window turned by 180 degrees.
        of_x = _convolve(of_y, weight.flip(2, 3).permute(2, 3, 0, 1)) if ctx.needs_input_grad[0] else None
        return of_x, _weight_gradient(x, of_y) if ctx.needs_input_grad[1] else None


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """By weight (3, 3, inputs, outputs)."""
    count, inputs, height, width = x.shape
    outputs = weight.shape[3]
    weight = weight.contiguous()
    y = torch.empty(count, height, width, outputs)
    native.call(_library(), "wrn_winograd", x, weight, count, height, width, inputs, outputs, y)
    return y.permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, of_y: Tensor) -> Tensor:
    count, inputs, height, width = x.shape
    outputs = of_y.shape[1]
    gradient = torch.empty(outputs, 3, 3, inputs)
    sizes = (count, height, width, inputs, outputs)
    native.call(_library(), "wrn_winograd_weight_gradient", x, of_y, *sizes, gradient)
    return gradient.permute(0, 3, 1, 2)


def _library() -> Any:
    library = native.kernels()
    assert library is not None
    return library
