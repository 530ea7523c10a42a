"""`wrn bench inference`: latency of one image and throughput, through the `Predictor` that users call."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wrn.bench.environment import environment
from wrn.bench.limits import measured_peaks
from wrn.bench.timing import seconds, spread
from wrn.bench.workload import noise
from wrn.config.architecture import multiply_adds
from wrn.config.layers import Layer, merge
from wrn.model import ModelInfo, WideResNet, pick_device, pick_precision, save_model, tune_cpu
from wrn.serving.predictor import Predictor
from wrn.training.machine import device_name, peak_memory

FEWEST = 3
"""Minimum number of calls per batch size, however long they take."""
MOST = 2000


def measure(
    model_dir: Path | None,
    *,
    depth: int = 28,
    widen_factor: int = 10,
    device: str = "auto",
    batch_sizes: Sequence[int] = (1, 8, 64, 512),
    at_least: float = 2.0,
) -> dict[str, Any]:
    """The record of one benchmark.

    model_dir: a trained model; None: WRN-`depth`-`widen_factor` with random weights, which is as fast.
    at_least: seconds per batch size. A call goes from uint8 images in host memory to class names.
    Raises ConfigError for an impossible network.
    """
    merge([Layer("flag", {"depth": depth, "widen_factor": widen_factor})], "inference")  # or one sentence a mistake
    tune_cpu()
    if model_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            save_random(Path(folder), depth, widen_factor)
            predictor = Predictor(Path(folder), device=device)
    else:
        predictor = Predictor(model_dir, device=device)
    # Repeats the predictor's own choice, to report it.
    precision = pick_precision(pick_device(device), amp=True)
    architecture = predictor.info.architecture
    flops = 2 * multiply_adds(architecture)
    peaks = measured_peaks(precision)
    results: list[dict[str, Any]] = []
    for size in batch_sizes:
        images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8)
        taken = calls(predictor, images, at_least)
        results.append(
            {
                "batch_size": size,
                "calls": len(taken),
                "seconds": {**spread(taken), "p99": percentile(taken, 0.99)},
                "images_per_s": size / spread(taken)["median"],
            }
        )
    # Measured again, keeping the higher: a limit measured while other programs ran would be too low.
    peaks = {name: max(peak, peaks[name]) for name, peak in measured_peaks(precision).items()}
    for result in results:
        result["share_of_peak"] = result["images_per_s"] * flops / max(peaks.values())
    return {
        "benchmark": "inference_speed",
        "network": str(architecture),
        "precision": precision.name,
        "device": device_name(precision.device),
        "flop_per_image": flops,
        "peak_flops": peaks,
        "results": results,
        "peak_memory_bytes": peak_memory(precision.device),
        "environment": environment(),
    }


def save_random(folder: Path, depth: int, widen_factor: int) -> None:
    """A model directory like that of a finished run, with untrained weights."""
    like = noise(1)
    model = WideResNet(depth, widen_factor, num_classes=like.num_classes)
    info = ModelInfo(model.architecture, like.mean, like.std, like.classes, (), (), like.name)
    save_model(folder, model, info)


def calls(predictor: Predictor, images: torch.Tensor, at_least: float) -> list[float]:
    """Seconds of each call that fits into `at_least` seconds. Results are on the host, so all waiting is counted."""
    for _ in range(2):  # these select kernels and allocate memory
        predictor.predict(images)
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() - started < at_least):
        taken.append(seconds(lambda: predictor.predict(images)))
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this fraction of the values does not exceed (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    said = [f"{record['network']}, {record['precision']}, on {record['device']}"]
    for result in record["results"]:
        took = result["seconds"]
        said.append(
            f"batch {result['batch_size']:4}: {1e3 * took['median']:9.2f} ms (p99 {1e3 * took['p99']:.2f} ms, "
            f"{result['calls']} calls), {result['images_per_s']:,.1f} images/s, "
            f"{result['share_of_peak']:.1%} of the measured peak"
        )
    return said
