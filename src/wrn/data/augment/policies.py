"""Policies: which operation each image gets, and how strong. TrivialAugmentWide and RandAugment.

Every image draws its own operation and strength. Images with the same operation are processed together, so a batch
costs one operation per image. The choice is made on the host, so it never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from wrn.data.augment import colour, geometry
from wrn.data.random import BatchRandom, to_device_together

LEVELS = 31
"""Strengths 0 to 30, in both policies as published."""


def _unchanged(images: Tensor, _: Tensor) -> Tensor:
    return images


def _as_is(magnitude: np.ndarray, side: int) -> np.ndarray:
    return magnitude.astype(np.float32)


def _around_one(magnitude: np.ndarray, side: int) -> np.ndarray:
    return (1 + magnitude).astype(np.float32)


@dataclass(frozen=True)
class Operation:
    """One operation of a policy.

    apply: maps images and parameters to images, on the device. Adjacent operations with the same `apply` share a call.
    magnitudes: one for each level; all 0 if the operation has no magnitude.
    signed: whether the magnitude is negated for half of the images.
    parameter: maps magnitudes (B,) and the image's side to the parameters of `apply`, on the host.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    magnitudes: tuple[float, ...] = (0.0,) * LEVELS
    signed: bool = False
    parameter: Callable[[np.ndarray, int], np.ndarray] = _as_is


def _up_to(limit: float) -> tuple[float, ...]:
    return tuple(limit * level / (LEVELS - 1) for level in range(LEVELS))


def _fewer_bits(removed: int) -> tuple[float, ...]:
    return tuple(float(8 - round(removed * level / (LEVELS - 1))) for level in range(LEVELS))


def _space(shear: float, shift: float, degrees: float, enhance: float, bits: int) -> Mapping[str, Operation]:
    """The 14 operations that both policies draw from, with these maximum strengths.

    shift: as a share of the side. enhance: the largest distance of an enhancement factor from 1.
    """

    def move(matrix: Callable[[np.ndarray, int], np.ndarray], limit: float) -> Operation:
        return Operation(geometry.affine, _up_to(limit), signed=True, parameter=matrix)

    def enhancement(apply: Callable[[Tensor, Tensor], Tensor]) -> Operation:
        return Operation(apply, _up_to(enhance), signed=True, parameter=_around_one)

    return {
        "identity": Operation(_unchanged),
        "shear_x": move(geometry.shear_x, shear),
        "shear_y": move(geometry.shear_y, shear),
        "translate_x": move(geometry.translate_x, shift),
        "translate_y": move(geometry.translate_y, shift),
        "rotate": move(geometry.rotate, degrees),
        "brightness": enhancement(colour.brightness),
        "colour": enhancement(colour.colour),
        "contrast": enhancement(colour.contrast),
        "sharpness": enhancement(colour.sharpness),
        "posterize": Operation(colour.posterize, _fewer_bits(bits)),
        "solarize": Operation(colour.solarize, tuple(255.0 - value for value in _up_to(255))),
        "autocontrast": Operation(colour.autocontrast),
        "equalize": Operation(colour.equalize),
    }


WIDE = _space(shear=0.99, shift=1.0, degrees=135.0, enhance=0.99, bits=6)
"""TrivialAugment's wide space (arXiv:2103.10158, table 6): shifts by up to 32 pixels of a 32 px image."""

RAND = _space(shear=0.3, shift=150 / 331, degrees=30.0, enhance=0.9, bits=4)
"""RandAugment's space (arXiv:1909.13719), with its shifts of 150 pixels at 331 px scaled to the image."""


def trivial_augment_wide(images: Tensor, rng: BatchRandom) -> Tensor:
    """Apply to each image one operation of the wide space, both operation and strength drawn uniformly."""
    return _apply(WIDE, images, rng.host_integers(0, len(WIDE)), rng.host_integers(0, LEVELS), rng)


def rand_augment(images: Tensor, operations: int, level: int, rng: BatchRandom) -> Tensor:
    """Apply `operations` random operations in a row to each image, all at strength `level` (0 to 30)."""
    for _ in range(operations):
        images = _apply(RAND, images, rng.host_integers(0, len(RAND)), np.full(len(images), level), rng)
    return images


def _apply(
    space: Mapping[str, Operation], images: Tensor, chosen: np.ndarray, level: np.ndarray, rng: BatchRandom
) -> Tensor:
    """Apply operation `chosen[i]` at `level[i]`, with a random sign, to image i: channels-last."""
    operations = list(space.values())
    magnitude = np.array([operation.magnitudes for operation in operations])[chosen, level]
    signed = np.array([operation.signed for operation in operations])[chosen]
    magnitude = np.where(signed & (rng.host_integers(0, 2) == 1), -magnitude, magnitude)

    # Sort the images by operation, so that each operation has a contiguous piece of the batch.
    order = np.argsort(chosen, kind="stable")
    bounds = np.searchsorted(chosen[order], np.arange(len(operations) + 1))
    magnitude = magnitude[order]
    pieces, parameters = [], []
    for apply, group in groupby(range(len(operations)), key=lambda number: operations[number].apply):
        numbers = list(group)
        piece = slice(bounds[numbers[0]], bounds[numbers[-1] + 1])
        if piece.start < piece.stop:
            parts = ((number, magnitude[bounds[number] : bounds[number + 1]]) for number in numbers)
            parameters.append(np.concatenate([operations[n].parameter(part, images.shape[-1]) for n, part in parts]))
            pieces.append((apply, piece))
    if not pieces:
        return images
    there, back, *shipped = to_device_together([order, np.argsort(order), *parameters], images.device)
    ordered = _rows(images, there)
    results = [apply(ordered[piece], values) for (apply, piece), values in zip(pieces, shipped, strict=True)]
    return _rows(torch.cat(results), back)


def _rows(images: Tensor, index: Tensor) -> Tensor:
    """The images at `index`, int64 (B,), copied as whole channels-last images."""
    return images.permute(0, 2, 3, 1).contiguous().index_select(0, index).permute(0, 3, 1, 2)
