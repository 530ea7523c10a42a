"""From uint8 images to a training batch, in the order crop, flip, policy, normalise, erase, mix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from wrn.data.augment.batch import Batch
from wrn.data.augment.crop import crop_and_flip
from wrn.data.augment.erase import cutout_, random_erasing
from wrn.data.augment.mix import mix
from wrn.data.augment.policies import rand_augment, trivial_augment_wide
from wrn.data.normalise import normalise
from wrn.data.random import BatchRandom

FULL_SIDE = 32
"""The side at which crop_padding and cutout are given in pixels; they shrink with smaller images."""


@dataclass(frozen=True)
class AugmentOptions:
    """The augmentation keys of the configuration, under the same names and with the same meaning."""

    crop_padding: int = 4
    flip: bool = True
    augment: Literal["none", "randaugment", "trivialaugment", "albumentations"] = "none"
    randaugment_ops: int = 2
    randaugment_magnitude: int = 14
    albumentations_file: Path | None = None
    cutout: int = 0
    random_erasing: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_probability: float = 1.0


class Pipeline:
    """Augments whole batches on their device. Calls are pure: all chance comes from `rng`.

    mean, std: per channel, of images scaled to 0..1.
    """

    def __init__(
        self, options: AugmentOptions, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        self.options = options
        self._mean = mean
        self._std = std

    def __call__(self, images: Tensor, labels: Tensor, rng: BatchRandom) -> Batch:
        """uint8 (B, 3, H, W) and int64 (B,) to a batch."""
        return self.finish(self.distort(images, rng), labels, rng)

    def distort(self, images: Tensor, rng: BatchRandom) -> Tensor:
        """The part that works on uint8 images."""
        options = self.options
        padding = _scaled(options.crop_padding, images) if options.crop_padding else 0
        images = crop_and_flip(images, padding, options.flip, rng)
        if options.augment == "trivialaugment":
            images = trivial_augment_wide(images, rng)
        elif options.augment == "randaugment":
            images = rand_augment(images, options.randaugment_ops, options.randaugment_magnitude, rng)
        return images

    def finish(self, images: Tensor, labels: Tensor, rng: BatchRandom) -> Batch:
        """The part that works on normalised images."""
        options = self.options
        images = normalise(images, self._mean, self._std)
        if options.cutout:
            images = cutout_(images, _scaled(options.cutout, images), rng)
        if options.random_erasing:
            images = random_erasing(images, options.random_erasing, rng)
        return mix(Batch(images, labels), options.mixup_alpha, options.cutmix_alpha, options.mix_probability, rng)


def _scaled(pixels: int, images: Tensor) -> int:
    """Pixels of a 32 px image to pixels of these images, at least 1."""
    return max(1, round(pixels * images.shape[-1] / FULL_SIDE))
