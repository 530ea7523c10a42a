"""How many training images a run has, for estimates of its time and cost. Needs no torch."""

from __future__ import annotations

from wrn.aws.catalog.workload import TEST_IMAGES, TRAIN_IMAGES
from wrn.config.paths import data_search
from wrn.config.schema import Config
from wrn.errors import DataError


def with_dataset_size(config: Config, *, elsewhere: bool = False) -> tuple[Config, list[str]]:
    """A configuration for estimates only, with the number of training images in an image folder, and notes about it.

    elsewhere: the images are not on this machine.
    """
    if config.dataset != "folder":
        return config, []
    number = None if elsewhere else count_training_images(config)
    if number is None and config.train_images:
        return config, [f"estimated for {config.train_images:,} training images (train_images)"]
    if number is None:
        return config, [f"assumed: the folder has {TRAIN_IMAGES:,} training images; --train-images sets another number"]
    held = round(config.val_fraction * number)
    used = min(config.train_images or number, number - held)
    lines = [f"estimated for the {number:,} training images in the folder"]
    if held:
        lines = [f"{lines[0]}, {held:,} of them held out"]
    if used < number - held:
        lines = [f"estimated for {used:,} of the {number:,} training images in the folder (train_images)"]
    lines.append(f"evaluations are estimated for {TEST_IMAGES:,} test images, as in CIFAR-100")
    return config.model_copy(update={"train_images": used, "val_fraction": held / TRAIN_IMAGES}), lines


def count_training_images(config: Config) -> int | None:
    """The number of training images in the configured folder; None if there is no usable folder here."""
    from wrn.data.layout import list_pictures
    from wrn.data.locate import locate_folder, places_of

    try:
        directory = locate_folder(config.data_dir, places_of(config.data_dir, data_search()))
        return len(list_pictures(directory).train)
    except DataError:
        return None
