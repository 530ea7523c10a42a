"""BN and activation as one operation: the numbers of torch's two operations, or torch's operations themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wrn.config.architecture import Activation
from wrn.kernels import Kernels
from wrn.kernels.norm_act import ACTIVATIONS, norm_act

pytestmark = pytest.mark.usefixtures("compiled")
OWN = Kernels(compiled=True)


def images(count: int, channels: int, side: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Channels with different means and deviations, as after a convolution."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, side, side, generator=generator)
    x = x * (0.5 + torch.rand(channels, 1, 1, generator=generator)) + 3 * torch.randn(
        channels, 1, 1, generator=generator
    )
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(channels)
    bn = nn.BatchNorm2d(channels, momentum=0.2)
    nn.init.uniform_(bn.weight, 0.5, 2)
    nn.init.normal_(bn.bias)
    return bn


def both_ways(x: Tensor, activation: Activation) -> tuple[list[Tensor], list[Tensor]]:
    """Output, gradients and running statistics of wrn's kernels in the dtype of x, and of torch's in float64."""
    ours, theirs = batch_norm(x.shape[1]), batch_norm(x.shape[1]).double()
    weight_of_loss = torch.linspace(-1, 1, x.numel()).reshape(x.shape).to(x.dtype)
    results = []
    for bn, value in ((ours, x), (theirs, x.double())):
        value = value.clone(memory_format=torch.preserve_format).requires_grad_()
        y = norm_act(bn, activation, value, OWN) if bn is ours else ACTIVATIONS[activation](bn(value))
        (y * weight_of_loss.to(y.dtype)).sum().backward()
        parts = (y.detach(), value.grad, bn.weight.grad, bn.bias.grad, bn.running_mean, bn.running_var)
        results.append([part.double() for part in parts if part is not None])
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 1
    assert not any(buffer.requires_grad for buffer in ours.buffers())  # they would keep every step's graph alive
    return results[0], results[1]


@pytest.mark.parametrize("activation", ["relu", "silu"])
@given(count=st.integers(1, 5), vectors=st.integers(1, 5), side=st.integers(2, 9), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_same_numbers_in_fp32(activation: Activation, count: int, vectors: int, side: int, seed: int) -> None:
    ours, theirs = both_ways(images(count, 16 * vectors, side, seed=seed), activation)
    for mine, exact in zip(ours, theirs, strict=True):
        assert (mine - exact).norm() <= 2e-5 * exact.norm() + 1e-6


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_same_numbers_in_bf16_to_its_precision(activation: Activation) -> None:
    ours, theirs = both_ways(images(8, 48, 10, torch.bfloat16), activation)
    for mine, exact in zip(ours, theirs, strict=True):
        assert (mine - exact).norm() <= 2**-8 * exact.norm()


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evaluation_uses_the_running_statistics(activation: Activation, dtype: torch.dtype) -> None:
    x, bn = images(3, 32, 7, dtype), batch_norm(32)
    bn(x.float())
    bn.eval()
    with torch.inference_mode():
        exact = ACTIVATIONS[activation](copy.deepcopy(bn).double()(x.double()))
        before = copy.deepcopy(bn.state_dict())
        y = norm_act(bn, activation, x, OWN)
    assert y.dtype is dtype
    assert (y.double() - exact).norm() <= (2**-8 if dtype is torch.bfloat16 else 1e-5) * exact.norm()
    assert all(torch.equal(value, before[name]) for name, value in bn.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_silu_of_very_large_and_very_small_numbers(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, -0.0, 1e-30, 1e-3, 1, 10, 60, 88, 89, 1e4, 1e30])
    values = torch.cat([values, -values, torch.tensor([torch.inf, torch.nan])])
    x = torch.zeros(1, 16, 1, len(values)).contiguous(memory_format=torch.channels_last)
    x[0, :, 0] = values
    bn = nn.BatchNorm2d(16, eps=0.0).eval()
    with torch.inference_mode():
        y = norm_act(bn, "silu", x.to(dtype), OWN)[0, 0, 0].double()
    exact = torch.nn.functional.silu(values.to(dtype).double())
    assert torch.allclose(y, exact, rtol=2**-8 if dtype is torch.bfloat16 else 1e-6, atol=1e-7, equal_nan=True)


def test_not_a_bit_depends_on_the_number_of_threads() -> None:
    x, threads = images(16, 32, 12, torch.bfloat16), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, _ = both_ways(x, "silu")
        torch.set_num_threads(3)
        together, _ = both_ways(x, "silu")
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, alone, together))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    x = (torch.randn(8, 16, 12, 12) * 0.01 + 100).contiguous(memory_format=torch.channels_last)
    ours, theirs = both_ways(x, "relu")
    assert (ours[0] - theirs[0]).abs().max() < 0.01 * theirs[0].std()


def test_unsupported_cases_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    monkeypatch.setitem(ACTIVATIONS, "relu", lambda x: calls.append(x) or x.relu())
    x = images(2, 32, 4)
    norm_act(batch_norm(32), "relu", x, OWN)
    assert not calls
    left = {
        "another layout": (batch_norm(32), x.contiguous()),
        "a number of channels that fills no vector": (batch_norm(20), images(2, 20, 4)),
        "fp64": (batch_norm(32).double(), x.double()),
        "gradients in evaluation": (batch_norm(32).eval(), x),
        "a plain mean of all batches": (nn.BatchNorm2d(32, momentum=None), x),
        "no running statistics": (nn.BatchNorm2d(32, track_running_stats=False), x),
    }
    for number, (what, (bn, value)) in enumerate(left.items(), start=1):
        norm_act(bn, "relu", value, OWN)
        assert len(calls) == number, what


def test_one_value_in_each_channel_is_refused_as_torch_does() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        norm_act(batch_norm(16), "relu", images(1, 16, 1), OWN)
