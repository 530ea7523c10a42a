"""How a function becomes an operator of torch: called as any other, seen by torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def no_gradient(ctx: Any, *gradients: Any) -> Any:
    raise RuntimeError("this operator of wrn has no gradient; use torch's operations instead")


def operator(
    schema: str,
    *,
    fake: Callable[..., Any],
    backward: Callable[..., Any] = no_gradient,
    save: Callable[..., None] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as `torch.ops.wrn.<name>` for tensors on a CPU, and return that operator.

    schema: name, arguments and results in torch's notation, "twice(Tensor x) -> Tensor".
    fake: as the function, but from and to tensors without contents: only shape, dtype and strides count.
    backward, save: `backward` and `setup_context` of torch.library.register_autograd.

    `torch.library.custom_op` does the same with less code, but its calls take longer: forward and backward 21 us more
    than a plain torch.autograd.Function, these 9 us (torch 2.13, AMD EPYC).
    """
    name, opening, rest = schema.partition("(")
    qualified = f"wrn::{name}"

    def register(function: Function) -> Function:
        torch.library.define(qualified, opening + rest, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(qualified, "cpu", function)
        torch.library.register_fake(qualified, fake)
        torch.library.register_autograd(qualified, backward, setup_context=save)
        return cast(Function, getattr(torch.ops.wrn, name).default)

    return register
