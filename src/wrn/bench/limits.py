"""The machine's limits, measured on the spot: arithmetic, memory, and the convolutions of a network alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrn.bench.timing import fastest
from wrn.model import Precision, WideResNet


def measured_peaks(precision: Precision, at_least: float = 1.0) -> dict[str, float]:
    """The highest FLOP/s of a large square matrix product and of a 3x3 channels-last convolution.

    at_least: seconds for each. The larger of the two is the peak used for MFU.
    """
    device, dtype = precision.device, precision.dtype
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    batch, channels, side = (512 if on_gpu else 16), 320, 16
    images, kernel = (
        torch.randn(*shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((batch, channels, side, side), (channels, channels, 3, 3))
    )
    with torch.inference_mode():
        product = fastest(lambda: left @ right, device, at_least)
        convolution = fastest(lambda: F.conv2d(images, kernel, padding=1), device, at_least)
    return {
        "matmul": 2.0 * size**3 / product,
        "conv3x3": 2.0 * batch * side**2 * 9 * channels**2 / convolution,
    }


def copy_bytes_per_second(device: torch.device, at_least: float = 0.5) -> float:
    """The best rate for copying far more than any cache holds, counting both bytes read and bytes written."""
    source = torch.ones(2**30 if device.type == "cuda" else 2**28, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() / fastest(lambda: target.copy_(source), device, at_least)


@dataclass(frozen=True)
class Convolution:
    """The shape of one convolution, which determines how long it takes."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    side: int
    """Side of its input, in pixels."""

    @property
    def multiply_adds(self) -> int:
        """For one image."""
        side = -(-self.side // self.stride)
        return self.inputs * self.outputs * self.kernel**2 * side**2


def convolutions(network: WideResNet, side: int) -> Counter[Convolution]:
    """The convolutions of a network on images of `side` pixels, and how often each shape occurs."""
    found: Counter[Convolution] = Counter()

    def note(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        found[Convolution(*sizes, arguments[0].shape[-1])] += 1

    shape = network.architecture
    with torch.device("meta"):  # shapes only; nothing is computed
        twin = WideResNet.of(shape).eval()
        for layer in twin.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(note)
        twin(torch.empty(1, 3, side, side))
    return found


def seconds_alone(layer: Convolution, batch: int, precision: Precision, at_least: float) -> float:
    """One convolution forward and backward by itself, with operands already in the type it computes in.

    The first one needs no gradient for its input, the images.
    """
    device = precision.device

    def operand(*shape: int) -> Tensor:
        values = torch.randn(*shape, device=device).to(precision.dtype)
        return values.contiguous(memory_format=torch.channels_last)

    images = operand(batch, layer.inputs, layer.side, layer.side).requires_grad_(layer.inputs != 3)
    weight = operand(layer.outputs, layer.inputs, layer.kernel, layer.kernel).requires_grad_()
    side = -(-layer.side // layer.stride)
    gradient = operand(batch, layer.outputs, side, side)
    wanted = [tensor for tensor in (images, weight) if tensor.requires_grad]

    def run() -> None:
        result = F.conv2d(images, weight, stride=layer.stride, padding=layer.kernel // 2)
        torch.autograd.grad(result, wanted, gradient)

    return fastest(run, device, at_least)


def convolutions_alone(
    network: WideResNet, side: int, batch: int, precision: Precision, at_least: float = 0.3
) -> float:
    """Seconds of all convolutions of one forward and backward pass, each shape measured in isolation.

    No step with torch's convolutions can be faster, as BN, ReLU, the optimiser and the data come on top; with wrn's own
    in fp32 it can (Winograd). A fairer limit than the peak of one large convolution, since small and narrow layers
    cannot use a whole machine.
    """
    return sum(
        count * seconds_alone(layer, batch, precision, at_least) for layer, count in convolutions(network, side).items()
    )
