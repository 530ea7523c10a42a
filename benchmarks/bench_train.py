"""Images per second of the training step and of the whole loop, compared with plain PyTorch and timm, in one run.

    python benchmarks/bench_train.py --depth 16 --widen-factor 4 --batch-size 128 --output benchmarks/results/X.json

The candidates take turns, A B C D, A B C D, ...: the peer's step (fp32, NCHW), timm's if it can be imported, and ours
(mixed precision, channels-last), each on one prepared batch; and the peer's loop and ours with their own batch paths
(the peer's DataLoader with workers; our batches made on the device), both with crop and flip. For our step alone, phase
by phase: `wrn bench train`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from peers import plain_pytorch, timm_step
from wrn.bench.environment import environment, write_json
from wrn.bench.limits import measured_peaks
from wrn.bench.timing import interleaved, spread, wait_for
from wrn.bench.workload import Workload
from wrn.cli.values import whole, writable
from wrn.config import Config
from wrn.config.architecture import multiply_adds, training_flops

Batches = Iterator[tuple[Tensor, Tensor]]
IMAGES = 10_000
"""Random images that the peer's batch path draws from; the speed does not depend on their content."""


def peer_batches(loader: Any, device: torch.device) -> Batches:
    """Workers continue during the other candidates' turns until their queue is full, in the peer's favour."""
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def candidates(args: argparse.Namespace, work: Workload) -> dict[str, Callable[[], None]]:
    """The candidates that take turns: `steps` training steps each."""
    device = work.device
    images = torch.randn(args.batch_size, 3, 32, 32, device=device)
    labels = torch.randint(0, 100, (args.batch_size,), device=device)
    peer = plain_pytorch.WRN(args.depth, args.widen_factor).to(device)
    optimizer = plain_pytorch.make_optimizer(peer)
    noise = plain_pytorch.CIFAR100.of_noise(IMAGES, train=True)
    loader = plain_pytorch.make_loader(noise, args.batch_size, args.workers)

    def turn(step: Callable[[Tensor, Tensor], object], batches: Batches) -> Callable[[], None]:
        def run() -> None:
            for _ in range(args.steps):
                step(*next(batches))
            wait_for(device)

        return run

    def peer_step(images: Tensor, labels: Tensor) -> None:
        plain_pytorch.train_step(peer, optimizer, images, labels).item()

    ready = next(work.batches())
    batches = work.batches()
    runs = {"peer_step": turn(peer_step, repeat((images, labels)))}
    if timm_step.available() is None:
        timm = timm_step.Step(args.depth, args.widen_factor, device, work.precision.dtype)
        runs["timm_step"] = turn(timm, repeat((images, labels)))
    return runs | {
        "our_step": lambda: work.run(repeat(ready), args.steps),
        "peer_loop": turn(peer_step, peer_batches(loader, device)),
        "our_loop": lambda: work.run(batches, args.steps),
    }


COMPARED = {
    "step": ("peer_step", "our_step"),
    "step, timm": ("timm_step", "our_step"),
    "loop": ("peer_loop", "our_loop"),
}
"""Name of each ratio: the peer's candidate and ours."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=whole, default=16)
    parser.add_argument("--widen-factor", type=whole, default=4)
    parser.add_argument("--batch-size", type=whole, default=128)
    parser.add_argument("--steps", type=whole, default=2, help="steps per turn")
    parser.add_argument("--rounds", type=whole, default=5, help="turns per candidate, for the median")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the peer's DataLoader")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="compile our step, but not the peers'")
    parser.add_argument("--output", type=writable, help="where to write the figures as JSON")
    args = parser.parse_args()
    if args.batch_size > IMAGES:
        parser.error(f"--batch-size {args.batch_size} is more than the {IMAGES} images of this benchmark")

    # The same as the peer: crop and flip, no dropout, one label per image.
    config = Config(
        depth=args.depth,
        widen_factor=args.widen_factor,
        batch_size=args.batch_size,
        device=args.device,
        compile=args.compile,
        dropout=0.0,
        mixup_alpha=0.0,
        cutout=0,
    )
    work = Workload(config)
    peaks = measured_peaks(work.precision)
    left_out = {"timm": reason} if (reason := timm_step.available()) else {}
    times = interleaved(candidates(args, work), args.rounds)
    # Measured again, keeping the higher: a limit measured while other programs ran would be too low.
    peaks = {name: max(peak, peaks[name]) for name, peak in measured_peaks(work.precision).items()}

    flops = training_flops(multiply_adds(work.model.architecture))
    peak = max(peaks.values())
    name = work.precision.name
    print(
        f"{work.model.architecture}, batch {args.batch_size}, {work.device}, ours in {name}, "
        f"{torch.get_num_threads()} threads"
    )
    print("peak " + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items()))
    for who, reason in left_out.items():
        print(f"{who} is left out: {reason}")
    results = {}
    for who, taken in times.items():
        speed = spread([args.steps * args.batch_size / t for t in taken])
        achieved = speed["median"] * flops
        results[who] = {"images_per_s": speed, "gflop_per_s": achieved / 1e9, "mfu": achieved / peak}
        print(
            f"{who:10} {speed['median']:8.1f} images/s ({speed['min']:.1f} to {speed['max']:.1f}), "
            f"{achieved / 1e9:6.1f} GFLOP/s, MFU {achieved / peak:.1%}"
        )
    ratios = {}
    for kind, (theirs, ours) in COMPARED.items():
        if theirs in times:
            # Compared round by round, as a temporary slowdown of the machine affects both.
            ratios[kind] = spread([a / b for a, b in zip(times[theirs], times[ours], strict=True)])
            print(f"{kind}: {ratios[kind]['median']:.2f}x the peer's images/s")
    if args.output:
        record = {
            "benchmark": "train",
            "network": str(work.model.architecture),
            "batch_size": args.batch_size,
            "precision": name,
            "compile": args.compile,
            "flop_per_image": flops,
            "peak_flops": peaks,
            "results": results,
            "ratio": ratios,
            "left_out": left_out,
            "rounds": args.rounds,
            "steps_per_round": args.steps,
            "environment": environment(),
        }
        write_json(args.output, record)


if __name__ == "__main__":
    main()
