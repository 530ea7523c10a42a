"""`wrn bench checkpoint`: saving and loading the whole state of a run, and what that adds to a step.

The peer is what most training scripts do: `torch.save` of the same tensors in place, without a temporary name, a flush
or a checksum. Both take turns. Then steps run with a checkpoint written in between, to see how much longer the step
after it takes.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wrn.bench.environment import environment
from wrn.bench.timing import seconds, spread
from wrn.bench.workload import Workload
from wrn.config.layers import Layer, merge
from wrn.errors import ConfigError
from wrn.training.checkpoint import Checkpoint, CheckpointStore, read_checkpoint, write_checkpoint
from wrn.training.machine import device_name


def state_of(work: Workload) -> Checkpoint:
    """What a trainer saves: weights, momentum and averaged weights."""
    tensors, state = work.train_step.state_dict()
    return Checkpoint(tensors, {**state, "step": 1, "history": [{"epoch": 1, "train_loss": 1.0}] * 100})


def measure(
    *,
    depth: int = 28,
    widen_factor: int = 10,
    batch_size: int = 16,
    device: str = "auto",
    steps: int = 6,
    rounds: int = 5,
    folder: Path | None = None,
) -> dict[str, Any]:
    """The record of one benchmark. The state of WRN-28-10 with averaged weights is three times 146 MB.

    steps: plain steps per round; a step after a checkpoint is compared with their median. folder: where to write; None:
    a temporary folder.

    Raises ConfigError, before anything is measured, for an invalid network or a folder that cannot be written.
    """
    given = {"depth": depth, "widen_factor": widen_factor, "batch_size": batch_size, "device": device}
    rest = {"ema_decay": 0.999, "dropout": 0.0, "mixup_alpha": 0.0}
    config = merge([Layer("flag", {**given, **rest})], "checkpoint").config
    try:
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        where = folder or "the system's temporary folder"
        raise ConfigError(f"folder: {where} cannot be written ({error.strerror}); give another --folder") from None
    with scratch as place:
        return measured(Workload(config), Path(place), steps, rounds)


def measured(work: Workload, folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    """The record, measured with files in `folder`."""
    batches = work.batches()
    work.run(batches, 2)
    figures: dict[str, list[float]] = {name: [] for name in ("save", "torch_save", "load", "torch_load", "call")}
    usual: list[float] = []
    after: list[float] = []
    ours, theirs = folder / "step-00000001.safetensors", folder / "peer.pt"
    store = CheckpointStore(folder / "store", 2, print_nothing)
    for _ in range(rounds):
        state = state_of(work)
        plain = {"tensors": dict(state.tensors), "state": state.state}
        figures["save"].append(seconds(partial(write_checkpoint, ours, state)))
        figures["torch_save"].append(seconds(partial(torch.save, plain, theirs)))
        figures["load"].append(seconds(lambda: read_checkpoint(ours)))
        figures["torch_load"].append(seconds(lambda: torch.load(theirs, map_location="cpu", weights_only=True)))
        usual += [seconds(lambda: work.run(batches, 1)) for _ in range(steps)]
        figures["call"].append(seconds(partial(store.save, state)))
        after.append(figures["call"][-1] + seconds(lambda: work.run(batches, 1)))
        store.wait()
    size, peer_size = ours.stat().st_size, theirs.stat().st_size
    step_s = spread(usual)
    return {
        "benchmark": "checkpoint",
        "network": str(work.model.architecture),
        "device": device_name(work.device),
        "seconds": {name: spread(values) for name, values in figures.items()},
        "bytes": size,
        "bytes_torch_save": peer_size,
        "step_seconds": step_s,
        "step_after_checkpoint": spread([value / step_s["median"] for value in after]),
        "torch_save_over_save": spread(
            [theirs / ours for theirs, ours in zip(figures["torch_save"], figures["save"], strict=True)]
        ),
        "environment": environment(),
    }


def print_nothing(note: str) -> None:
    """The store's notes are not part of a measurement."""


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    said = [f"{name:11} {taken['median']:7.3f} s" for name, taken in record["seconds"].items()]
    ratio, step_s = record["step_after_checkpoint"], record["step_seconds"]["median"]
    return [
        f"the state of {record['network']}, {record['bytes'] / 1e6:.0f} MB "
        f"(torch.save: {record['bytes_torch_save'] / 1e6:.0f} MB), on {record['device']}",
        *said,
        f"a step takes {step_s:.3f} s, the one after a checkpoint "
        f"{ratio['median']:.2f}x that (at most {ratio['max']:.2f}x)",
    ]
