from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wrn.model.cpu import M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, tune_cpu


@pytest.mark.parametrize(
    ("takes_large_thresholds", "asked"),
    [
        (True, [(M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1)]),
        (False, [(M_MMAP_THRESHOLD, 1 << 30), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)]),
    ],
    ids=["glibc", "glibc 2.34"],
)
def test_large_blocks_stay_in_the_process_with_old_and_new_glibc(
    takes_large_thresholds: bool, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def mallopt(option: int, value: int) -> int:
        calls.append((option, value))
        return int(takes_large_thresholds or option != M_MMAP_THRESHOLD)

    monkeypatch.setattr("wrn.model.cpu.ctypes.CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: on)
    tune_cpu()
    assert calls == asked


def test_another_libc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.model.cpu.ctypes.CDLL", lambda name: SimpleNamespace())
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: on)
    tune_cpu()
