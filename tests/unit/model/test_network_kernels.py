"""A network holds its kernels itself; torch's compiler, exporter and tracer see operators, torch's or wrn's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from compiling import COMPILING
from wrn.kernels import Kernels, pick_kernels
from wrn.model import AveragedModel, WideResNet


@pytest.fixture
def own() -> Kernels:
    """All kernels of this machine."""
    kernels = pick_kernels(torch.device("cpu"))
    if not kernels.compiled:
        pytest.skip("no C++ compiler here")
    return kernels


class Recorder(TorchDispatchMode):
    """The names of wrn's operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names |= {func.name()} if func.namespace == "wrn" else set()
        return func(*args, **(kwargs or {}))


def images(count: int = 4) -> Tensor:
    x = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def network(kernels: Kernels) -> WideResNet:
    torch.manual_seed(0)
    model = WideResNet(10, 1, num_classes=5).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.use_kernels(kernels)
    return model


def test_two_networks_in_one_process_differ(own: Kernels) -> None:
    ours, theirs, new = network(own), network(Kernels()), WideResNet(10, 1, num_classes=5)
    for model, expected in (
        (ours, {"wrn::norm_act_train", "wrn::winograd"}),
        (theirs, set()),
        (new, set()),
        (copy.deepcopy(ours), {"wrn::norm_act_train", "wrn::winograd"}),
        (AveragedModel(ours, 0.9).module, {"wrn::norm_act_eval", "wrn::winograd"}),
    ):
        with Recorder() as recorder:
            model(images())
        assert recorder.names == expected
    ours.use_kernels(Kernels())
    with Recorder() as recorder:
        ours(images())
    assert not recorder.names


@COMPILING
def test_the_compiler_sees_one_graph_with_the_operators(own: Kernels) -> None:
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    eager, model = network(own), network(own)
    compiled = torch.compile(model, backend=keep, fullgraph=True, dynamic=False)
    assert torch.equal(compiled(images()), eager(images()))
    (graph,) = graphs
    assert {str(node.target) for node in graph.graph.nodes} >= {"wrn.norm_act_train.default", "wrn.winograd.default"}


@COMPILING
def test_a_compiled_step_gives_the_same_bits(own: Kernels) -> None:
    torch._dynamo.reset()
    kernels = replace(own, bf16_gradients="kernel")  # on any CPU
    results = []
    for compile in (False, True):
        model = network(kernels)
        forward = torch.compile(model, backend="aot_eager", dynamic=False) if compile else model
        with torch.autocast("cpu", torch.bfloat16):
            y = forward(images())
        y.float().square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append([y, *gradients, *model.buffers()])
    assert len(results[0]) == 1 + len(list(model.parameters())) + len(list(model.buffers()))
    assert all(map(torch.equal, *results))


@COMPILING
def test_exported_without_kernels_it_is_torchs_operations_alone_for_any_batch() -> None:
    model = network(Kernels()).eval()
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets
    assert {target.namespace for target in targets} == {"aten"}
    assert torch.equal(program.module()(images(7)), model(images(7)))


@COMPILING
def test_exported_with_kernels_it_has_their_operators(own: Kernels) -> None:
    model = network(own).eval()
    with torch.no_grad():
        program = torch.export.export(model, (images(),))
        targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert targets >= {"wrn.norm_act_eval.default", "wrn.winograd.default"}
        assert torch.equal(program.module()(images()), model(images()))


@COMPILING
def test_traced_it_is_torchs_operations_alone(own: Kernels) -> None:
    """Traced files have to run without wrn. The kernels themselves would read the tracer's sizes as pointers."""
    model = network(own).eval()
    with torch.no_grad():
        traced = torch.jit.trace(model, images())
        assert "wrn::" not in str(traced.inlined_graph)
        assert torch.allclose(traced(images(3)), model(images(3)), atol=1e-5)
