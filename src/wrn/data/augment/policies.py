"""Policies: which operation each image gets, and how strongly. TrivialAugmentWide and RandAugment.

Every image draws its own operation and strength. Images with the same operation are processed together, so a batch
costs one operation an image, and the choice is made on the host, so the device is never waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from wrn.data.augment import colour, geometry
from wrn.data.random import BatchRandom

LEVELS = 31
"""Strengths 0 to 30, in both policies as published."""


@dataclass(frozen=True)
class Operation:
    """One operation of a policy.

    apply: images and magnitudes (B,) to images. magnitudes: one for each level, or None for an operation without.
    signed: whether the magnitude is negated for half of the images.
    relative_to_side: whether magnitudes are shares of the image's side, to be turned into pixels.
    around_one: whether the magnitude is a distance from the factor 1.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    magnitudes: tuple[float, ...] | None = None
    signed: bool = False
    relative_to_side: bool = False
    around_one: bool = False


def _up_to(limit: float) -> tuple[float, ...]:
    return tuple(limit * level / (LEVELS - 1) for level in range(LEVELS))


def _fewer_bits(removed: int) -> tuple[float, ...]:
    return tuple(float(8 - round(removed * level / (LEVELS - 1))) for level in range(LEVELS))


def _space(shear: float, shift: float, degrees: float, enhance: float, bits: int) -> Mapping[str, Operation]:
    """The 14 operations that both policies draw from, up to these strengths.

    shift: a share of the side. enhance: the largest distance of an enhancement factor from 1.
    """
    enhancements = {"magnitudes": _up_to(enhance), "signed": True, "around_one": True}
    shifts = {"magnitudes": _up_to(shift), "signed": True, "relative_to_side": True}
    return {
        "identity": Operation(lambda images, _: images),
        "shear_x": Operation(geometry.shear_x, _up_to(shear), signed=True),
        "shear_y": Operation(geometry.shear_y, _up_to(shear), signed=True),
        "translate_x": Operation(geometry.translate_x, **shifts),  # type: ignore[arg-type]
        "translate_y": Operation(geometry.translate_y, **shifts),  # type: ignore[arg-type]
        "rotate": Operation(geometry.rotate, _up_to(degrees), signed=True),
        "brightness": Operation(colour.brightness, **enhancements),  # type: ignore[arg-type]
        "colour": Operation(colour.colour, **enhancements),  # type: ignore[arg-type]
        "contrast": Operation(colour.contrast, **enhancements),  # type: ignore[arg-type]
        "sharpness": Operation(colour.sharpness, **enhancements),  # type: ignore[arg-type]
        "posterize": Operation(lambda images, bits: colour.posterize(images, bits.long()), _fewer_bits(bits)),
        "solarize": Operation(colour.solarize, tuple(255.0 - value for value in _up_to(255))),
        "autocontrast": Operation(lambda images, _: colour.autocontrast(images)),
        "equalize": Operation(lambda images, _: colour.equalize(images)),
    }


WIDE = _space(shear=0.99, shift=1.0, degrees=135.0, enhance=0.99, bits=6)
"""TrivialAugment's wide space (arXiv:2103.10158, table 6): shifts by up to 32 pixels of a 32 px image."""

RAND = _space(shear=0.3, shift=150 / 331, degrees=30.0, enhance=0.9, bits=4)
"""RandAugment's space (arXiv:1909.13719), its shifts of 150 pixels at 331 px taken in proportion."""


def trivial_augment_wide(images: Tensor, rng: BatchRandom) -> Tensor:
    """One operation of the wide space for each image, at a strength of its own, both uniform."""
    chosen = rng.host_integers(0, len(WIDE))
    return _apply(WIDE, images, chosen, rng.integers(0, LEVELS), rng.chance(0.5))


def rand_augment(images: Tensor, operations: int, level: int, rng: BatchRandom) -> Tensor:
    """`operations` random operations in a row for each image, all at strength `level` (0 to 30)."""
    strength = torch.full((len(images),), level, device=images.device)
    for _ in range(operations):
        images = _apply(RAND, images, rng.host_integers(0, len(RAND)), strength, rng.chance(0.5))
    return images


def _apply(
    space: Mapping[str, Operation], images: Tensor, chosen: np.ndarray, level: Tensor, negated: Tensor
) -> Tensor:
    """Image i after operation `chosen[i]` at `level[i]`, its sign turned where `negated[i]`."""
    result = images.clone(memory_format=torch.channels_last)
    for number, (name, operation) in enumerate(space.items()):
        where = np.flatnonzero(chosen == number)
        if name == "identity" or not len(where):
            continue
        index = torch.from_numpy(where).to(images.device, non_blocking=True)
        magnitude = _magnitudes(operation, level[index], negated[index], images.shape[-1])
        result[index] = operation.apply(images[index], magnitude)
    return result


def _magnitudes(operation: Operation, level: Tensor, negated: Tensor, side: int) -> Tensor:
    """The magnitude of each image, (B,), in the units that the operation takes."""
    if operation.magnitudes is None:
        return level
    magnitude = _table(operation.magnitudes, level.device)[level]
    if operation.relative_to_side:
        magnitude = (magnitude * side).round()
    if operation.signed:
        magnitude = torch.where(negated, -magnitude, magnitude)
    return 1 + magnitude if operation.around_one else magnitude


@lru_cache(maxsize=64)
def _table(magnitudes: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept on the device, so that no batch waits for it to be copied there."""
    return torch.tensor(magnitudes, dtype=torch.float32, device=device)
