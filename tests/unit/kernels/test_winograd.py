"""Winograd's algorithm against fp64 convolutions of all shapes; when it is used, and what it leaves to torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wrn.kernels import Kernels
from wrn.kernels.convolve import convolve
from wrn.kernels.winograd import winograd

pytestmark = pytest.mark.usefixtures("compiled")
OWN = Kernels(compiled=True)
CHANNELS = st.sampled_from([16, 32, 48, 80])
SIDES = st.integers(1, 13)


def plain(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def noise(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def check(conv: nn.Conv2d, count: int, height: int, width: int) -> None:
    """Output and gradients are those of fp64, to 1e-5 of their norm."""
    x = noise(count, conv.in_channels, height, width).requires_grad_()
    grad_y = noise(count, conv.out_channels, height, width, seed=1)
    y = winograd(x, conv.weight)
    exact_x, exact_weight = (tensor.detach().double().requires_grad_() for tensor in (x, conv.weight))
    exact = F.conv2d(exact_x, exact_weight, padding=1)
    ours = (y, *torch.autograd.grad(y, (x, conv.weight), grad_y))
    theirs = (exact, *torch.autograd.grad(exact, (exact_x, exact_weight), grad_y.double()))
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert one.dtype is torch.float32
        assert (one.double() - other).norm() <= 1e-5 * other.norm()


@settings(max_examples=60, deadline=None)
@given(inputs=CHANNELS, outputs=CHANNELS, count=st.integers(1, 5), height=SIDES, width=SIDES)
def test_any_shape(inputs: int, outputs: int, count: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    check(plain(inputs, outputs), count, height, width)


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "side"),
    [
        (130, 16, 32, 16),  # 2,080 tiles: gradients of weights come of five parts of them, the last not full
        (9, 256, 320, 8),
        (33, 640, 640, 4),
    ],
)
def test_shapes_of_networks(count: int, inputs: int, outputs: int, side: int) -> None:
    torch.manual_seed(0)
    check(plain(inputs, outputs), count, side, side)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    conv, x, grad_y = plain(32, 48), noise(70, 32, 9, 9), noise(70, 48, 9, 9, seed=1)
    results, threads = [], torch.get_num_threads()
    x.requires_grad_()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            y = winograd(x, conv.weight)
            results.append((y, *torch.autograd.grad(y, (x, conv.weight), grad_y)))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_nan_and_infinity_show_and_stay_in_their_image(value: float) -> None:
    x = noise(24, 16, 4, 4)
    x[3, 5, 1, 2] = value
    y = convolve(plain(16, 16), x, OWN)
    assert "winograd" in type(y.grad_fn).__name__
    assert not y[3, :, :3, 1:].isfinite().any()
    assert y[:3].isfinite().all()
    assert y[4:].isfinite().all()


def test_it_is_used_with_and_without_gradients() -> None:
    conv, x = plain(16, 16), noise(24, 16, 4, 4)
    y = convolve(conv, x, OWN)
    assert "winograd" in type(y.grad_fn).__name__
    with torch.no_grad():
        assert torch.equal(convolve(conv, x, OWN), y)
        assert not torch.equal(conv(x), y)  # rounding tells which it was


FITTING = noise(24, 16, 4, 4)
OTHER_CASES = {
    "in bf16": (plain(16, 16).bfloat16(), FITTING.bfloat16()),
    "in fp64": (plain(16, 16).double(), FITTING.double()),
    "too few tiles": (plain(16, 16), noise(23, 16, 4, 4)),
    "tiles too empty": (plain(16, 16), noise(24, 16, 2, 2)),
    "NCHW": (plain(16, 16), FITTING.contiguous()),
    "channels in": (plain(8, 16), noise(24, 8, 4, 4)),
    "channels out": (plain(16, 24), FITTING),
    "stride": (nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), FITTING),
    "padding": (nn.Conv2d(16, 16, 3, padding=0, bias=False), FITTING),
    "bias": (nn.Conv2d(16, 16, 3, padding=1), FITTING),
    "1x1": (nn.Conv2d(16, 16, 1, bias=False), FITTING),
    "groups": (nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False), FITTING),
    "dilation": (nn.Conv2d(16, 16, 3, padding=1, dilation=2, bias=False), noise(24, 16, 8, 8)),
}


@pytest.mark.parametrize("case", OTHER_CASES)
def test_other_cases_are_left_to_torch(case: str) -> None:
    conv, x = OTHER_CASES[case]
    y = convolve(conv, x, OWN)
    assert "winograd" not in type(y.grad_fn).__name__
    assert torch.equal(y, conv(x))


def test_it_is_left_to_torch_under_autocast_and_where_torchs_kernels_are_wanted() -> None:
    conv = plain(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve(conv, FITTING, OWN).dtype is torch.bfloat16
    assert torch.equal(convolve(conv, FITTING, Kernels()), conv(FITTING))
