from __future__ import annotations

import pytest
import torch

from wrn.errors import ConfigError
from wrn.model import pick_device, pick_precision
from wrn.model import precision as module

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("native", [True, False])
def test_the_cpu_uses_bf16_if_it_is_native(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_computes_bf16", lambda: native)
    assert pick_precision(CPU, amp=True).name == ("bf16" if native else "fp32")


@pytest.mark.parametrize(("bf16", "name", "scales"), [(True, "bf16", False), (False, "fp16", True)])
def test_a_gpu_without_bf16_uses_fp16_and_scales_the_loss(
    bf16: bool, name: str, scales: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    precision = pick_precision(CUDA, amp=True)
    assert (precision.name, precision.scales_loss) == (name, scales)


def test_without_amp_a_gpu_s_precision_is_named_correctly(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, name in ((True, "tf32"), (False, "fp32")):
        monkeypatch.setattr(module, "computes_bf16", lambda device, native=native: native)
        assert pick_precision(torch.device("cuda"), amp=False).name == name
        assert pick_precision(torch.device("cpu"), amp=False).name == "fp32"


def test_requests_are_followed() -> None:
    assert pick_precision(CPU, amp=False).name == "fp32"
    assert pick_precision(CPU, amp=True, amp_dtype="bf16").name == "bf16"
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        pick_precision(CPU, amp=True, amp_dtype="fp16")


def test_emulated_bf16_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_computes_bf16", lambda: False)
    assert pick_precision(CPU, amp=True, amp_dtype="bf16").reason == "as requested, but only emulated here"
    monkeypatch.setattr(module, "cpu_computes_bf16", lambda: True)
    assert pick_precision(CPU, amp=True, amp_dtype="bf16").reason == "as requested"


@pytest.mark.parametrize(
    ("capability", "built_for", "expected"),
    [
        ((7, 0), ["sm_75", "sm_80", "sm_90", "compute_120"], False),
        ((7, 5), ["sm_75", "sm_80"], True),
        ((8, 6), ["sm_75", "sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100"], True),
        ((10, 3), ["sm_100a"], False),
        ((12, 1), ["sm_90", "compute_90"], True),
        ((9, 0), ["gfx90a"], True),
    ],
)
def test_a_gpu_runs_what_was_built_for_it(capability: tuple[int, int], built_for: list[str], expected: bool) -> None:
    assert module.runs(capability, built_for) is expected


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_this_torch_does_not_support_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"is_available": True, "device_count": 1, "get_device_capability": (7, 0), "get_arch_list": ["sm_75"]}
    answers |= {"get_device_name": "Tesla V100", "set_device": None}
    for function, answer in answers.items():
        monkeypatch.setattr(torch.cuda, function, lambda *arguments, answer=answer: answer)
    with pytest.raises(ConfigError, match=r"not built for Tesla V100 \(sm_70\), only for sm_75; install"):
        pick_device(name)


def test_autocast_matches_the_precision() -> None:
    x = torch.randn(2, 2)
    for dtype in ("bf16", None):
        precision = pick_precision(CPU, amp=dtype is not None, amp_dtype=dtype or "auto")
        with precision.autocast():
            assert (x @ x).dtype is precision.dtype


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_devices_that_are_not_available(name: str) -> None:
    with pytest.raises(ConfigError, match="device: "):
        pick_device(name)


def test_a_named_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    answers = {"device_count": 2, "get_device_capability": (7, 5), "get_arch_list": ["sm_75"]}
    for function, answer in answers.items():
        monkeypatch.setattr(torch.cuda, function, lambda *arguments, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert pick_device("cuda:1") == current[0] == torch.device("cuda:1")
