"""From uint8 images to a training batch, in the order crop, flip, policy, normalise, erase, mix."""

from __future__ import annotations

from torch import Tensor

from wrn.config.schema import AugmentSection
from wrn.data.augment.batch import Batch
from wrn.data.augment.crop import Windows
from wrn.data.augment.erase import cutout_, random_erasing
from wrn.data.augment.mix import mix
from wrn.data.augment.policies import rand_augment, trivial_augment_wide
from wrn.data.normalise import normalise
from wrn.data.random import BatchRandom

FULL_SIDE = 32
"""The image side to which crop_padding and cutout refer, in pixels; they scale down with smaller images."""


class Pipeline:
    """Augments whole batches on their device. Calls are pure: all randomness comes from `rng`.

    mean, std: per channel, of images scaled to 0..1.
    """

    def __init__(
        self, options: AugmentSection, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        self.options = options
        self._mean = mean
        self._std = std

    def windows(self, images: Tensor) -> Windows:
        """Prepare uint8 images (N, 3, H, W) for taking batches from them."""
        padding = self.options.crop_padding
        return Windows(images, _scaled(padding, images) if padding else 0, self.options.flip)

    def __call__(self, windows: Windows, index: Tensor, labels: Tensor, rng: BatchRandom) -> Batch:
        """The images at `index`, int64 (B,), as a batch with these labels, int64 (B,)."""
        images = self._distorted(windows.take(index, rng), rng)
        return self._finished(images, labels, rng)

    def _distorted(self, images: Tensor, rng: BatchRandom) -> Tensor:
        """The operations on uint8 images."""
        options = self.options
        if options.augment == "trivialaugment":
            images = trivial_augment_wide(images, rng)
        elif options.augment == "randaugment":
            images = rand_augment(images, options.randaugment_ops, options.randaugment_magnitude, rng)
        return images

    def _finished(self, images: Tensor, labels: Tensor, rng: BatchRandom) -> Batch:
        """The operations on normalised images."""
        options = self.options
        images = normalise(images, self._mean, self._std)
        if options.cutout:
            images = cutout_(images, _scaled(options.cutout, images), rng)
        if options.random_erasing:
            images = random_erasing(images, options.random_erasing, rng)
        return mix(Batch(images, labels), options.mixup_alpha, options.cutmix_alpha, options.mix_probability, rng)


def _scaled(pixels: int, images: Tensor) -> int:
    """Convert pixels of a 32 px image to pixels of these images, at least 1."""
    return max(1, round(pixels * images.shape[-1] / FULL_SIDE))
