"""Defaults that adapt to the data: what is held out, and the size of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from wrn.config.adapt import change
from wrn.config.schema import Config

FEW = 100
"""The standard error of a top-1 of so many images is up to 5 points."""


def fit_to_data(config: Config, classes: Sequence[int], world_size: int, on_message: Callable[[str], None]) -> Config:
    """The configuration with defaults that fit the data; what was given stays, even if it does not fit.

    classes: the number of training images of each class. on_message: receives a line for each default that adapts.
    """

    def adapt(key: str, value: object, reason: str) -> None:
        nonlocal config
        on_message(change(key, getattr(config, key), value, reason))
        config = config.adapted(**{key: value})

    given = config.given
    images = sum(classes)
    held = held_out(config.val_fraction, classes)
    if config.val_fraction and "val_fraction" not in given:
        largest = max(classes, default=0)
        if config.val_fraction * largest < 1:
            adapt("val_fraction", 0.0, f"no class has {math.ceil(1 / config.val_fraction)} images, at most {largest}")
        elif reason := _needs_all(config, images, images - sum(held), world_size):
            adapt("val_fraction", 0.0, reason)
        else:
            for line in _remarks(held):
                on_message(line)
    if config.target_accuracy and not config.val_fraction:
        adapt("target_accuracy", 0.0, "nothing is held out")
    left = images - sum(held_out(config.val_fraction, classes))
    if config.train_images > left and "train_images" not in given:
        adapt("train_images", 0, f"there are {left:,} images to train on")
    used = config.train_images or left
    if "batch_size" not in given and used:
        if config.batch_size > used:
            adapt("batch_size", used, f"there are {used:,} images to train on")
        if too_small(used, config.batch_size, world_size):
            sizes = (*range(config.batch_size - 1, 0, -1), *range(config.batch_size + 1, used + 1))
            better = next((size for size in sizes if not too_small(used, size, world_size)), 0)
            if better:
                adapt("batch_size", better, f"{world_size} processes share the last batch of {used:,} images too")
    if config.micro_batch != "auto" and config.micro_batch > config.batch_size and "batch_size" not in given:
        adapt("micro_batch", "auto", f"batch_size is {config.batch_size}")
    return config


def _remarks(held: Sequence[int]) -> list[str]:
    """What a person who did not ask for it should know of what is held out of each class."""
    lines = []
    if small := sum(not images for images in held):
        lines.append(f"val_fraction: {small} of {len(held)} classes have too few images to hold any of them out")
    if sum(held) < FEW:
        lines.append(
            f"val_fraction: only {sum(held)} images are held out, so the best epoch is partly chance; "
            "--val-fraction 0 trains on all"
        )
    return lines


def held_out(fraction: float, classes: Sequence[int]) -> list[int]:
    """How many images of each class are held out."""
    return [round(fraction * images) for images in classes]


def too_small(images: int, batch_size: int, world_size: int) -> bool:
    """Whether the smallest batch of an epoch has too few images for so many processes."""
    return world_size > (smallest_batch(images, batch_size) + 1) // 2


def smallest_batch(images: int, batch_size: int) -> int:
    return images % batch_size or batch_size


def _needs_all(config: Config, images: int, left: int, world_size: int) -> str:
    """Why a given value needs the images that would be held out, if it does."""
    if config.target_accuracy:
        return ""  # which needs them held out
    if "train_images" in config.given and left < config.train_images <= images:
        return f"train_images is {config.train_images}"
    used = config.train_images or left
    if "batch_size" in config.given and not config.train_images:
        if used < config.batch_size <= images:
            return f"batch_size is {config.batch_size}"
        if too_small(used, config.batch_size, world_size) and not too_small(images, config.batch_size, world_size):
            return f"{world_size} processes share the last batch of {config.batch_size} too"
    return ""
