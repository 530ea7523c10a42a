"""Convolutions on strips of pictures: the gradients of the plain ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrn.model import convolve as room
from wrn.model import use_own_kernels
from wrn.model.convolve import IN_A_STRIP, convolve, strips


@pytest.fixture
def with_amx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever CPU runs this: the arithmetic is the same, only not worth it."""
    monkeypatch.setattr(room, "cpu_has_amx", lambda: True)
    use_own_kernels(True)
    yield
    use_own_kernels(False)


def pictures(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, height, width, generator=generator).bfloat16()
    return x.contiguous(memory_format=torch.channels_last)


def test_a_strip_holds_16_pictures_with_a_column_of_zeros_behind_each() -> None:
    x = pictures(32, 2, 3, 4)
    result = strips(x)
    assert result.shape == (2, 2, 3, 16 * 5)
    assert result.is_contiguous(memory_format=torch.channels_last)
    for number in range(32):
        strip, place = divmod(number, 16)
        part = result[strip, :, :, place * 5 : place * 5 + 5]
        assert torch.equal(part[..., :4], x[number])
        assert not part[..., 4].any()


@pytest.mark.parametrize(("inputs", "outputs", "height", "width"), [(8, 16, 4, 4), (16, 16, 5, 5), (16, 8, 3, 7)])
def test_gradients_are_those_of_the_plain_convolution(
    with_amx: None, inputs: int, outputs: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x = pictures(2 * IN_A_STRIP, inputs, height, width).requires_grad_()
    of_y = pictures(2 * IN_A_STRIP, outputs, height, width, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(conv, x)
    assert "_Convolution" in type(y.grad_fn).__name__
    y.backward(of_y)
    exact_x, exact_weight = x.detach().double().requires_grad_(), conv.weight.detach().bfloat16().double()
    exact_weight.requires_grad_()
    exact = F.conv2d(exact_x, exact_weight, padding=1)
    exact.backward(of_y.double())
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype is torch.float32
    for ours, theirs in ((y, exact), (x.grad, exact_x.grad), (conv.weight.grad, exact_weight.grad)):
        assert ours is not None
        assert theirs is not None
        assert (ours.double() - theirs).norm() <= 2**-8 * theirs.norm()


def test_other_cases_are_left_to_torch(with_amx: None) -> None:
    plain, x = nn.Conv2d(4, 4, 3, padding=1, bias=False), pictures(16, 4, 4, 4)
    strided = nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert "_Convolution" in type(convolve(plain, x).grad_fn).__name__
        for conv, value in (
            (strided, x),
            (plain, x[:15]),
            (plain, pictures(16, 4, 4, 9)),
            (plain, x.float()),
            (plain, x.contiguous()),
        ):
            y = convolve(conv, value)
            assert "_Convolution" not in type(y.grad_fn).__name__
            assert torch.equal(y, conv(value))
        with torch.no_grad():
            assert torch.equal(convolve(plain, x), plain(x))
