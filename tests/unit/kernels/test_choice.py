"""Which kernels a machine gets: none off the CPU, none unwanted, else all that pay and can be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wrn.kernels import Kernels, choice, native, pick_kernels

CPU = torch.device("cpu")


@pytest.fixture
def new_machine() -> Iterator[None]:
    """Nothing is known about its compiler yet, and nothing remembered afterwards."""
    native._built.cache_clear()
    yield
    native._built.cache_clear()


def test_none_off_the_cpu_or_if_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: pytest.fail("would compile in vain"))
    for kernels in (pick_kernels(torch.device("cuda")), pick_kernels(torch.device("mps")), pick_kernels(CPU, False)):
        assert kernels == Kernels()
        assert not kernels.active
        assert kernels.name == "torch"


@pytest.mark.parametrize(
    ("amx", "bf16", "threads", "compiled", "expected"),
    [
        (False, False, 2, True, "torch"),
        (False, True, 2, True, "kernel"),
        (False, True, 8, True, "kernel"),
        (False, True, 9, True, "torch"),  # more than the kernel can keep busy
        (False, True, 2, False, "torch"),
        (True, True, 64, True, "strips"),
        (True, True, 64, False, "strips"),  # which are torch's operations
    ],
)
def test_gradients_in_bf16_by_what_the_cpu_has(
    monkeypatch: pytest.MonkeyPatch, amx: bool, bf16: bool, threads: int, compiled: bool, expected: str
) -> None:
    monkeypatch.setattr(choice, "cpu_has_amx", lambda: amx)
    monkeypatch.setattr(choice, "cpu_computes_bf16", lambda: bf16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(native, "available", lambda: compiled)
    kernels = pick_kernels(CPU)
    assert (kernels.compiled, kernels.bf16_gradients) == (compiled, expected)
    assert kernels.active == (compiled or expected == "strips")
    assert kernels.name == ("ours" if compiled else "torch")


@pytest.mark.usefixtures("new_machine")
def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not pick_kernels(CPU).compiled


@pytest.mark.usefixtures("new_machine")
def test_a_failing_compiler_leaves_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] || exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr(native, "compile_cache", lambda: tmp_path / "cache")
    assert not pick_kernels(CPU).compiled
    assert list((tmp_path / "cache").iterdir()) == []
