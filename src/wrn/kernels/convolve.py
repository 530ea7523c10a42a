"""3x3 convolutions on CPUs, faster than oneDNN's: in fp32 forward and backward, in bf16 the weight gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wrn.kernels import native
from wrn.kernels.choice import Kernels
from wrn.kernels.operator import operator
from wrn.kernels.winograd import winograd, winograd_pays

WIDEST = 8
"""Pixels. In wider feature maps, a single row fills enough of AMX's tiles."""
IN_A_STRIP = 16
"""Number of images side by side in a strip."""
BF16 = (torch.bfloat16,)


def convolve(conv: nn.Conv2d, x: Tensor, kernels: Kernels) -> Tensor:
    """conv(x), computed by faster methods where they pay; the result is the same up to rounding.

    In fp32 that is Winograd's algorithm. In bf16 it concerns the weight gradient, which oneDNN accumulates row by row.
    AMX takes 32 pixels at once, so with rows of four this takes six times as long as the forward pass; on strips of
    images, copies included, twice as long. With AVX512-BF16 oneDNN reaches three quarters of the forward pass's rate,
    wrn's kernel nine tenths.
    """
    if not kernels.active or not _is_plain(conv, x):
        return conv(x)
    if kernels.compiled and _use_winograd(conv, x):
        return winograd(x, conv.weight)
    if _own_gradient_pays(conv, x, kernels):
        y, _ = convolve_bf16(x, conv.weight, kernels.bf16_gradients == "strips")
        return y
    return conv(x)


def _is_plain(conv: nn.Conv2d, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
        and (conv.dilation, conv.groups, conv.bias) == ((1, 1), 1, None)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _use_winograd(conv: nn.Conv2d, x: Tensor) -> bool:
    return (
        winograd_pays(x)
        and conv.weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _kernels_fit(conv)
    )


def _own_gradient_pays(conv: nn.Conv2d, x: Tensor, kernels: Kernels) -> bool:
    if kernels.bf16_gradients == "torch" or x.dtype is not torch.bfloat16 or not torch.is_grad_enabled():
        return False
    if kernels.bf16_gradients == "strips":
        return x.shape[-1] <= WIDEST and x.shape[0] % IN_A_STRIP == 0
    return _kernels_fit(conv)


def _kernels_fit(conv: nn.Conv2d) -> bool:
    return conv.in_channels % native.LANES == 0 and conv.out_channels % native.LANES == 0


def strips(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B / 16, C, H, 16 * (W + 1)): 16 images side by side, a column of zeros after each.

    A 3x3 window at an image's border then still sees zeros beyond it.
    """
    count, channels, height, width = x.shape
    result = x.new_zeros(count // IN_A_STRIP, height, IN_A_STRIP, width + 1, channels)
    images = x.permute(0, 2, 3, 1).reshape(-1, IN_A_STRIP, height, width, channels)
    result[:, :, :, :width] = images.transpose(1, 2)
    return result.flatten(2, 3).permute(0, 3, 1, 2)


def _shapes_of_output(x: Tensor, weight: Tensor, strips: bool) -> tuple[Tensor, Tensor]:
    count, _, height, width = x.shape
    y = x.new_empty(count, height, width, weight.shape[0]).permute(0, 3, 1, 2)
    return y, torch.empty_like(weight, dtype=x.dtype)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: tuple[Tensor, Tensor]) -> None:
    x, weight, ctx.on_strips = inputs
    ctx.weight_dtype = weight.dtype
    ctx.save_for_backward(x, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    grad_y = grad_y.contiguous(memory_format=torch.channels_last)
    grad_x = _gradient(grad_y, x, weight, 0) if ctx.needs_input_grad[0] else None
    if not ctx.needs_input_grad[1]:
        return grad_x, None, None
    on_strips = ctx.on_strips
    grad_weight = _gradient(strips(grad_y), strips(x), weight, 1) if on_strips else weight_gradient_bf16(x, grad_y)
    return grad_x, grad_weight.to(ctx.weight_dtype), None


@operator(
    "convolve_bf16(Tensor x, Tensor weight, bool on_strips) -> (Tensor, Tensor)",
    fake=_shapes_of_output,
    save=_save,
    backward=_backward,
)
def convolve_bf16(x: Tensor, weight: Tensor, on_strips: bool) -> tuple[Tensor, Tensor]:
    """x convolved with weight (outputs, inputs, 3, 3), stride 1 and padding 1, in bf16; and the weight in bf16.

    Torch's operation; the gradient of `weight`, in the weight's own dtype, is computed on strips or by wrn's kernel.
    """
    rounded = weight.to(x.dtype, copy=True)
    return torch.conv2d(x, rounded, padding=1).contiguous(memory_format=torch.channels_last), rounded


def _shape_of_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    return x.new_empty(grad_y.shape[1], 3, 3, x.shape[1], dtype=torch.float32).permute(0, 3, 1, 2)


@operator("weight_gradient_bf16(Tensor x, Tensor grad_y) -> Tensor", fake=_shape_of_gradient)
def weight_gradient_bf16(x: Tensor, grad_y: Tensor) -> Tensor:
    """The gradient of a 3x3 convolution's weight in fp32, from its x and the gradient of its output in bf16."""
    x, grad_y = native.checked(x, BF16), native.checked(grad_y, BF16)
    gradient = _shape_of_gradient(x, grad_y)
    count, inputs, height, width = x.shape
    native.call("wrn_weight_gradient", x, grad_y, count, height, width, inputs, grad_y.shape[1], gradient)
    return gradient


def _gradient(grad_y: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
    """The gradient of x (`which` is 0) or of the weight (1), by torch's operation."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        grad_y, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, wanted
    )
    gradient: Tensor = gradients[which]
    return gradient
