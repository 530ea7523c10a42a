"""How many pictures of your own a run trains on, for arithmetic about its time and cost. Needs no torch."""

from __future__ import annotations

from wrn.aws.planning.workload import TEST_IMAGES, TRAIN_IMAGES
from wrn.config.paths import data_search
from wrn.config.schema import Config
from wrn.errors import DataError


def counted(config: Config, *, elsewhere: bool = False) -> tuple[Config, list[str]]:
    """A configuration for arithmetic alone, with as many training images as a folder of pictures has, and a line on it.

    elsewhere: the pictures do not lie on this machine.
    """
    if config.dataset != "folder":
        return config, []
    number = None if elsewhere else pictures_here(config)
    if number is None and config.train_images:
        return config, [f"reckoned with {config.train_images:,} training images, as train_images says"]
    if number is None:
        return config, [f"assumed: the folder has {TRAIN_IMAGES:,} training images; --train-images says another"]
    used = min(config.train_images or number, number)
    lines = [f"reckoned with the {number:,} training images of the folder"]
    if used < number:
        lines = [f"reckoned with {used:,} of the {number:,} training images of the folder, as train_images says"]
    if used > TRAIN_IMAGES:
        lines = [
            f"careful: the folder has {number:,} training images, and the arithmetic knows at most {TRAIN_IMAGES:,}: "
            f"expect {used / TRAIN_IMAGES:.1f} times the time and the cost"
        ]
    lines.append(f"evaluations are reckoned with {TEST_IMAGES:,} test images, as CIFAR-100 has")
    return config.model_copy(update={"train_images": used}), lines


def pictures_here(config: Config) -> int | None:
    """The training pictures of the configured folder; None where it is not here, or is none."""
    from wrn.data.layout import list_pictures
    from wrn.data.locate import locate_folder, places_of

    try:
        train, _, _ = list_pictures(locate_folder(config.data_dir, places_of(config.data_dir, data_search())))
    except DataError:
        return None
    return len(train)
