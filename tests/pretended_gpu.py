"""A GPU that is not there: run as a program, it takes steps of each variant with tensors that have only a device.

torch's fake tensors have a shape, a type and a device, and no numbers. An operation on tensors of two devices fails
with them as it would on a GPU, and so does one that brings a number to the host. What they cannot show is a backward
pass, whose engine asks for a real GPU: here it leaves gradients of zeros.

    python tests/pretended_gpu.py        one line for each variant: its name, and "ok" or what went wrong
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, library
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

ATEN = library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
C10_REGISTER_GUARD_IMPL(CUDA, Guard);
"""
"""What a build of torch without CUDA lacks: switching to a device, here a word without a deed."""


def load_guard() -> None:
    """Raises CalledProcessError where it does not compile."""
    home = Path(torch.__file__).parent
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    with tempfile.TemporaryDirectory() as folder:
        source, guard = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(GUARD, encoding="utf-8")
        words = [compiler, "-std=c++20", "-shared", "-fPIC", f"-I{home / 'include'}", str(source), "-o", str(guard)]
        subprocess.run([*words, f"-L{home / 'lib'}", "-lc10"], check=True, capture_output=True)
        ctypes.CDLL(str(guard))


FAULTS: dict[str, Callable[[], object]] = {
    "two devices": lambda: torch.ones(2, device="cuda") + torch.ones(2),
    "an index from the host": lambda: torch.ones(2, device="cuda").index_select(0, torch.zeros(1, dtype=torch.int64)),
    "a look": lambda: torch.ones(2, device="cuda").sum().item(),
}
"""What must go wrong: else this file shows nothing."""


class Stream:
    def __init__(self, device: Any = None) -> None:
        self.device = torch.device("cuda")

    def wait_stream(self, other: Any) -> None:
        pass


def pretend() -> None:
    """Make this process believe in one H100."""
    from wrn.bench import workload

    load_guard()
    answers: dict[str, Any] = {
        "device_count": 1,
        "get_device_capability": (9, 0),
        "get_arch_list": ["sm_90"],
        "is_bf16_supported": True,
        "current_stream": Stream(),
        "stream": contextlib.nullcontext(),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.Stream = Stream  # type: ignore[assignment,misc]
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
    torch.Tensor.record_stream = lambda self, _: None  # type: ignore[assignment,method-assign]
    ATEN.impl("_fused_sgd_", lambda *_, **__: None, "Meta")  # type: ignore[no-untyped-call]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    FakeTensorMode.__deepcopy__ = lambda self, _: self  # type: ignore[attr-defined]

    real = vars(workload)["build_model"]

    def build(config: Any, dataset: Any, device: torch.device) -> Any:
        with unset_fake_temporarily():
            model = real(config, dataset, torch.device("cpu"))
        return model.to(device)

    vars(workload)["build_model"] = build
    vars(workload)["wait_for"] = lambda device: None


def take_steps(keys: dict[str, Any]) -> None:
    from wrn.bench.workload import Workload
    from wrn.config.layers import resolve

    small = {"depth": 10, "widen_factor": 1, "batch_size": 24, "device": "cuda"}
    work = Workload(resolve(keys.get("recipe"), {**small, **{k: v for k, v in keys.items() if k != "recipe"}}).config)

    def backward(loss: Tensor, *_: Any) -> None:
        assert loss.device.type == "cuda"
        for parameter in work.model.parameters():
            gradient = torch.zeros_like(parameter)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    torch.Tensor.backward = backward  # type: ignore[method-assign]
    work.run(work.batches(16), 2)


def predict() -> None:
    from wrn.bench.workload import MEAN, STD
    from wrn.model import WideResNet, pick_device, pick_precision, predict_logits

    with unset_fake_temporarily():
        model = WideResNet(10, 1)
    precision = pick_precision(pick_device("cuda"), amp=True)
    model = model.to(precision.device)
    images = torch.zeros(10, 3, 32, 32, dtype=torch.uint8)
    for mirrored in (False, True):
        logits = predict_logits(model, images, mean=MEAN, std=STD, precision=precision, batch_size=4, mirrored=mirrored)
        assert (logits.device.type, *logits.shape) == ("cuda", 10, 100)


def main(variants: dict[str, dict[str, Any]]) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    pretend()
    deeds: dict[str, Callable[[], object]] = {name: partial(take_steps, keys) for name, keys in variants.items()}
    deeds["prediction"] = predict
    for name, deed in (deeds | FAULTS).items():
        try:
            with mode:
                deed()
            said = "ok"
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        sys.stdout.write(f"{name}: {said}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "unit/training"))
    from test_no_waiting import VARIANTS  # type: ignore[import-not-found]

    half = {"amp_dtype": "fp16"}
    main(VARIANTS | {"half": half, "half, muon": {**half, "optimizer": "muon"}, "single": {"amp": False}})
