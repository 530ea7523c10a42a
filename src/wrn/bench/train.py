"""`wrn bench train`: a training step and its phases, compared with the machine's limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from wrn.bench.environment import environment
from wrn.bench.limits import convolutions_alone, copy_bytes_per_second, measured_peaks
from wrn.bench.operations import shares_of_operations
from wrn.bench.timing import PhaseClock, seconds, spread
from wrn.bench.workload import IMAGES_OF_CIFAR, Workload
from wrn.config import Config
from wrn.config.architecture import multiply_adds, training_flops
from wrn.config.gpus import DENSE_FLOPS
from wrn.config.stages import parse_stages
from wrn.data.augment.batch import Batch
from wrn.training.machine import device_name, peak_memory
from wrn.training.peak import catalogued

PROFILED_STEPS = 10
"""A step of WRN-28-10 has thousands of events, and the profiler takes a tenth of a millisecond to process each."""


def measure(config: Config, *, rounds: int = 5, round_s: float = 2.0) -> dict[str, Any]:
    """The record of one benchmark: each resolution of the recipe, then all of them by their shares.

    rounds: rounds to take the median of, after untimed steps. round_s: approximate length of a round, at least two
    steps.
    """
    work = Workload(config)
    peaks = measured_peaks(work.precision)
    bandwidth = copy_bytes_per_second(work.device)
    results = [stage(work, side, share, rounds, round_s) for side, share in parse_stages(config.resolutions)]
    # Measured again, keeping the higher: a limit measured while other programs ran would be too low.
    peaks = {name: max(peak, peaks[name]) for name, peak in measured_peaks(work.precision).items()}
    name = catalogued(work.precision)
    for result in results:
        flops = result["images_per_s"]["median"] * result["flop_per_image"]
        result["mfu"] = flops / max(peaks.values())
        if name is not None:
            result["mfu_of_data_sheet"] = flops / DENSE_FLOPS[name]
    epoch_s = sum(result["share"] * IMAGES_OF_CIFAR / result["images_per_s"]["median"] for result in results)
    return {
        "benchmark": "training_speed",
        "network": str(work.model.architecture),
        "batch_size": config.batch_size,
        "precision": work.precision.name,
        "device": device_name(work.device),
        "peak_flops": peaks,
        "data_sheet": {"name": name, "peak_flops": DENSE_FLOPS[name]} if name is not None else None,
        "copy_bytes_per_s": bandwidth,
        "stages": results,
        "seconds_per_epoch": epoch_s,
        "peak_memory_bytes": peak_memory(work.device),
        "rounds": rounds,
        "config": config.model_dump(mode="json"),
        "environment": environment(),
    }


def stage(work: Workload, side: int, share: float, rounds: int, round_s: float) -> dict[str, Any]:
    """Everything about steps on images of `side` pixels, which make up `share` of the recipe's steps."""
    config = work.config
    batches = work.batches(side)
    first_s = seconds(lambda: work.run(batches, 1))
    # The second step may still be slower: it may capture a graph or allocate memory.
    work.run(batches, 1)
    usual_s = seconds(lambda: work.run(batches, 1))
    steps = max(2, math.ceil(round_s / usual_s))
    taken_s = [seconds(lambda: work.run(batches, steps)) / steps for _ in range(rounds)]
    step_s = spread(taken_s)
    passes = 2 if config.sam_rho else 1
    flops = passes * training_flops(multiply_adds(work.model.architecture, side))
    rate = spread([config.batch_size / taken for taken in taken_s])
    size = min(config.batch_size, work.train_step.micro_batch, config.sam_batch or config.batch_size)
    alone_s = passes * config.batch_size / size * convolutions_alone(work.model, side, size, work.precision)
    return {
        "side": side,
        "share": share,
        "flop_per_image": flops,
        "step_seconds": step_s,
        "images_per_s": rate,
        "convolutions_alone_seconds": alone_s,
        "share_of_convolutions_alone": alone_s / step_s["median"],
        "phases": phases(work, batches, steps),
        "operations": shares_of_operations(work, batches, min(PROFILED_STEPS, steps)),
        "first_step_seconds": first_s,
    }


def phases(work: Workload, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """Seconds of each phase of a step, the mean over `steps` steps."""
    clock = PhaseClock(work.device)
    work.train_step.on_phase = clock.begin
    for _ in range(steps):
        clock.begin("data")
        batch = next(batches)
        clock.begin("forward")
        work.train_step(work.step, batch)
    totals = clock.totals()
    work.train_step.on_phase = lambda phase: None
    return {name: taken / steps for name, taken in totals.items()}


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    peaks = record["peak_flops"]
    said = [
        f"{record['network']}, batch {record['batch_size']}, {record['precision']}, on {record['device']}",
        "this machine: "
        + ", ".join(f"{name} {flops / 1e12:.3g} TFLOP/s" for name, flops in peaks.items())
        + f", copy {record['copy_bytes_per_s'] / 1e9:.3g} GB/s",
    ]
    for result in record["stages"]:
        rate, step_s = result["images_per_s"], result["step_seconds"]["median"]
        sheet = f", {result['mfu_of_data_sheet']:.1%} of the data sheet's" if "mfu_of_data_sheet" in result else ""
        said += [
            f"{result['side']} px: {rate['median']:,.1f} images/s ({rate['min']:,.1f} to {rate['max']:,.1f}), "
            f"{1e3 * step_s:,.1f} ms per step, MFU {result['mfu']:.1%} of the measured peak{sheet}",
            f"  {result['share_of_convolutions_alone']:.1%} of the speed of torch's convolutions alone "
            f"({1e3 * result['convolutions_alone_seconds']:,.1f} ms)",
            "  " + ", ".join(f"{name} {1e3 * taken:,.1f} ms" for name, taken in result["phases"].items()),
            "  " + ", ".join(f"{kind} {share:.1%}" for kind, share in result["operations"].items()),
            f"  the first step took {result['first_step_seconds']:,.1f} s"
            + (", including compilation" if record["config"]["compile"] else ""),
        ]
    if any(result["mfu"] > 1 for result in record["stages"]):
        said.append("MFU counts all multiplications of a convolution; Winograd's algorithm needs a quarter of them")
    said.append(
        f"{record['seconds_per_epoch']:,.1f} s for an epoch of {IMAGES_OF_CIFAR:,} images; "
        f"peak memory {record['peak_memory_bytes'] / 1e9:.2f} GB"
    )
    return said
