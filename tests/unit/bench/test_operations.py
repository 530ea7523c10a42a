from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from compiling import COMPILING
from wrn.bench.operations import kind_of, shares, shares_of_operations
from wrn.bench.workload import Workload
from wrn.config.layers import resolve


@dataclass
class Event:
    name: str
    cpu_parent: Event | None = None
    self_cpu_time_total: float = 0.0
    self_device_time_total: float = 0.0
    device_type: DeviceType = DeviceType.CPU


OPTIMIZER = Event("Optimizer.step#SGD.step")


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event("aten::convolution_backward"), "convolutions"),
        (Event("aten::mkldnn_convolution", Event("aten::conv2d")), "convolutions"),
        (Event("wrn::winograd"), "convolutions"),
        (Event("wrn::weight_gradient_bf16"), "convolutions"),
        (Event("wrn::norm_act_backward"), "batch norm with activation"),
        (Event("aten::native_batch_norm_backward"), "batch norm"),
        (Event("aten::threshold_backward"), "activations"),
        (Event("aten::silu_backward"), "activations"),
        (Event("aten::avg_pool2d_backward"), "pooling"),
        (Event("AvgPool2DBackward0"), "pooling"),
        (Event("aten::bernoulli_"), "dropout"),
        (Event("aten::copy_"), "casts and copies"),
        (Event("aten::copy_", Event("aten::to", OPTIMIZER)), "optimizer"),
        (Event("aten::mm", OPTIMIZER), "optimizer"),
        (Event("aten::index_select", Event("data")), "data"),
        (Event("triton_poi_fused_add_relu_7"), "fused by the compiler"),
        (Event("CompiledFunctionBackward"), "fused by the compiler"),
        (Event("aten::cross_entropy_loss"), "other"),
    ],
)
def test_the_kind_of_an_operation(event: Event, kind: str) -> None:
    assert kind_of(event) == kind  # type: ignore[arg-type]


def test_nested_operations_count_once() -> None:
    outer = Event("aten::conv2d", None, 1.0, 0.0)
    events = [outer, Event("aten::mkldnn_convolution", outer, 5.0, 30.0), Event("aten::copy_", None, 2.0, 10.0)]
    assert shares(events, on_gpu=False) == {"convolutions": 6 / 8, "casts and copies": 2 / 8}  # type: ignore[arg-type]
    assert shares(events, on_gpu=True) == {"convolutions": 0.75, "casts and copies": 0.25}  # type: ignore[arg-type]
    assert shares([], on_gpu=False) == {}


def test_a_kernel_counts_only_with_the_operation_that_launched_it() -> None:
    kernel = Event("sm90_xmma_fprop", None, 0.0, 30.0, DeviceType.CUDA)
    events = [Event("aten::cudnn_convolution", None, 5.0, 30.0), kernel, Event("aten::copy_", None, 2.0, 10.0)]
    assert shares(events, on_gpu=True) == {"convolutions": 0.75, "casts and copies": 0.25}  # type: ignore[arg-type]


@pytest.mark.parametrize("cpu_kernels", [False, True])
def test_the_operations_of_steps_by_kind(cpu_kernels: bool) -> None:
    keys = {"depth": 10, "widen_factor": 1, "batch_size": 16, "device": "cpu", "dropout": 0.3}
    keys["cpu_kernels"] = cpu_kernels
    work = Workload(resolve("standard", keys).config)
    batches = work.batches(16)
    work.run(batches, 1)
    found = shares_of_operations(work, batches, 2)
    assert sum(found.values()) == pytest.approx(1.0)
    norm = {"batch norm with activation"} if work.model.kernels.compiled else {"batch norm", "activations"}
    assert {"convolutions", *norm, "dropout", "optimizer", "data"} <= set(found)
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.gpu
@COMPILING
@pytest.mark.parametrize("compile", [False, True])
def test_the_operations_of_steps_on_a_gpu_by_kind(compile: bool) -> None:
    keys = {"depth": 10, "widen_factor": 1, "batch_size": 16, "device": "cuda", "compile": compile}
    work = Workload(resolve("standard", keys).config)
    batches = work.batches(16)
    work.run(batches, 3)
    assert "convolutions" in shares_of_operations(work, batches, 2)
