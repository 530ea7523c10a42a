"""Images per second of the training step and of the whole loop, against the plain PyTorch peer, in one run.

    python benchmarks/bench_train.py --depth 16 --widen-factor 4 --batch-size 128 --output benchmarks/results/X.json

Four candidates take turns, A B C D, A B C D, ...: the peer's step (fp32, NCHW) and ours (mixed precision,
channels-last) on one batch that lies ready, and both with their own batch path (the peer's DataLoader with workers;
our batches made on the device), crop and flip in either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common import environment, interleaved, peak_flops, spread, write_json
from peers import plain_pytorch
from wrn.data.augment.pipeline import AugmentOptions
from wrn.data.dataset import Split
from wrn.data.loader import make_loader
from wrn.model import WideResNet, multiply_adds, pick_device, pick_precision

Batches = Iterator[tuple[Tensor, Tensor]]
IMAGES = 10_000
"""Random images that the batch paths draw from: speed does not depend on what they show."""


class Ours:
    """Our step: autocast, channels-last, fused Nesterov SGD; weight decay on weights alone."""

    def __init__(self, depth: int, widen_factor: int, device: torch.device) -> None:
        self.precision = pick_precision(device, amp=True)
        self.model = WideResNet(depth, widen_factor).to(device, memory_format=torch.channels_last)
        weights = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.scales_loss)

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            logits = self.model(images)
        self.scaler.scale(F.cross_entropy(logits.float(), labels)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def same(images: Tensor, labels: Tensor) -> Batches:
    while True:
        yield images, labels


def peer_batches(loader: Any, device: torch.device) -> Batches:
    """Workers go on through the other candidates' turns until their queue is full: in the peer's favour."""
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def our_batches(batch_size: int, device: torch.device) -> Batches:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=draws)
    split = Split(images, torch.randint(0, 100, (IMAGES,), generator=draws))
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    loader = make_loader(AugmentOptions(), split, half, quarter, batch_size, seed=0, device=device)
    steps, step = IMAGES // batch_size, 0
    while True:
        # Whole batches only, as the peer's loader gives them.
        if step % loader.steps_per_epoch == steps:
            step += 1
            continue
        for batch in loader.batches(step, step + 1):
            yield batch.images, batch.labels
        step += 1


def candidates(args: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], None]]:
    """What takes turns: `steps` training steps each."""
    images = torch.randn(args.batch_size, 3, 32, 32, device=device)
    labels = torch.randint(0, 100, (args.batch_size,), device=device)
    peer = plain_pytorch.WRN(args.depth, args.widen_factor).to(device)
    optimizer = plain_pytorch.make_optimizer(peer)
    noise = plain_pytorch.CIFAR100.of_noise(IMAGES, train=True)
    loader = plain_pytorch.make_loader(noise, args.batch_size, args.workers)
    ours = Ours(args.depth, args.widen_factor, device)

    def turn(step: Callable[[Tensor, Tensor], object], batches: Batches) -> Callable[[], None]:
        def run() -> None:
            for _ in range(args.steps):
                step(*next(batches))
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    def peer_step(images: Tensor, labels: Tensor) -> None:
        plain_pytorch.train_step(peer, optimizer, images, labels).item()

    return {
        "peer_step": turn(peer_step, same(images, labels)),
        "our_step": turn(ours.step, same(images.contiguous(memory_format=torch.channels_last), labels)),
        "peer_loop": turn(peer_step, peer_batches(loader, device)),
        "our_loop": turn(ours.step, our_batches(args.batch_size, device)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--widen-factor", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2, help="steps per turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate; the median counts")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the peer's DataLoader")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    args = parser.parse_args()
    if args.batch_size > IMAGES:
        parser.error(f"--batch-size {args.batch_size} is more than the {IMAGES} images of this benchmark")

    device = pick_device(args.device)
    precision = pick_precision(device, amp=True)
    peaks = peak_flops(precision.dtype, device)
    times = interleaved(candidates(args, device), args.rounds)

    flops = 3 * 2 * multiply_adds(WideResNet(args.depth, args.widen_factor).architecture)
    peak = max(peaks.values())
    network = f"WRN-{args.depth}-{args.widen_factor}"
    print(f"{network}, batch {args.batch_size}, {device}, ours in {precision.name}, {torch.get_num_threads()} threads")
    print("peak " + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items()))
    results = {}
    for name, taken in times.items():
        speed = spread([args.steps * args.batch_size / t for t in taken])
        achieved = speed["median"] * flops
        results[name] = {"images_per_s": speed, "gflop_per_s": achieved / 1e9, "mfu": achieved / peak}
        print(
            f"{name:10} {speed['median']:8.1f} images/s ({speed['min']:.1f} to {speed['max']:.1f}), "
            f"{achieved / 1e9:6.1f} GFLOP/s, MFU {achieved / peak:.1%}"
        )
    ratios = {}
    for kind in ("step", "loop"):
        # Round by round: what slowed the machine for a while slowed both.
        ratios[kind] = spread([a / b for a, b in zip(times[f"peer_{kind}"], times[f"our_{kind}"], strict=True)])
        print(f"{kind}: {ratios[kind]['median']:.2f}x the peer's images/s")
    if args.output:
        record = {
            "benchmark": "train",
            "network": network,
            "batch_size": args.batch_size,
            "precision": precision.name,
            "flop_per_image": flops,
            "peak_flops": peaks,
            "results": results,
            "ratio": ratios,
            "rounds": args.rounds,
            "steps_per_round": args.steps,
            "environment": environment(),
        }
        write_json(args.output, record)


if __name__ == "__main__":
    main()
