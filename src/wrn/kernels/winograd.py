"""3x3 convolutions in fp32 on CPUs by Winograd's algorithm: a quarter of oneDNN's multiplications."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wrn.kernels import native
from wrn.kernels.operator import operator

TILE = 4
"""Side in pixels of an output tile, which is computed at once; as in winograd.cpp."""
LEAST_TILES = 24
"""With fewer, transforming the weights costs more than it saves."""
LEAST_FILLED = 1 / 3
"""The least share of the tiles' area that images must fill: tiles extend beyond sides not divisible by four."""
FP32 = (torch.float32,)


def winograd_pays(x: Tensor) -> bool:
    """Whether a plain 3x3 convolution of x (B, C, H, W) is faster this way."""
    count, _, height, width = x.shape
    tiles = -(-height // TILE) * -(-width // TILE)
    return (
        x.dtype is torch.float32 and count * tiles >= LEAST_TILES and height * width >= LEAST_FILLED * TILE**2 * tiles
    )


def _shape_of_output(x: Tensor, weight: Tensor) -> Tensor:
    count, _, height, width = x.shape
    return x.new_empty(count, height, width, weight.shape[0]).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    # The gradient of x is a convolution of y's gradient with the kernels rotated by 180 degrees.
    grad_x = winograd(grad_y, weight.flip(2, 3).transpose(0, 1)) if ctx.needs_input_grad[0] else None
    return grad_x, winograd_weight_gradient(x, grad_y) if ctx.needs_input_grad[1] else None


@operator("winograd(Tensor x, Tensor weight) -> Tensor", fake=_shape_of_output, save=_save, backward=_backward)
def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, inputs, H, W) convolved with weight (outputs, inputs, 3, 3), stride 1 and padding 1, in fp32.

    Output and gradients are accurate to about 5e-6 of their norm (oneDNN: 1e-6). An infinity in x turns some of the
    outputs it affects into NaN.
    """
    x, y = native.checked(x, FP32), native.checked(_shape_of_output(x, weight), FP32)
    native.call("wrn_winograd", x, weight.permute(2, 3, 1, 0).contiguous(), *_sizes(x, y), y)
    return y


def _shape_of_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    return x.new_empty(grad_y.shape[1], 3, 3, x.shape[1]).permute(0, 3, 1, 2)


@operator("winograd_weight_gradient(Tensor x, Tensor grad_y) -> Tensor", fake=_shape_of_gradient)
def winograd_weight_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    """The gradient of `winograd`'s weight, from its x and the gradient of its output."""
    x, grad_y = native.checked(x, FP32), native.checked(grad_y, FP32)
    gradient = _shape_of_gradient(x, grad_y)
    native.call("wrn_winograd_weight_gradient", x, grad_y, *_sizes(x, grad_y), gradient)
    return gradient


def _sizes(x: Tensor, y: Tensor) -> tuple[int, int, int, int, int]:
    """Images, height, width, inputs, outputs."""
    count, inputs, height, width = x.shape
    return count, height, width, inputs, y.shape[1]
