"""The speed of an epoch's steps: images/s, MFU, and peak memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from wrn.config import Config
from wrn.config.architecture import Architecture, multiply_adds, training_flops
from wrn.config.stages import steps_by_side
from wrn.data.augment.batch import Batch
from wrn.text import duration
from wrn.trackers.history import Row
from wrn.training.machine import peak_memory
from wrn.training.schedule import Schedule

LONG_S = 86_400.0
"""A run that takes longer than this, even at the device's peak, is announced before its first step, which may take
minutes."""


def passes(config: Config) -> int:
    """Forward-backward passes of a step: SAM takes two."""
    return 2 if config.sam_rho else 1


def long_run(config: Config, architecture: Architecture, schedule: Schedule, peak: float) -> str | None:
    """For a run of days: how long it takes at `peak`, in FLOP/s, and what ends sooner."""
    steps = steps_by_side(schedule.stages, 0, schedule.total_steps)
    images = {side: number * config.batch_size for side, number in steps.items()}
    forward = sum(number * multiply_adds(architecture, side) for side, number in images.items())
    seconds = passes(config) * training_flops(forward) / peak
    if seconds < LONG_S:
        return None
    return (
        f"even at that peak the run takes about {duration(seconds)}, {duration(seconds / config.epochs)} per epoch; "
        "faster: a GPU, --recipe quickstart (a small network), or --budget-minutes N (as many epochs as fit)"
    )


class Speedometer:
    """Counts an epoch's images, multiply-adds and seconds, also across an interruption.

    peak: FLOP/s of all devices together, the reference for MFU. MFU may exceed 1 on a CPU in fp32: it counts all
        multiplications of a convolution, and Winograd's algorithm needs only a quarter of them.
    """

    def __init__(self, config: Config, architecture: Architecture, device: torch.device, peak: float) -> None:
        self._config = config
        self._architecture = architecture
        self._device = device
        self._peak = peak
        self._compiled = 0.0
        self._images = self._multiply_adds = 0
        self.seconds_before = self._compiled_before = 0.0  # in the same epoch, by an earlier start of the run
        self.begin()

    def begin(self) -> None:
        """An epoch begins, or resumes after an interruption."""
        self._began = time.perf_counter()

    def count(self, batch: Batch) -> None:
        self._images += batch.global_size
        self._multiply_adds += batch.global_size * multiply_adds(self._architecture, batch.images.shape[-1])

    def row(self, compile_seconds: float) -> Row:
        """The figures so far. The device must be synchronised.

        compile_seconds: seconds of compilation since this object was created. They are part of `seconds`, but do not
            count towards the speed.
        """
        images, seconds, compiling = self._images, self._seconds(), self._compiling(compile_seconds)
        flops = passes(self._config) * training_flops(self._multiply_adds)
        self._images = self._multiply_adds = 0
        self.seconds_before = self._compiled_before = 0.0
        self._compiled = compile_seconds
        return {
            "images_per_s": images / (seconds - compiling),
            "mfu": flops / (seconds - compiling) / self._peak,
            "memory_gb": peak_memory(self._device) / 1e9,
            "seconds": seconds,
            "compile_seconds": compiling,
        }

    def state_dict(self, compile_seconds: float) -> dict[str, Any]:
        """What an epoch has counted so far; empty between epochs. The device must be synchronised."""
        if not self._images:
            return {}
        return {
            "images": self._images,
            "multiply_adds": self._multiply_adds,
            "seconds": self._seconds(),
            "compile_seconds": self._compiling(compile_seconds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if state:
            self._images, self._multiply_adds = state["images"], state["multiply_adds"]
            self.seconds_before, self._compiled_before = state["seconds"], state["compile_seconds"]

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self._began

    def _compiling(self, compile_seconds: float) -> float:
        return self._compiled_before + compile_seconds - self._compiled
