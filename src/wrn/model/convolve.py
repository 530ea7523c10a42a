"""3x3 convolutions on CPUs in less time than oneDNN takes: all of them in fp32, in bf16 the gradients of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wrn.model import native
from wrn.model.precision import cpu_computes_bf16, cpu_has_amx
from wrn.model.winograd import winograd, winograd_pays

WIDEST = 8
"""Pixels. In wider pictures, a row alone fills enough of AMX's tiles."""
IN_A_STRIP = 16
"""How many pictures a strip has side by side."""
MOST_THREADS = 8
"""The most threads that our kernel can keep busy: `TASKS` in convolve.cpp."""


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x). Where it pays, by ways of our own; the result is the same but for rounding.

    In fp32 that is Winograd's algorithm. In bf16 it is the gradient of the weights, which oneDNN adds up row by row of
    a picture: with AMX 32 pixels at once, so that on rows of four it takes six times as long as the forward pass, and
    on strips of pictures, copies included, twice as long. With AVX512-BF16 it comes to three quarters of the forward
    pass's rate, our kernel to nine tenths.
    """
    if torch.compiler.is_compiling() or not _is_plain(conv, x):
        return conv(x)
    if _winograd_does(conv, x):
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


def _winograd_does(conv: nn.Conv2d, x: Tensor) -> bool:
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
    """(B, C, H, W) as (B / 16, C, H, 16 * (W + 1)): 16 pictures beside each other, a column of zeros behind each.

    A 3x3 window then sees of a picture's neighbours what it saw beyond its border: zeros.
    """
    count, channels, height, width = x.shape
    result = x.new_zeros(count // IN_A_STRIP, height, IN_A_STRIP, width + 1, channels)
    pictures = x.permute(0, 2, 3, 1).reshape(-1, IN_A_STRIP, height, width, channels)
    result[:, :, :, :width] = pictures.transpose(1, 2)
    return result.flatten(2, 3).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution of stride 1 and padding 1 in the type of x; the gradient of `weight` has the weight's type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.type_of_weight = weight.dtype
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_y = of_y.contiguous(memory_format=torch.channels_last)
        of_x = _backward(of_y, x, weight, 0) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(of_y, x, weight).to(ctx.type_of_weight) if ctx.needs_input_grad[1] else None
        return of_x, of_weight


def _of_weight(of_y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    if cpu_has_amx():
        return _backward(strips(of_y), strips(x), weight, 1)
    library = native.kernels()
    assert library is not None
    count, inputs, height, width = x.shape
    outputs = of_y.shape[1]
    of_weight = torch.empty(outputs, 3, 3, inputs, dtype=torch.float32)
    native.call(library, "wrn_weight_gradient", x, of_y, count, height, width, inputs, outputs, of_weight)
    return of_weight.permute(0, 3, 1, 2)


def _backward(of_y: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
    """The gradient of x (`which` is 0) or of the weight (1), by torch's own operation."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        of_y, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, wanted
    )
    gradient: Tensor = gradients[which]
    return gradient
