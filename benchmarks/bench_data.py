"""Images per second and core of the batch path, compared with DataLoaders with Pillow, NumPy and others, in one run.

    python benchmarks/bench_data.py --output benchmarks/results/X.json

Every candidate makes the same kind of batch on one thread of one process; they take turns, A B C, A B C, ... Each case
is compared with the faster of Pillow and NumPy, and with the rate at which one core can copy memory. Albumentations and
torchvision's v2 transforms are included if they can be imported. The images are CIFAR-100's if WRN_DATA_DIR is set,
else noise.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from peers import pillow_pipeline as peer
from peers import torchvision_pipeline
from wrn.bench.data import BYTES_PER_IMAGE, IMAGES, turn
from wrn.bench.environment import environment, write_json
from wrn.bench.limits import copy_bytes_per_second
from wrn.bench.timing import interleaved, spread
from wrn.bench.workload import MEAN, STD, noise
from wrn.cli.values import whole, writable
from wrn.config.schema import AugmentSection
from wrn.data.dataset import Split
from wrn.data.loader import make_loader
from wrn.model import tune_cpu


def augmentation(**keys: Any) -> AugmentSection:
    """Crop and flip, plus the given keys."""
    return AugmentSection(**{"cutout": 0, "mixup_alpha": 0.0, **keys})


@dataclass(frozen=True)
class Case:
    """What our pipeline does, and how the peers do the same: arguments of their dataset, and how they build a batch."""

    ours: AugmentSection
    theirs: dict[str, Any] = field(default_factory=dict)
    collate: Callable[[Any], Any] | None = None


HOLE = {"hole": peer.HOLE}
CASES = {
    "none": Case(augmentation(crop_padding=0, flip=False), {"crop": False}),
    "crop_flip": Case(augmentation()),
    "crop_flip_cutout": Case(augmentation(cutout=peer.HOLE), HOLE),
    "random_erasing": Case(augmentation(random_erasing=0.5), {"erasing": 0.5}),
    "mixup": Case(augmentation(mixup_alpha=0.2), collate=peer.mixup),
    "cutmix": Case(augmentation(cutmix_alpha=1.0), collate=peer.cutmix),
    "trivialaugment": Case(
        augmentation(augment="trivialaugment", cutout=peer.HOLE), {"policy": peer.trivial_augment, **HOLE}
    ),
    "randaugment": Case(augmentation(augment="randaugment", cutout=peer.HOLE), {"policy": peer.rand_augment, **HOLE}),
}
"""All but the first crop and flip."""


def load_images(batch_size: int) -> tuple[Split, str]:
    """The images that all candidates draw from, and their name.

    A multiple of the batch size: our last batch of an epoch would be smaller but counted as full, while the peers drop
    it.
    """
    whole = IMAGES // batch_size * batch_size
    if folder := os.environ.get("WRN_DATA_DIR"):
        from wrn.data.sources import open_dataset

        dataset = open_dataset("cifar100", data_dir=Path(folder))
        return Split(dataset.train.images[:whole], dataset.train.labels[:whole]), dataset.name
    return noise(whole).train, "noise"


def albumentations_policy() -> Callable[[Any], Any] | None:
    """Crop, flip, cutout and normalisation as an Albumentations pipeline; None if it is not installed."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations as al
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(0)
    return al.Compose(
        [
            al.Pad(peer.PADDING, border_mode=cv2.BORDER_REFLECT_101),
            al.RandomCrop(peer.SIDE, peer.SIDE),
            al.HorizontalFlip(p=0.5),
            al.Normalize(MEAN, STD),
            al.CoarseDropout((1, 1), (peer.HOLE, peer.HOLE), (peer.HOLE, peer.HOLE), p=1.0),
        ]
    )


class Albumentations(peer.Pillow):  # type: ignore[misc]
    """A third peer: everything in one Albumentations pipeline."""

    def __init__(self, images: Any, labels: Any, pipeline: Callable[..., Any]) -> None:
        super().__init__(images, labels)
        self.pipeline = pipeline

    def __getitem__(self, index: int) -> Any:
        image = self.pipeline(image=self.images[index])["image"]
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), self.labels[index]


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def ours(options: AugmentSection, split: Split, batch_size: int) -> Iterator[Any]:
    loader = make_loader(options, split, MEAN, STD, batch_size, seed=0, device=torch.device("cpu"))
    return loader.batches(0, 1_000_000_000)


