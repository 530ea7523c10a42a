"""What torch knows about wrn's operators (schema, fake, autograd, the compiler's view) fits what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from compiling import COMPILING
from wrn.kernels import native
from wrn.kernels.convolve import convolve_bf16, weight_gradient_bf16
from wrn.kernels.norm_act import norm_act_backward, norm_act_eval, norm_act_train
from wrn.kernels.winograd import winograd, winograd_weight_gradient

pytestmark = pytest.mark.usefixtures("compiled")


def noise(*shape: int, dtype: torch.dtype = torch.float32, nchw: bool = False, gradient: bool = False) -> Tensor:
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    if len(shape) == 4:
        values = values.contiguous(memory_format=torch.contiguous_format if nchw else torch.channels_last)
    return values.requires_grad_(gradient)


X, NCHW, GRAD_Y = noise(2, 16, 3, 5), noise(2, 16, 3, 5, nchw=True), noise(2, 32, 3, 5)
CHANNELS = [noise(16) for _ in range(4)]
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "train": (norm_act_train, (noise(2, 16, 3, 5, gradient=True), *(noise(16, gradient=True),) * 2, 1e-5, "relu")),
    "train, NCHW in bf16": (norm_act_train, (NCHW.bfloat16(), noise(16, gradient=True), noise(16), 1e-5, "silu")),
    "backward": (norm_act_backward, (X, X, *CHANNELS, 1e-5, "silu")),
    "backward, NCHW": (norm_act_backward, (NCHW, NCHW, *CHANNELS, 1e-5, "relu")),
    "eval": (norm_act_eval, (X, *CHANNELS, 1e-5, "silu")),
    "eval, NCHW in bf16": (norm_act_eval, (NCHW.bfloat16(), *CHANNELS, 1e-5, "relu")),
    "winograd": (winograd, (noise(2, 16, 3, 5, gradient=True), noise(32, 16, 3, 3, gradient=True))),
    "winograd, NCHW": (winograd, (NCHW, noise(32, 16, 3, 3, nchw=True))),
    "winograd's weight": (winograd_weight_gradient, (X, GRAD_Y)),
    "bf16": (convolve_bf16, (NCHW.bfloat16(), noise(32, 16, 3, 3, gradient=True), False)),
    "bf16's weight": (weight_gradient_bf16, (X.bfloat16(), GRAD_Y.bfloat16())),
}


@COMPILING
@pytest.mark.parametrize("case", CALLS)
def test_torch_s_own_checks_of_operators(case: str) -> None:
    torch.library.opcheck(*CALLS[case])  # type: ignore[arg-type]


@COMPILING
def test_torch_s_own_checks_of_strips() -> None:
    x, weight = noise(16, 16, 2, 2, dtype=torch.bfloat16, gradient=True), noise(16, 16, 3, 3, gradient=True)
    without_compiling = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(convolve_bf16, (x, weight, True), test_utils=without_compiling)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["eval", "winograd's weight"])
def test_what_has_no_gradient_says_so(case: str) -> None:
    function, (x, *others) = CALLS[case]
    y = function(x.clone().requires_grad_(), *others)
    with pytest.raises(RuntimeError, match="no gradient"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (winograd, (noise(1, 8, 4, 4), noise(16, 8, 3, 3))),
        (winograd, (noise(1, 16, 4, 4), noise(8, 16, 3, 3))),
        (winograd, (noise(1, 16, 4, 4).double(), noise(16, 16, 3, 3))),
        (weight_gradient_bf16, (X, GRAD_Y)),
        (norm_act_eval, (noise(2, 16, 3, 5).half(), *CHANNELS, 1e-5, "relu")),
    ],
)
def test_what_the_kernels_cannot_read_is_refused(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(RuntimeError, match="this kernel needs"):
        function(*arguments)


def test_without_the_compiled_kernels_an_operator_says_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_built", lambda: None)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        winograd_weight_gradient(X, GRAD_Y)
