"""Where the time in training steps goes, by kind of operation, from torch's profiler."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile, record_function

from wrn.bench.workload import Workload
from wrn.data.augment.batch import Batch

DATA = "data"
OPTIMIZER = "optimizer"
OTHER = "other"
BY_NAME = {
    "fused by the compiler": ("Compiled", "triton", "cpp_fused"),
    "convolutions": ("convolution", "conv2d", "convolve", "winograd", "weight_gradient"),
    "batch norm with activation": ("norm_act",),
    "batch norm": ("batch_norm",),
    "dropout": ("bernoulli", "dropout"),
    "activations": ("relu", "silu", "clamp_min", "threshold"),
    "pooling": ("pool", "Pool"),
    "casts and copies": ("copy_", "_to_copy"),
    "shortcuts and sums of gradients": ("aten::add",),
}
"""Kinds of operations, by what their names contain; the first match counts."""


class Event(Protocol):
    """The parts of a profiler event that are used."""

    name: str
    device_type: DeviceType
    cpu_parent: Event | None
    self_cpu_time_total: float
    self_device_time_total: float


def shares_of_operations(work: Workload, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """The share of each kind in the time that `steps` steps take on the device, largest first.

    The profiler itself costs time, mostly for small operations, so only shares are meaningful. It sees a CUDA graph as
    one operation.
    """
    on_gpu = work.device.type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it reports its start and end
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            with record_function(DATA):
                batch = next(batches)
            work.train_step(work.step, batch)
        if on_gpu:
            torch.cuda.synchronize(work.device)
    events: Iterable[Any] = profiler.events() or ()
    return shares(events, on_gpu=on_gpu)


def shares(events: Iterable[Event], *, on_gpu: bool) -> dict[str, float]:
    """The share of each kind in the time of all events, where an event's time excludes nested events.

    Kernels on a GPU count with the operation that launched them, which is more telling than their names.
    """
    microseconds: dict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        microseconds[kind_of(event)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(microseconds.values())
    by_size = sorted(microseconds.items(), key=lambda item: -item[1])
    return {kind: taken / total for kind, taken in by_size} if total else {}


def kind_of(event: Event) -> str:
    """The kind of an operation: by its caller if that is known, else by its own name."""
    caller: Event | None = event
    while caller is not None:
        if caller.name == DATA:
            return DATA
        if caller.name.startswith("Optimizer.step"):
            return OPTIMIZER
        caller = caller.cpu_parent
    return next((kind for kind, words in BY_NAME.items() if any(word in event.name for word in words)), OTHER)
