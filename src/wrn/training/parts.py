"""Builds the parts of a run from its configuration: data, batches, network."""

from __future__ import annotations

import torch

from wrn.config import Config, RunPaths
from wrn.config.fit import fit_to_data
from wrn.data.dataset import Dataset, Split
from wrn.data.loader import Loader, make_loader
from wrn.data.locate import OutOfReach
from wrn.data.order import steps_in_epoch
from wrn.data.random import generator
from wrn.data.sources import open_dataset
from wrn.data.split import class_sizes, hold_out, subset
from wrn.distributed.environment import Place
from wrn.errors import DataError
from wrn.kernels import pick_kernels
from wrn.model import WideResNet
from wrn.trackers.events import Reporter
from wrn.training.schedule import make_schedule

SYNTHETIC = "NOTE: this is the synthetic data set, not CIFAR-100; its results say nothing about CIFAR-100"


def load_data(
    config: Config, name: str, paths: RunPaths, reporter: Reporter, world_size: int = 1
) -> tuple[Config, Dataset, Split | None]:
    """The configuration that fits the named data set, the data set, and what is held out of its training images.

    Raises DataError if the data is not available or does not fit the configuration.
    """
    try:
        dataset = open_dataset(
            name,
            data_dir=paths.data_dir,
            search=paths.search,
            download=config.download,
            skip_broken=config.skip_broken,
            on_progress=reporter.download,
            on_message=reporter.note,
        )
    except OutOfReach as error:
        raise DataError(f"{error}, or train with --dataset synthetic") from None
    if config.num_classes not in (0, dataset.num_classes):
        raise DataError(
            f"num_classes {config.num_classes} does not fit: {dataset.name} has {dataset.num_classes} classes; "
            "omit --num-classes"
        )
    train, validation = dataset.train, None
    config = fit_to_data(config, class_sizes(train.labels), world_size, reporter.note)
    if config.val_fraction:
        train, validation = hold_out(train, config.val_fraction, config.seed)
    if config.train_images:
        train = subset(train, config.train_images, config.seed)
    if config.batch_size > len(train):
        raise DataError(
            f"batch_size {config.batch_size} is larger than the {len(train)} training images; lower --batch-size"
        )
    held = f", {len(validation):,} held out for validation" if validation is not None else ""
    reporter.note(f"data: {dataset.name} ({dataset.origin}), {len(train):,} images to train on{held}")
    if dataset.name == "synthetic":
        reporter.note(SYNTHETIC)
    return config, dataset.with_splits(train, dataset.test), validation


def load_batches(config: Config, dataset: Dataset, device: torch.device, here: Place) -> Loader:
    schedule = make_schedule(config, steps_in_epoch(len(dataset.train), config.batch_size))
    return make_loader(
        config,
        dataset.train,
        dataset.mean,
        dataset.std,
        config.batch_size,
        seed=config.seed,
        device=device,
        rank=here.rank,
        world_size=here.world_size,
        num_workers=config.num_workers,
        resolution_at=schedule.resolution_at,
    )


def build_model(config: Config, dataset: Dataset, device: torch.device) -> WideResNet:
    """The network with its initial weights, which depend on the seed, and the kernels to compute it with."""
    torch.manual_seed(int(generator(config.seed, "weights").integers(2**63)))
    model = WideResNet(
        config.depth,
        config.widen_factor,
        config.dropout,
        dataset.num_classes,
        activation=config.activation,
        downsampling=config.downsampling,
        zero_init_residual=config.zero_init_residual,
        bn_momentum=config.bn_momentum,
    )
    model.use_kernels(pick_kernels(device, config.cpu_kernels))
    # The layout of the images: convolutions are fastest this way, on GPUs and CPUs.
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
