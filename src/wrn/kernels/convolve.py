"""3x3 convolutions on CPUs, faster than oneDNN's: in fp32 forward and backward, in bf16 the weight gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wrn.kernels import native
from wrn.kernels.instructions import cpu_computes_bf16, cpu_has_amx
from wrn.kernels.winograd import winograd, winograd_pays

WIDEST = 8
"""Pixels. In wider feature maps, a single row fills enough of AMX's tiles."""
IN_A_STRIP = 16
"""Number of images side by side in a strip."""
MOST_THREADS = 8
"""The most threads that wrn's kernel can keep busy: `TASKS` in convolve.cpp."""


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), computed by faster methods where they pay; the result is the same up to rounding.

    In fp32 that is Winograd's algorithm. In bf16 it concerns the weight gradient, which oneDNN accumulates row by row.
    AMX takes 32 pixels at once, so with rows of four this takes six times as long as the forward pass; on strips of
    images, copies included, twice as long. With AVX512-BF16 oneDNN reaches three quarters of the forward pass's rate,
    wrn's kernel nine tenths.
    """
    if torch.compiler.is_compiling() or not _is_plain(conv, x):
        return conv(x)
    if _use_winograd(conv, x):
        return winograd(conv, x)
    if _own_gradient_pays(conv, x):
        y: Tensor = _Convolution.apply(x, conv.weight)  # type: ignore[no-untyped-call]
        return y
    return conv(x)


def _is_plain(conv: nn.Conv2d, x: Tensor) -> bool:
    return (
        native.own_kernels_wanted()
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


def _own_gradient_pays(conv: nn.Conv2d, x: Tensor) -> bool:
    if x.dtype is not torch.bfloat16 or not torch.is_grad_enabled():
        return False
    if cpu_has_amx():
        return x.shape[-1] <= WIDEST and x.shape[0] % IN_A_STRIP == 0
    return cpu_computes_bf16() and torch.get_num_threads() <= MOST_THREADS and _kernels_fit(conv)


def _kernels_fit(conv: nn.Conv2d) -> bool:
    channels = (conv.in_channels, conv.out_channels)
    return native.own_kernels_in_use() and not any(count % native.LANES for count in channels)


def strips(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B / 16, C, H, 16 * (W + 1)): 16 images side by side, a column of zeros after each.

    A 3x3 window at an image's border then still sees zeros beyond it.
    """
    count, channels, height, width = x.shape
    result = x.new_zeros(count // IN_A_STRIP, height, IN_A_STRIP, width + 1, channels)
    images = x.permute(0, 2, 3, 1).reshape(-1, IN_A_STRIP, height, width, channels)
    result[:, :, :, :width] = images.transpose(1, 2)
    return result.flatten(2, 3).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution, stride 1 and padding 1, in the dtype of x; `weight`'s gradient has the weight's dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight_dtype = weight.dtype
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_y = grad_y.contiguous(memory_format=torch.channels_last)
        grad_x = _backward(grad_y, x, weight, 0) if ctx.needs_input_grad[0] else None
        grad_weight = _weight_gradient(grad_y, x, weight).to(ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight


def _weight_gradient(grad_y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    if cpu_has_amx():
        return _backward(strips(grad_y), strips(x), weight, 1)
    library = native.kernels()
    assert library is not None
    count, inputs, height, width = x.shape
    outputs = grad_y.shape[1]
    grad_weight = torch.empty(outputs, 3, 3, inputs, dtype=torch.float32)
    native.call(library, "wrn_weight_gradient", x, grad_y, count, height, width, inputs, outputs, grad_weight)
    return grad_weight.permute(0, 3, 1, 2)


def _backward(grad_y: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
    """The gradient of x (`which` is 0) or of the weight (1), by torch's operation."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        grad_y, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, wanted
    )
    gradient: Tensor = gradients[which]
    return gradient
