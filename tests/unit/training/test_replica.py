"""Compiled steps equal uncompiled ones, and only batch sizes that recur are compiled."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compiling import COMPILING
from wrn.config import Config
from wrn.data.augment.batch import Batch
from wrn.model import WideResNet, pick_precision
from wrn.training.optimizer import Optimizers
from wrn.training.replica import Replica, keep_compiled_code
from wrn.training.schedule import Schedule
from wrn.training.step import TrainStep

FP32 = pick_precision(torch.device("cpu"), amp=False)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1, 0.0, 5).train()


def batch(size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(size, 3, 8, 8, generator=generator), torch.arange(size) % 5)


def weights_after(model: WideResNet, sizes: list[int], notes: list[str] | None = None, **keys: Any) -> list[Tensor]:
    """Of steps on batches of these sizes."""
    config = Config(**{"dropout": 0.0, "amp": False, "batch_size": 8, "warmup_epochs": 0, **keys})
    schedule, notes = Schedule("step", config.lr, 0.0, 0, 10), [] if notes is None else notes
    take = TrainStep(config, model, Optimizers(config, model, FP32), FP32, schedule, notes.append)
    for step, size in enumerate(sizes):
        take(step, batch(size))
    return [parameter.detach() for parameter in model.parameters()]


class Graphs:
    """What torch.compile gives with CUDA graphs, as far as memory goes, but on the CPU.

    Gradients that it handed out (those that were taken as they came, since there was nothing to add them to) are
    spoilt by its next forward pass.
    """

    def __init__(self, model: nn.Module, **keys: Any) -> None:
        self.keys = keys
        self._model = model
        self._unset: set[int] = set()
        self._handed_out: list[Tensor] = []
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(self._note)

    def _note(self, parameter: Tensor) -> None:
        if id(parameter) in self._unset:
            assert parameter.grad is not None
            self._handed_out.append(parameter.grad)

    def __call__(self, images: Tensor) -> Tensor:
        for gradient in self._handed_out:
            gradient.fill_(torch.nan)
        self._handed_out = []
        self._unset = {id(p) for p in self._model.parameters() if p.grad is None}
        return self._model(images)


MANY_PASSES: dict[str, dict[str, Any]] = {"accumulation": {"micro_batch": 4}, "SAM": {"sam_rho": 0.05, "sam_batch": 4}}


@pytest.mark.parametrize("name", MANY_PASSES)
def test_gradients_survive_the_memory_of_cuda_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    expected = weights_after(copy.deepcopy(model), [8, 8], **MANY_PASSES[name])
    monkeypatch.setattr(torch, "compile", Graphs)
    spoilt = weights_after(copy.deepcopy(model), [8, 8], compile=True, **MANY_PASSES[name])
    assert not all(torch.isfinite(weight).all() for weight in spoilt)  # else this test could not fail
    graphs = weights_after(copy.deepcopy(model), [8, 8], compile="graphs", **MANY_PASSES[name])
    for one, other in zip(expected, graphs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("compile", "mode"), [(True, None), ("graphs", "reduce-overhead")])
def test_each_shape_is_compiled_for_itself(compile: Any, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graphs] = []
    monkeypatch.setattr(torch, "compile", lambda model, **keys: made.append(Graphs(model, **keys)) or made[-1])
    Replica(network(), compile)
    assert made[0].keys == {"dynamic": False, "mode": mode}
    assert torch._dynamo.config.recompile_limit >= 64


def test_the_smaller_batch_at_the_end_of_an_epoch_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        torch, "compile", lambda model, **keys: lambda images: seen.append(len(images)) or model(images)
    )
    notes: list[str] = []
    weights_after(network(), [8, 8, 3, 8, 3], notes, compile=True)
    assert seen == [8, 8, 8]
    assert [note.rpartition(" in ")[0] for note in notes] == ["compiled for 8 images of 8 px"]


def test_the_time_of_compiling_is_that_of_the_first_passes_of_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def taking_time(images: Tensor) -> Tensor:
        now[0] += 10.0 if len(images) == 8 else 5.0
        return images

    monkeypatch.setattr("wrn.training.replica.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(torch, "compile", lambda model, **keys: taking_time)
    replica = Replica(network(), True)

    class Loss:
        def backward(self) -> None:
            now[0] += 2.0

    for size in (8, 8, 4, 8, 4):
        replica.forward(torch.zeros(size, 3, 8, 8))
        replica.backward(Loss())  # type: ignore[arg-type]
    assert replica.compile_seconds == 19.0


def test_with_a_read_only_home_torch_chooses_where_to_keep_compiled_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    keep_compiled_code()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_compiled_code_is_kept_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keep_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].endswith("compiled")


@COMPILING
def test_tracing_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eager backend traces and runs like any other, but needs no C++ compiler and little time."""
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, dynamic, mode: compiler(model, dynamic=dynamic, backend="eager")
    )
    model = network()
    for one, other in zip(
        weights_after(copy.deepcopy(model), [8, 8, 3]),
        weights_after(copy.deepcopy(model), [8, 8, 3], compile=True),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.slow
@COMPILING
@pytest.mark.parametrize("keys", [{}, {"sam_rho": 0.05, "sam_batch": 4}], ids=["plain", "SAM"])
def test_compiled_steps_on_a_cpu_are_the_uncompiled_ones(keys: dict[str, Any]) -> None:
    model = network()
    plain = weights_after(copy.deepcopy(model), [8, 8, 3], **keys)
    compiled = weights_after(copy.deepcopy(model), [8, 8, 3], compile=True, **keys)
    for one, other in zip(plain, compiled, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.gpu
@COMPILING
@pytest.mark.parametrize("compile", [True, "graphs"])
@pytest.mark.parametrize("keys", [{}, *MANY_PASSES.values()], ids=["plain", *MANY_PASSES])
def test_compiled_steps_on_a_gpu_follow_fp32_on_the_cpu(compile: Any, keys: dict[str, Any]) -> None:
    model = network()
    expected = weights_after(copy.deepcopy(model), [8] * 4, **keys)
    config = Config(dropout=0.0, batch_size=8, warmup_epochs=0, compile=compile, **keys)
    there = copy.deepcopy(model).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = pick_precision(torch.device("cuda"), amp=False)
    schedule = Schedule("step", config.lr, 0.0, 0, 10)
    take = TrainStep(config, there, Optimizers(config, there, precision), precision, schedule, lambda note: None)
    for step in range(4):
        ready = batch()
        take(step, Batch(ready.images.cuda(), ready.labels.cuda()))
    for one, other in zip(expected, there.parameters(), strict=True):
        assert (one - other.detach().cpu()).norm() <= 1e-2 * one.norm()  # TF32 and other sums
