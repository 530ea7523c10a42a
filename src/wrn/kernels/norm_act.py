"""BN followed by an activation: torch's two operations, or on CPUs one fused kernel that computes the same faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrn.config.architecture import Activation
from wrn.kernels import native
from wrn.kernels.choice import Kernels
from wrn.kernels.operator import operator


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)  # the BN before it keeps its input and does not need its output


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": _relu, "silu": F.silu}
"""What follows each BN: ReLU, as in the paper, or SiLU (arXiv:1702.03118), x * sigmoid(x)."""

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def norm_act(bn: nn.Module, activation: Activation, x: Tensor, kernels: Kernels) -> Tensor:
    """activation(bn(x)) for x (B, C, H, W); in training, updates the running statistics as nn.BatchNorm2d does."""
    usable = kernels.active and kernels.compiled
    if not usable or not isinstance(bn, nn.BatchNorm2d) or not _fits(bn, x):
        return ACTIVATIONS[activation](bn(x))
    assert bn.running_mean is not None
    assert bn.running_var is not None
    if not bn.training:
        return norm_act_eval(x, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps, activation)
    assert bn.momentum is not None
    y, mean, variance = norm_act_train(x, bn.weight, bn.bias, bn.eps, activation)
    rows = x.numel() // x.shape[1]
    bn.running_mean.lerp_(mean, bn.momentum)
    bn.running_var.lerp_(variance * (rows / (rows - 1)), bn.momentum)
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
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


def _shape_of_eval(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@operator(
    "norm_act_eval(Tensor x, Tensor weight, Tensor bias, Tensor mean, Tensor variance, float eps, str activation)"
    " -> Tensor",
    fake=_shape_of_eval,
)
def norm_act_eval(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, activation: Activation
) -> Tensor:
    """activation(BN(x)), with these statistics. Has no gradient."""
    return _activate(native.checked(x, TYPES), *_affine(weight, bias, mean, variance, eps), activation)


def _shapes_of_train(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _shape_of_eval(x), torch.empty_like(weight), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, ctx.eps, ctx.activation = inputs
    _, mean, variance = output
    ctx.save_for_backward(x, weight, bias, mean, variance)
    ctx.mark_non_differentiable(mean, variance)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = (*ctx.saved_tensors, ctx.eps, ctx.activation)
    return *norm_act_backward(grad_y, *saved), None, None


@operator(
    "norm_act_train(Tensor x, Tensor weight, Tensor bias, float eps, str activation) -> (Tensor, Tensor, Tensor)",
    fake=_shapes_of_train,
    save=_save,
    backward=_backward,
)
def norm_act_train(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, activation: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    """activation(BN(x)) with the statistics of x; and these, the mean and variance (over n, not n - 1) per channel."""
    x = native.checked(x, TYPES)
    mean, variance = torch.empty_like(weight), torch.empty_like(weight)
    _call("moments", x.dtype, x, *_size(x), mean, variance)
    return _activate(x, *_affine(weight, bias, mean, variance, eps), activation), mean, variance


def _shapes_of_backward(grad_y: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _shapes_of_train(x, weight)


@operator(
    "norm_act_backward(Tensor grad_y, Tensor x, Tensor weight, Tensor bias, Tensor mean, Tensor variance, float eps,"
    " str activation) -> (Tensor, Tensor, Tensor)",
    fake=_shapes_of_backward,
)
def norm_act_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `norm_act_train`'s x, weight (gamma) and bias (beta).

    For z = (x - mean) / deviation * gamma + beta, with g = dL/dz over n rows and a = gamma / deviation
    (arXiv:1502.03167, section 3):
    dL/dx = a * (g - mean(g) - (x - mean) / deviation^2 * mean(g * (x - mean))).
    """
    x, grad_y = native.checked(x, TYPES), native.checked(grad_y.to(x.dtype), TYPES)
    scale, shift = _affine(weight, bias, mean, variance, eps)
    rows, channels = _size(x)
    gradient, grad_bias, product = _shapes_of_train(x, weight)
    # gradient = g, grad_bias = the sums of g, product = those of g * (x - mean)
    before = (grad_y, x, gradient, rows, channels, scale, shift, mean, grad_bias, product)
    _call(f"gradient_before_{activation}", x.dtype, *before)
    reciprocal_deviation = torch.rsqrt(variance + eps)
    grad_weight = product * reciprocal_deviation
    x_factor = grad_weight * reciprocal_deviation * scale / -rows
    constant = grad_bias * scale / -rows - x_factor * mean
    # gradient = gradient * scale + x * x_factor + constant
    _call("gradient_through", x.dtype, x, gradient, rows, channels, scale, x_factor, constant)
    return gradient, grad_weight, grad_bias


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """BN as x * scale + shift, both (C,)."""
    scale = weight * torch.rsqrt(variance + eps)
    return scale, bias - mean * scale


def _activate(x: Tensor, scale: Tensor, shift: Tensor, activation: Activation) -> Tensor:
    """activation(x * scale + shift)"""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    _call(activation, x.dtype, x, y, *_size(x), scale, shift)
    return y


def _size(x: Tensor) -> tuple[int, int]:
    """Rows and columns of x as a matrix: B * H * W and C."""
    return x.numel() // x.shape[1], x.shape[1]


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | int) -> None:
    native.call(f"wrn_{name}_{TYPES[dtype]}", *arguments)
