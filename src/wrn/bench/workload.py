"""What is timed: the program's own step and batches, built as in `wrn train`, on images of noise.

The time of a step does not depend on the content of the images, so no data set is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from wrn.bench.timing import wait_for
from wrn.config import Config
from wrn.data.augment.batch import Batch
from wrn.data.dataset import Dataset, Split
from wrn.data.loader import Loader, make_loader
from wrn.data.order import steps_in_epoch
from wrn.distributed.environment import Place
from wrn.distributed.processes import Processes
from wrn.model import WideResNet, pick_device, pick_precision, tune_cpu
from wrn.training.machine import choose_kernels
from wrn.training.optimizer import Optimizers
from wrn.training.parts import build_model
from wrn.training.schedule import make_schedule
from wrn.training.step import TrainStep

IMAGES_OF_CIFAR = 50_000
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def noise(images: int, classes: int = 100) -> Dataset:
    """A data set of this many 32x32 images of random bytes."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=draws)
    split = Split(pixels, torch.randint(0, classes, (images,), generator=draws))
    names = tuple(f"class {number}" for number in range(classes))
    return Dataset("noise", "random bytes", split, split.take(torch.arange(0)), names, (), (), MEAN, STD)


def batches_of(config: Config, split: Split, device: torch.device, side: int = 32, here: Place | None = None) -> Loader:
    """The loader of a run with this configuration, with all images at `side` pixels."""
    here = here or Place()
    return make_loader(
        config,
        split,
        MEAN,
        STD,
        config.batch_size,
        seed=config.seed,
        device=device,
        rank=here.rank,
        world_size=here.world_size,
        num_workers=config.num_workers,
        resolution_at=lambda step: side,
    )


class Workload:
    """A run at its midpoint: the network, optimiser and step of a configuration, and endless full batches."""

    def __init__(self, config: Config, processes: Processes | None = None) -> None:
        processes = processes or Processes()
        tune_cpu()
        choose_kernels(config.deterministic)
        self.config = config
        self.device = pick_device(config.device)
        self.precision = pick_precision(self.device, amp=config.amp, amp_dtype=config.amp_dtype)
        # Full batches only: the smaller last one of an epoch would be compiled or planned again.
        self._data = noise(config.batch_size * max(1, math.ceil(4000 / config.batch_size)))
        self._place = processes.place
        self.model: WideResNet = build_model(config, self._data, self.device)
        schedule = make_schedule(config, steps_in_epoch(IMAGES_OF_CIFAR, config.batch_size))
        self.optimizers = Optimizers(config, self.model, self.precision)
        self.train_step = TrainStep(
            config, self.model, self.optimizers, self.precision, schedule, lambda note: None, processes
        )
        # With the learning rates of the middle of the run; nothing is learned from noise anyway.
        self.step = schedule.total_steps // 2

    def batches(self, side: int = 32) -> Iterator[Batch]:
        """Batches without end."""
        return batches_of(self.config, self._data.train, self.device, side, self._place).batches(0, 2**31)

    def run(self, batches: Iterator[Batch], steps: int) -> None:
        """Take this many steps as the training loop does, and wait until the device has finished them."""
        for _ in range(steps):
            self.train_step(self.step, next(batches))
        wait_for(self.device)
