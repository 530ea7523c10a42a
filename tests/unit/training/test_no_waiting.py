"""A step never waits for the device: nothing in it, or in making its batch, brings a value to the host.

There is no GPU in these tests, so what a GPU would wait for is read from the operations that are dispatched.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wrn.bench.workload import Workload
from wrn.config.layers import recipe_names, resolve

READING = {
    # These bring a value to the host.
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    # The shape of the result depends on values, which are therefore brought to the host.
    "nonzero",
    "masked_select",
    "unique_consecutive",
    "_unique2",
    "bincount",
    "repeat_interleave",
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{recipe: {"recipe": recipe} for recipe in recipe_names()},
    "every augmentation": {
        "augment": "randaugment",
        "random_erasing": 0.5,
        "mixup_alpha": 0.2,
        "cutmix_alpha": 1.0,
        "mix_probability": 0.7,
    },
    "clipped and accumulated": {"gradient_clip": 1.0, "micro_batch": 4},
}


class Recorder(TorchDispatchMode):
    """Records the names of operations that bring something to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen += 1
        if name in READING or (name == "index" and any(t is not None and t.dtype is torch.bool for t in args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_reads_anything_from_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = dict(VARIANTS[name])
    small = {"depth": 10, "widen_factor": 1, "batch_size": 24, "device": "cpu"}
    work = Workload(resolve(keys.pop("recipe", None), {**small, **keys}).config)
    batches = work.batches(16)
    work.run(batches, 1)  # creates what is made once and kept
    constants: list[Any] = []  # made on the host: copying one to a GPU would wait for the copy
    monkeypatch.setattr(torch, "tensor", lambda *a, make=torch.tensor, **k: constants.append(a) or make(*a, **k))
    with Recorder() as recorder:
        work.run(batches, 3)
    assert recorder.found == []
    assert constants == []
    assert recorder.seen > 300


@pytest.mark.parametrize("wait", [lambda t: t.sum().item(), lambda t: bool(t.any()), lambda t: t[t > 0], torch.unique])
def test_the_test_above_can_fail(wait: Any) -> None:
    values = torch.ones(3)
    with Recorder() as recorder:
        wait(values)
    assert recorder.found


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_waits_for_a_gpu(name: str) -> None:
    keys = dict(VARIANTS[name])
    small = {"depth": 10, "widen_factor": 1, "batch_size": 24, "device": "cuda"}
    work = Workload(resolve(keys.pop("recipe", None), {**small, **keys}).config)
    batches = work.batches(16)
    work.run(batches, 2)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            work.train_step(work.step, next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")