def candidates(split: Split, batch_size: int, our_batches: int, peer_batches: int) -> dict[str, dict[str, Any]]:
    """By case, then by name: (what to run in a turn, batches per turn). Ours is called `wrn`."""
    images, labels = split.images.permute(0, 2, 3, 1).contiguous().numpy(), split.labels.tolist()
    cases: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        datasets = {kind.__name__: kind(images, labels, **case.theirs) for kind in (peer.Pillow, peer.NumPy)}
        if name == "crop_flip_cutout" and (pipeline := albumentations_policy()) is not None:
            datasets["Albumentations"] = Albumentations(images, labels, pipeline)
        runs = cases[name] = {"wrn": (turn(ours(case.ours, split, batch_size), our_batches), our_batches)}
        for kind, dataset in datasets.items():
            batches = endless(peer.make_loader(dataset, batch_size, case.collate))
            runs[kind] = (turn(batches, peer_batches), peer_batches)
        if torchvision_pipeline.available() is None and torchvision_pipeline.transforms(name) is not None:
            single = peer.make_loader(torchvision_pipeline.Images(split.images, labels, name), batch_size)
            runs["torchvision"] = (turn(endless(single), peer_batches), peer_batches)
            whole = torchvision_pipeline.whole_batches(split.images, labels, name, batch_size)
            runs["torchvision, one draw a batch"] = (turn(whole, our_batches), our_batches)
    if albumentations_policy() is not None:
        policy_of_users = ours(augmentation(augment="albumentations", cutout=8), split, batch_size)
        cases["trivialaugment"]["wrn, augment: albumentations"] = (turn(policy_of_users, peer_batches), peer_batches)
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=whole, default=256)
    parser.add_argument("--rounds", type=whole, default=9, help="turns per candidate, for the median")
    parser.add_argument("--batches", type=whole, default=20, help="our batches per turn; the peers make a tenth")
    parser.add_argument("--output", type=writable, help="where to write the figures as JSON")
    args = parser.parse_args()
    if not 0 < args.batch_size <= IMAGES:
        parser.error(f"--batch-size {args.batch_size} is more than the {IMAGES} images of this benchmark")

    torch.set_num_threads(1)
    tune_cpu()  # for the whole process, so the peers benefit too
    split, source = load_images(args.batch_size)
    bandwidth = copy_bytes_per_second(torch.device("cpu"))
    limit = bandwidth / BYTES_PER_IMAGE
    print(f"{source}, batch {args.batch_size}, one thread; memory {bandwidth / 1e9:.1f} GB/s: {limit:,.0f} images/s")
    if reason := torchvision_pipeline.available():
        print(f"torchvision is left out: {reason}")
    results: dict[str, Any] = {}
    ratios: dict[str, dict[str, float]] = {}
    for case, runs in candidates(split, args.batch_size, args.batches, max(1, args.batches // 10)).items():
        times = interleaved({name: run for name, (run, _) in runs.items()}, args.rounds)
        rates = {name: [runs[name][1] * args.batch_size / t for t in taken] for name, taken in times.items()}
        print(case)
        results[case] = {}
        for name, rate in rates.items():
            # Compared round by round, as a temporary slowdown of the machine affects both.
            ratio = spread([our / other for our, other in zip(rates["wrn"], rate, strict=True)])
            results[case][name] = {"images_per_s": spread(rate), "wrn_is_faster_by": ratio}
            results[case][name]["share_of_memory_limit"] = spread(rate)["median"] / limit
            print(f"  {name:30} {spread(rate)['median']:10,.0f} images/s   wrn: {ratio['median']:6.2f}x")
        against = [results[case][name]["wrn_is_faster_by"] for name in ("Pillow", "NumPy")]
        ratios[case] = min(against, key=lambda ratio: ratio["median"])
        print(f"  {ratios[case]['median']:.1f}x the speed of the faster of Pillow and NumPy")
    if args.output:
        record = {
            "benchmark": "data",
            "images": source,
            "left_out": {"torchvision": reason} if reason else {},
            "batch_size": args.batch_size,
            "copy_bytes_per_s": bandwidth,
            "memory_limit_images_per_s": limit,
            "rounds": args.rounds,
            "results": results,
            "ratio": ratios,
            "environment": environment(),
        }
        write_json(args.output, record)


if __name__ == "__main__":
    main()
