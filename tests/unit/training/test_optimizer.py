from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from wrn.config.schema import Config
from wrn.model import Precision, WideResNet, pick_precision
from wrn.training.muon import Muon, orthogonalise
from wrn.training.optimizer import Optimizers

FP32 = pick_precision(torch.device("cpu"), amp=False)


def names_by_decay(optimizers: Optimizers, model: nn.Module) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    sgd = optimizers.all[0]
    return {names[id(p)]: g["weight_decay"] for g in sgd.param_groups for p in g["params"]}


def test_only_weights_decay() -> None:
    model = WideResNet(10, 1, num_classes=3)
    decays = names_by_decay(Optimizers(Config(), model, FP32), model)
    assert decays.keys() == dict(model.named_parameters()).keys()
    for name, decay in decays.items():
        bare = "bn" in name or name.endswith("bias")
        assert decay == (0.0 if bare else 5e-4), name


def test_the_rate_of_every_group_is_its_share_of_its_peak() -> None:
    optimizers = Optimizers(Config(optimizer="muon", lr=0.2, muon_lr=0.06), WideResNet(10, 1), FP32)
    optimizers.set_rate(0.5)
    rates = [group["lr"] for optimizer in optimizers.all for group in optimizer.param_groups]
    assert rates == [0.1, 0.1, 0.03]


