"""BN followed by an activation: torch's two operations, or on CPUs one fused kernel that computes the same faster."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wrn.config.architecture import Activation
from wrn.kernels import native


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)  # the BN before it keeps its input and does not need its output


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": _relu, "silu": F.silu}
"""What follows each BN: ReLU, as in the paper, or SiLU (arXiv:1702.03118), x * sigmoid(x)."""

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def norm_act(bn: nn.Module, activation: Activation, x: Tensor) -> Tensor:
    """activation(bn(x)) for x (B, C, H, W); in training, updates the running statistics as nn.BatchNorm2d does."""
    if torch.compiler.is_compiling():  # checked first: the compiler cannot trace the kernel lookup
        return ACTIVATIONS[activation](bn(x))
    library = native.kernels()
    if library is None or not isinstance(bn, nn.BatchNorm2d) or not _fits(bn, x):
        return ACTIVATIONS[activation](bn(x))
    if not bn.training:
        return _Kernels(library, activation, x).activate(x, *_affine(bn, *_running(bn)))
    y: Tensor = _NormAct.apply(x, bn.weight, bn.bias, bn, activation, library)  # type: ignore[no-untyped-call]
    return y


def _fits(bn: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether wrn's kernels support this case: all that the network needs on a CPU, but not every possible one."""
    gradient_in_evaluation = (
        not bn.training and torch.is_grad_enabled() and (x.requires_grad or bn.weight.requires_grad)
    )
    return (
        x.device.type == "cpu"
        and x.dtype in TYPES
        and x.shape[1] % native.LANES == 0
        and x.numel() > x.shape[1]  # leave it to torch to refuse normalising a single value
        and x.is_contiguous(memory_format=torch.channels_last)
        and bn.weight.dtype is torch.float32
        and bn.momentum is not None
        and bn.running_mean is not None
        and not gradient_in_evaluation
    )


def _running(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return bn.running_mean, bn.running_var


def _affine(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """BN as x * scale + shift, both (C,)."""
    scale = bn.weight.detach() * torch.rsqrt(variance + bn.eps)
    return scale, bn.bias.detach() - mean * scale


class _Kernels:
    """The functions of norm_act.cpp for tensors like `x` (B, C, H, W): matrices of B * H * W `rows` and C columns."""

    def __init__(self, library: ctypes.CDLL, activation: Activation, x: Tensor) -> None:
        self._library, self._activation, self._type = library, activation, TYPES[x.dtype]
        self._channels = x.shape[1]
        self.rows = x.numel() // self._channels

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (over n, not n - 1) of each channel."""
        mean, variance = self._per_channel(), self._per_channel()
        self._call("moments", x, *self._size, mean, variance)
        return mean, variance

    def activate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """activation(x * scale + shift)"""
        y = torch.empty_like(x)
        self._call(self._activation, x, y, *self._size, scale, shift)
        return y

    def gradient_before(
        self, grad_y: Tensor, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dL/dz, for z = x * scale + shift, from dL/dy; per channel, its sum and that of dL/dz * (x - mean)."""
        grad_z, total, product = torch.empty_like(x), self._per_channel(), self._per_channel()
        name = f"gradient_before_{self._activation}"
        self._call(name, grad_y, x, grad_z, *self._size, scale, shift, mean, total, product)
        return grad_z, total, product

    def gradient_through(self, gradient: Tensor, x: Tensor, scale: Tensor, x_factor: Tensor, constant: Tensor) -> None:
        """Compute gradient * scale + x * x_factor + constant, in place in `gradient`."""
        self._call("gradient_through", x, gradient, *self._size, scale, x_factor, constant)

    @property
    def _size(self) -> tuple[int, int]:
        return self.rows, self._channels

    def _per_channel(self) -> Tensor:
        return torch.empty(self._channels, dtype=torch.float32)

    def _call(self, name: str, *arguments: Tensor | int) -> None:
        native.call(self._library, f"wrn_{name}_{self._type}", *arguments)


class _NormAct(torch.autograd.Function):
    """BN with batch statistics, z = (x - mean) / deviation * gamma + beta, followed by the activation.

    With g = dL/dz over n rows and a = gamma / deviation (arXiv:1502.03167, section 3):
    dL/dx = a * (g - mean(g) - (x - mean) / deviation^2 * mean(g * (x - mean))).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, bn: nn.BatchNorm2d, activation: Activation, library: Any
    ) -> Tensor:
        kernels = _Kernels(library, activation, x)
        mean, variance = kernels.moments(x)
        scale, shift = _affine(bn, mean, variance)
        ctx.kernels = kernels
        ctx.save_for_backward(x, mean, torch.rsqrt(variance + bn.eps), scale, shift)
        assert bn.momentum is not None
        running_mean, running_variance = _running(bn)
        running_mean.lerp_(mean, bn.momentum)
        running_variance.lerp_(variance * (kernels.rows / (kernels.rows - 1)), bn.momentum)
        if bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
        return kernels.activate(x, scale, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, reciprocal_deviation, scale, shift = ctx.saved_tensors
        kernels: _Kernels = ctx.kernels
        grad_y = grad_y.to(x.dtype).contiguous(memory_format=torch.channels_last)
        gradient, grad_bias, product = kernels.gradient_before(grad_y, x, scale, shift, mean)
        grad_weight = product * reciprocal_deviation
        x_factor = grad_weight * reciprocal_deviation * scale / -kernels.rows
        constant = grad_bias * scale / -kernels.rows - x_factor * mean
        kernels.gradient_through(gradient, x, scale, x_factor, constant)
        return gradient, grad_weight, grad_bias, None, None, None
