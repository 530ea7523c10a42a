"""`wrn bench data`: images per second of the batch path, by augmentation policy."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from wrn.bench.environment import environment
from wrn.bench.limits import copy_bytes_per_second
from wrn.bench.timing import Run, interleaved, spread, wait_for
from wrn.bench.workload import batches_of, noise
from wrn.config import Config
from wrn.data.augment.batch import Batch
from wrn.data.dataset import Split
from wrn.model import pick_device, tune_cpu
from wrn.training.machine import device_name

IMAGES = 10_000
BYTES_PER_IMAGE = 3 * 32**2 * (1 + 4)
"""For each of an image's 3072 values a byte is read and a float32 written: no batch path can be faster."""

PLAIN = {"cutout": 0, "mixup_alpha": 0.0}
POLICIES: dict[str, dict[str, Any]] = {
    "none": {**PLAIN, "crop_padding": 0, "flip": False},
    "crop_flip": PLAIN,
    "crop_flip_cutout": {**PLAIN, "cutout": 8},
    "random_erasing": {**PLAIN, "random_erasing": 0.5},
    "mixup": {**PLAIN, "mixup_alpha": 0.2},
    "cutmix": {**PLAIN, "cutmix_alpha": 1.0},
    "randaugment": {**PLAIN, "augment": "randaugment", "cutout": 8},
    "trivialaugment": {**PLAIN, "augment": "trivialaugment", "cutout": 8},
    "albumentations": {**PLAIN, "augment": "albumentations", "cutout": 8, "num_workers": 0},
}
"""Configuration keys by policy. All but the first crop and flip; albumentations runs only if it is installed."""


def measure(
    device_name_or_auto: str = "auto",
    *,
    batch_size: int = 256,
    threads: int | None = None,
    rounds: int = 5,
    batches: int = 20,
) -> dict[str, Any]:
    """The record of one benchmark: the policies take turns of `batches` batches each."""
    tune_cpu()
    if threads:
        torch.set_num_threads(threads)
    device = pick_device(device_name_or_auto)
    split = noise(-(-IMAGES // batch_size) * batch_size).train
    names = [name for name in POLICIES if name != "albumentations" or importlib.util.find_spec("albumentations")]
    # Albumentations works image by image in this process, so a tenth of the batches is enough.
    counts = {name: batches if name != "albumentations" else max(1, batches // 10) for name in names}
    runs = {name: turn(endless(POLICIES[name], split, batch_size, device), counts[name], device) for name in names}
    bandwidth = copy_bytes_per_second(device)
    times = interleaved(runs, rounds)
    limit = bandwidth / BYTES_PER_IMAGE
    results = {}
    for name, taken in times.items():
        rate = spread([counts[name] * batch_size / seconds for seconds in taken])
        results[name] = {"images_per_s": rate, "share_of_memory_limit": rate["median"] / limit}
    return {
        "benchmark": "data_speed",
        "batch_size": batch_size,
        "device": device_name(device),
        "copy_bytes_per_s": bandwidth,
        "memory_limit_images_per_s": limit,
        "rounds": rounds,
        "results": results,
        "environment": environment(),
    }


def endless(keys: dict[str, Any], split: Split, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Batches of this policy."""
    config = Config(batch_size=batch_size, **keys)
    return batches_of(config, split, device).batches(0, 2**31)


def turn(batches: Iterator[Any], count: int, device: torch.device | None = None) -> Run:
    """Takes `count` of the batches when called."""

    def run() -> None:
        for _ in islice(batches, count):
            pass
        if device is not None:
            wait_for(device)

    return run


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    copied, limit = record["copy_bytes_per_s"], record["memory_limit_images_per_s"]
    said = [
        f"batch {record['batch_size']}, on {record['device']}; memory copies at {copied / 1e9:.3g} GB/s, which allows "
        f"{limit:,.0f} images/s"
    ]
    for name, result in record["results"].items():
        rate, share = result["images_per_s"]["median"], result["share_of_memory_limit"]
        said.append(f"{name:17} {rate:11,.0f} images/s, {share:.1%} of the memory limit")
    return said
