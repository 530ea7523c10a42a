"""3x3 convolutions in fp32 on CPUs by Winograd's algorithm: a quarter of oneDNN's multiplications."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wrn.kernels import native

TILE = 4
"""Side in pixels of an output tile, which is computed at once; as in winograd.cpp."""
LEAST_TILES = 24
"""With fewer, transforming the weights costs more than it saves."""
LEAST_FILLED = 1 / 3
"""The least share of the tiles' area that images must fill: tiles extend beyond sides not divisible by four."""


def winograd_pays(x: Tensor) -> bool:
    """Whether a plain 3x3 convolution of x (B, C, H, W) is faster this way."""
    count, _, height, width = x.shape
    tiles = -(-height // TILE) * -(-width // TILE)
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and count * tiles >= LEAST_TILES
        and height * width >= LEAST_FILLED * TILE**2 * tiles
    )


def winograd(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), stride 1 and padding 1. Output and gradients are accurate to about 5e-6 of their norm (oneDNN: 1e-6).

    x is channels-last, with a multiple of native.LANES channels. An infinity in x turns some of the outputs it affects
    into NaN.
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
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_y = grad_y.contiguous(memory_format=torch.channels_last)
        # The gradient of x is a convolution of y's gradient with the kernels rotated by 180 degrees.
        grad_x = _convolve(grad_y, weight.flip(2, 3).permute(2, 3, 0, 1)) if ctx.needs_input_grad[0] else None
        return grad_x, _weight_gradient(x, grad_y) if ctx.needs_input_grad[1] else None


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve x with weight (3, 3, inputs, outputs)."""
    count, inputs, height, width = x.shape
    outputs = weight.shape[3]
    weight = weight.contiguous()
    y = torch.empty(count, height, width, outputs)
    native.call(_library(), "wrn_winograd", x, weight, count, height, width, inputs, outputs, y)
    return y.permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    count, inputs, height, width = x.shape
    outputs = grad_y.shape[1]
    gradient = torch.empty(outputs, 3, 3, inputs)
    sizes = (count, height, width, inputs, outputs)
    native.call(_library(), "wrn_winograd_weight_gradient", x, grad_y, *sizes, gradient)
    return gradient.permute(0, 3, 1, 2)


def _library() -> Any:
    library = native.kernels()
    assert library is not None
    return library
