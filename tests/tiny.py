"""A data set and a configuration small enough to train within a second, for tests of whole runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wrn.config import Config, RunPaths, run_paths
from wrn.config.schema import AugmentSection
from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.distributed.processes import Processes
from wrn.errors import Interrupted
from wrn.training.run import prepare
from wrn.training.stop import StopSignal
from wrn.training.trainer import Trainer

TIMING = {"images_per_s", "mfu", "memory_gb", "seconds", "compile_seconds"}
"""What may differ between two runs that are otherwise the same bit for bit."""


def tiny_dataset(images: int = 60, classes: int = 5) -> Dataset:
    """Classes that differ in colour, so that a few steps learn something."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % classes
        base = torch.linspace(40, 200, classes)[labels].view(-1, 1, 1, 1)
        tint = torch.stack([base, 240 - base, base], dim=1).flatten(2).unsqueeze(-1)
        noise = torch.randint(-30, 31, (count, 3, 32, 32), generator=generator)
        return Split((tint.view(count, 3, 1, 1) + noise).clamp(0, 255).to(torch.uint8), labels)

    train = split(images)
    mean, std = channel_statistics(train.images)
    names = tuple(f"class-{index}" for index in range(classes))
    superclass_of = tuple(index // 2 for index in range(classes))
    supers = tuple(f"super-{index}" for index in range(max(superclass_of) + 1))
    return Dataset("folder", "made by a test", train, split(20), names, supers, superclass_of, mean, std)


def tiny_config(output_dir: Path, **keys: Any) -> Config:
    """WRN-10-1 for three epochs of four steps (60 images in batches of 16, the last of 12)."""
    values: dict[str, Any] = {
        "output_dir": output_dir,
        "dataset": "folder",
        "depth": 10,
        "widen_factor": 1,
        "epochs": 3,
        "batch_size": 16,
        "warmup_epochs": 1,
        "dropout": 0.1,
        "device": "cpu",
        "checkpoint_minutes": 0,
        "progress": "plain",
        "mixup_alpha": 0.0,
        "cutout": 0,
        **keys,
    }
    return Config(**values)


def augmentation(**keys: Any) -> AugmentSection:
    """Crop and flip, and of the rest what is asked for."""
    return AugmentSection(**{"cutout": 0, "mixup_alpha": 0.0, **keys})


class Recorder:
    """A reporter that keeps what it is told, and can ask for a stop after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.rows: list[Mapping[str, Any]] = []
        self.steps: list[int] = []
        self.rates: list[float] = []
        self.stop = StopSignal()
        self._stop_after = stop_after

    def note(self, message: str) -> None:
        self.notes.append(message)

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        pass

    def step(self, step: int, lr: float, images: int) -> None:
        self.steps.append(step)
        self.rates.append(lr)
        if self._stop_after is not None and len(self.steps) == self._stop_after:
            self.stop.received = "SIGTERM"

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def download(self, done: int, total: int | None) -> None:
        pass

    def close(self) -> None:
        pass


def ready(config: Config, recorder: Recorder, processes: Processes | None = None) -> tuple[Trainer, RunPaths]:
    """A trainer before its first step; the data set must have been put in place of `open_dataset`."""
    paths = run_paths(config, "tiny", {"SAGEMAKER_BASE_DIR": "/nowhere"})
    paths.run.mkdir(parents=True, exist_ok=True)
    trainer, _, _ = prepare(config, paths, recorder, processes or Processes(), torch.device(config.device))
    return trainer, paths


def without_timing(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def run_through(output: Path, stop_after: int | None = None, **keys: Any) -> tuple[Trainer, list[dict[str, Any]]]:
    """Train to the end, interrupted after every `stop_after` steps of a process."""
    for _ in range(20):
        recorder = Recorder(stop_after)
        trainer, paths = ready(tiny_config(output, **keys), recorder)
        try:
            trainer.run(recorder.stop)
        except Interrupted:
            continue
        rows = [json.loads(line) for line in paths.history.read_text().splitlines()]
        return trainer, without_timing(rows)
    raise AssertionError("never came to its end")