def test_muon_gets_the_inner_convolutions_and_sgd_the_rest() -> None:
    model = WideResNet(10, 1)
    sgd, muon = Optimizers(Config(optimizer="muon"), model, FP32).all
    held = {id(p) for g in muon.param_groups for p in g["params"]}
    inner = {id(p) for name, p in model.named_parameters() if p.ndim == 4 and name != "conv1.weight"}
    assert held == inner
    assert len(held) + sum(len(g["params"]) for g in sgd.param_groups) == len(list(model.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalise(matrix[None], 5, dtype)[0].float())
    assert values.min().item() > 0.6
    assert values.max().item() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = torch.diagonal(left.T @ orthogonalise(matrix[None], 5, dtype)[0].float() @ right.T)
    assert aligned.min().item() > 0.5


@pytest.mark.parametrize(
    ("convolutions", "iterations"), [("bfloat16", "bfloat16"), ("float16", "float32"), ("float32", "float32")]
)
def test_muon_computes_in_bf16_if_the_convolutions_do_else_in_fp32(
    convolutions: str, iterations: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With emulated bf16, Muon would take a large part of a training step."""
    used = set()

    def noted(matrices: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
        used.add(dtype)
        return orthogonalise(matrices, count, dtype)

    monkeypatch.setattr("wrn.training.muon.orthogonalise", noted)
    model = WideResNet(10, 1)
    precision = Precision(torch.device("cpu"), getattr(torch, convolutions), "for this test")
    optimizers = Optimizers(Config(optimizer="muon"), model, precision)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizers.all[1].step()
    assert used == {getattr(torch, iterations)}


def test_weights_of_one_shape_are_updated_together_as_if_alone() -> None:
    """To the bit: shapes in any order, wide and tall."""
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (6, 3, 1, 1), (8, 4, 3, 3), (4, 8, 3, 3), (8, 4, 3, 3)]
    drawn = [(torch.randn(shape), torch.randn(shape)) for shape in shapes]

    def moved(numbers: list[int]) -> list[torch.Tensor]:
        weights = [nn.Parameter(drawn[i][0].clone(memory_format=torch.channels_last)) for i in numbers]
        for weight, i in zip(weights, numbers, strict=True):
            weight.grad = drawn[i][1].clone()
        muon = Muon(weights, lr=0.1, dtype=torch.float32)
        muon.step()
        return [weight.detach() for weight in weights]

    together = moved([0, 1, 2, 3, 4])
    assert all(torch.equal(weight, moved([i])[0]) for i, weight in enumerate(together))
    assert all(not torch.equal(weight, before) for weight, (before, _) in zip(together, drawn, strict=True))


def test_muon_s_operations_grow_with_the_shapes_not_with_the_layers() -> None:
    """Each costs a launch on a GPU."""

    class Counted(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Counted.calls += func.overloadpacket.__name__ in ("bmm", "baddbmm", "mm", "addmm")
            return func(*args, **(kwargs or {}))

    weights = [nn.Parameter(torch.randn(8, 8, 3, 3)) for _ in range(12)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    with Counted():
        Muon(weights, lr=0.1).step()
    assert Counted.calls == 9  # three for each of three iterations


def test_muon_descends_and_holds_the_norm() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    target = torch.randn(8, 4, 3, 3)
    target *= 8**0.5 / target.norm()
    muon = Muon([weight], lr=0.1)
    losses = []
    for _ in range(60):
        loss = (weight - target).square().sum()
        losses.append(loss.item())
        weight.grad = None
        loss.backward()
        muon.step()
    assert losses[-1] < 0.2 * losses[0]
    assert weight.norm().item() == pytest.approx(8**0.5, rel=0.2)


@pytest.mark.parametrize("kind", ["sgd", "muon"])
def test_state_put_back_gives_the_same_next_step(kind: str) -> None:
    torch.manual_seed(0)
    config = Config(optimizer=kind)
    model = WideResNet(10, 1, num_classes=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = Optimizers(config, model, FP32)
    x = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)

    def step(model: nn.Module, optimizers: Optimizers) -> None:
        model.zero_grad()
        model(x).square().mean().backward()
        for optimizer in optimizers.all:
            optimizer.step()

    step(model, optimizers)
    twin = copy.deepcopy(model)
    twins = Optimizers(config, twin, FP32)
    # As if read from a file: contiguous tensors that share no memory.
    twins.load_state_dict({name: t.detach().clone().contiguous() for name, t in optimizers.state_dict().items()})
    for _ in range(2):
        step(model, optimizers)
        step(twin, twins)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_an_overflow_in_one_optimiser_stops_all_of_them() -> None:
    """If a loss scaler scaled the gradients too high, no parameter and no momentum changes."""
    torch.manual_seed(0)
    model = WideResNet(10, 1, num_classes=3)
    precision = Precision(torch.device("cpu"), torch.float16, "for this test")
    optimizers = Optimizers(Config(optimizer="muon"), model, precision)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(overflow: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        scaler.scale(model(torch.randn(4, 3, 8, 8)).square().mean()).backward()
        if overflow:
            convolution = model.get_parameter("groups.0.0.conv1.weight")
            assert convolution.grad is not None
            convolution.grad[0, 0] = torch.inf
        scaler.unscale_(optimizers)  # type: ignore[arg-type]
        scaler.step(optimizers)  # type: ignore[arg-type]
        scaler.update()
        return {n: t.detach().clone() for n, t in [*model.named_parameters(), *optimizers.state_dict().items()]}

    first, second, third = step(False), step(True), step(False)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert [name for name in first if torch.equal(second[name], third[name])] == []
    assert scaler.get_scale() == 2.0


def test_a_weight_of_zeros_moves_and_stays_finite() -> None:
    weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
    muon = Muon([weight], lr=0.1)
    weight.grad = torch.randn_like(weight)
    muon.step()
    assert bool(torch.isfinite(weight).all())
    assert weight.norm() > 0


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_first_step_that_overflows_leaves_no_trace(deterministic: bool) -> None:
    """Of fp16: the fused kernel skips the step, and stores a momentum that it has not written."""
    model = nn.Linear(300, 300)
    before = model.weight.detach().clone()
    precision = Precision(torch.device("cpu"), torch.float16, "as if")
    optimizers = Optimizers(Config(depth=10, widen_factor=1), model, precision)
    optimizers.set_rate(1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    torch.use_deterministic_algorithms(deterministic)  # fills new memory with NaN
    try:
        for factor in (1e38, 1e-3):
            for parameter in model.parameters():
                parameter.grad = None
            scaler.scale(model(torch.full((1, 300), factor)).sum()).backward()
            (optimizer,) = optimizers.all
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
    finally:
        torch.use_deterministic_algorithms(False)
    (momentum,) = (optimizer.state[p]["momentum_buffer"] for p in [model.weight])
    assert torch.isfinite(momentum).all()
    assert momentum.abs().max() < 1
    assert 0 < (model.weight - before).abs().max() < 1


def test_muon_takes_nesterov_steps_scaled_by_the_shape() -> None:
    """Two steps written out, for a matrix that has more rows than columns."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(16, 1, 3, 3))
    muon = Muon([weight], lr=0.1, momentum=0.5, iterations=2, dtype=torch.float32)
    expected, momentum = weight.detach().clone(), torch.zeros(16, 1, 3, 3)
    for _ in range(2):
        gradient = torch.randn(16, 1, 3, 3)
        momentum = 0.5 * momentum + gradient
        direction = (gradient + 0.5 * momentum).permute(0, 2, 3, 1).reshape(16, 9)
        update = orthogonalise(direction[None], 2, torch.float32).reshape(16, 3, 3, 1).permute(0, 3, 1, 2)
        expected = expected * (4 / expected.norm()) - 0.1 * (16 / 9) ** 0.5 * update
        weight.grad = gradient.clone()
        muon.step()
    assert torch.allclose(weight, expected, atol=1e-5)


@pytest.mark.parametrize(("nesterov", "moved"), [(True, 0.1 * (1.5 + 1.75)), (False, 0.1 * (1 + 1.5))])
def test_sgd_has_the_configured_momentum(nesterov: bool, moved: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    optimizers = Optimizers(Config(lr=0.1, momentum=0.5, nesterov=nesterov, weight_decay=0.0), model, FP32)
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizers.step()
    assert before - model.weight.item() == pytest.approx(moved, rel=1e-4)
