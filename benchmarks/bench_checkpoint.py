"""Saving and loading the whole state of a run: time, stall of the training thread, size on disk, against torch.save.

    python benchmarks/bench_checkpoint.py --output benchmarks/results/X.json

The state is that of WRN-28-10 with Nesterov SGD and an average of the weights: three times 146 MB. The peer is what
most training scripts do: `torch.save` of the same tensors in place, no temporary name, no flush, no checksum. Both
take turns. Then steps are taken with a checkpoint being written in between: how much longer is the one after it?
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common import environment, seconds, spread, write_json
from wrn.config import Config
from wrn.data.augment.batch import Batch
from wrn.model import WideResNet, pick_device, pick_precision
from wrn.training.checkpoint import Checkpoint, CheckpointStore, read_checkpoint, write_checkpoint
from wrn.training.machine import tune_cpu
from wrn.training.optimizer import Optimizers
from wrn.training.schedule import Schedule
from wrn.training.step import TrainStep


def state_of(take: TrainStep, optimizers: Optimizers) -> Checkpoint:
    """What a trainer saves."""
    assert take.average is not None
    tensors = {f"model/{name}": value for name, value in take.model.state_dict().items()}
    tensors |= {f"optimizer/{name}": value for name, value in optimizers.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in take.average.state_dict().items()}
    return Checkpoint(tensors, {"step": 1, "history": [{"epoch": 1, "train_loss": 1.0}] * 100})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--widen-factor", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6, help="steps around each checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder unless given")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    args = parser.parse_args()

    tune_cpu()
    device = pick_device(args.device)
    config = Config(
        depth=args.depth, widen_factor=args.widen_factor, batch_size=args.batch_size, ema_decay=0.999, dropout=0.0
    )
    network = WideResNet(args.depth, args.widen_factor).to(device, memory_format=torch.channels_last)
    optimizers = Optimizers(config, network)
    precision = pick_precision(device, amp=True)
    take = TrainStep(config, network, optimizers, precision, Schedule("cosine", 0.1, 0.0, 0, 1000), print)
    images = torch.randn(args.batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.randint(0, 100, (args.batch_size,), device=device))

    def step(number: int) -> float:
        started = time.perf_counter()
        take(number, batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    for number in range(2):
        step(number)
    figures: dict[str, list[float]] = {name: [] for name in ("save", "torch_save", "load", "torch_load", "call")}
    usual: list[float] = []
    after: list[float] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        ours, theirs = Path(folder, "step-00000001.safetensors"), Path(folder, "peer.pt")
        store = CheckpointStore(Path(folder, "store"), 2, print)
        for _ in range(args.rounds):
            state = state_of(take, optimizers)
            plain = {"tensors": dict(state.tensors), "state": state.state}
            figures["save"].append(seconds(lambda state=state: write_checkpoint(ours, state)))
            figures["torch_save"].append(seconds(lambda plain=plain: torch.save(plain, theirs)))
            figures["load"].append(seconds(lambda: read_checkpoint(ours)))
            figures["torch_load"].append(seconds(lambda: torch.load(theirs, map_location="cpu", weights_only=True)))
            usual += [step(number) for number in range(args.steps)]
            figures["call"].append(seconds(lambda state=state: store.save(state)))
            after.append(figures["call"][-1] + step(args.steps))
            store.wait()
        size, peer_size = ours.stat().st_size, theirs.stat().st_size

    median = statistics.median(usual)
    ratio = spread([value / median for value in after])
    save = spread([a / b for a, b in zip(figures["torch_save"], figures["save"], strict=True)])
    for name, values in figures.items():
        print(f"{name:11} {spread(values)['median']:7.3f} s")
    print(f"size {size / 1e6:.0f} MB (torch.save: {peer_size / 1e6:.0f} MB)")
    most = ratio["max"]
    print(f"a step takes {median:.3f} s, one after a checkpoint {ratio['median']:.2f}x that (at most {most:.2f}x)")
    if args.output:
        record: dict[str, Any] = {
            "benchmark": "checkpoint",
            "network": f"WRN-{args.depth}-{args.widen_factor}",
            "seconds": {name: spread(values) for name, values in figures.items()},
            "bytes": size,
            "bytes_torch_save": peer_size,
            "step_seconds": spread(usual),
            "step_after_checkpoint": ratio,
            "torch_save_over_save": save,
            "environment": environment(),
        }
        write_json(args.output, record)


if __name__ == "__main__":
    main()
