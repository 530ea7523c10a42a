"""Convolutions with wrn's weight gradients, on strips of images or by its kernel, equal the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrn.kernels import Kernels
from wrn.kernels.convolve import convolve, strips

# Any CPU has both: the arithmetic is the same, just not worth it everywhere.
STRIPS, KERNEL = Kernels(bf16_gradients="strips"), Kernels(compiled=True, bf16_gradients="kernel")
pytestmark = pytest.mark.usefixtures("compiled")


def images(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, height, width, generator=generator).bfloat16()
    return x.contiguous(memory_format=torch.channels_last)


def test_a_strip_has_16_images_with_a_column_of_zeros_after_each() -> None:
    x = images(32, 2, 3, 4)
    result = strips(x)
    assert result.shape == (2, 2, 3, 16 * 5)
    assert result.is_contiguous(memory_format=torch.channels_last)
    for number in range(32):
        strip, place = divmod(number, 16)
        part = result[strip, :, :, place * 5 : place * 5 + 5]
        assert torch.equal(part[..., :4], x[number])
        assert not part[..., 4].any()


SHAPES = [
    *((STRIPS, 32, *sizes) for sizes in ((8, 16, 4, 4), (16, 16, 5, 5), (16, 8, 3, 7))),
    *(
        (KERNEL, 33, *sizes)
        for sizes in ((16, 16, 4, 4), (48, 32, 5, 5), (32, 48, 3, 7), (16, 16, 1, 1), (16, 32, 20, 2))
    ),
    (KERNEL, 3, 256, 256, 4, 4),  # so many weights that the output channels are shared out, not the images
    (KERNEL, 9, 128, 128, 2, 2),  # both are
]


@pytest.mark.parametrize(("kernels", "count", "inputs", "outputs", "height", "width"), SHAPES)
def test_gradients_are_those_of_the_plain_convolution(
    kernels: Kernels, count: int, inputs: int, outputs: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = images(count, inputs, height, width).requires_grad_()
    grad_y = images(count, outputs, height, width, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(conv, x, kernels)
    assert "convolve_bf16" in type(y.grad_fn).__name__
    y.backward(grad_y)
    exact_x, exact_weight = x.detach().double().requires_grad_(), conv.weight.detach().bfloat16().double()
    exact_weight.requires_grad_()
    exact = F.conv2d(exact_x, exact_weight, padding=1)
    exact.backward(grad_y.double())
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype is torch.float32
    for ours, theirs in ((y, exact), (x.grad, exact_x.grad), (conv.weight.grad, exact_weight.grad)):
        assert ours is not None
        assert theirs is not None
        assert (ours.double() - theirs).norm() <= 2**-8 * theirs.norm()


@pytest.mark.parametrize("channels", [32, 256])
def test_the_number_of_threads_does_not_change_a_bit(channels: int) -> None:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, grad_y = (images(21, channels, 6, 6, seed) for seed in (0, 1))
    gradients, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            with torch.autocast("cpu", torch.bfloat16):
                (gradient,) = torch.autograd.grad(convolve(conv, x, KERNEL), conv.weight, grad_y)
            gradients.append(gradient)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


def test_infinity_and_nan_stay() -> None:
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    for value in (float("inf"), float("nan")):
        x, grad_y = images(2, 16, 4, 4), images(2, 16, 4, 4, seed=1)
        grad_y[1, 3, 2, 2] = value
        with torch.autocast("cpu", torch.bfloat16):
            (gradient,) = torch.autograd.grad(convolve(conv, x, KERNEL), conv.weight, grad_y)
        assert not gradient[3].isfinite().any()
        assert gradient[:3].isfinite().all()
        assert gradient[4:].isfinite().all()


OTHER_CASES = [
    (STRIPS, nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), images(16, 16, 4, 4)),
    (STRIPS, nn.Conv2d(16, 16, 3, padding=1, bias=False), images(15, 16, 4, 4)),
    (STRIPS, nn.Conv2d(16, 16, 3, padding=1, bias=False), images(16, 16, 4, 9)),
    (STRIPS, nn.Conv2d(16, 16, 3, padding=1, bias=False), images(16, 16, 4, 4).float()),
    (STRIPS, nn.Conv2d(16, 16, 3, padding=1, bias=False), images(16, 16, 4, 4).contiguous()),
    (KERNEL, nn.Conv2d(3, 16, 3, padding=1, bias=False), images(16, 3, 4, 4)),
    (KERNEL, nn.Conv2d(16, 8, 3, padding=1, bias=False), images(16, 16, 4, 4)),
    (KERNEL, nn.Conv2d(16, 16, 1, bias=False), images(16, 16, 4, 4)),
]


@pytest.mark.parametrize(("kernels", "conv", "x"), OTHER_CASES)
def test_other_cases_are_left_to_torch(kernels: Kernels, conv: nn.Conv2d, x: Tensor) -> None:
    plain, fitting = nn.Conv2d(16, 16, 3, padding=1, bias=False), images(16, 16, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert "convolve_bf16" in type(convolve(plain, fitting, kernels).grad_fn).__name__
        y = convolve(conv, x, kernels)
        assert "convolve_bf16" not in type(y.grad_fn).__name__
        assert torch.equal(y, conv(x))
        with torch.no_grad():
            assert torch.equal(convolve(plain, fitting, kernels), plain(fitting))
