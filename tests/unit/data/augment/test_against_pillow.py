"""Each operation agrees with Pillow's within one grey level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from wrn.data.augment import colour, geometry


def samples(side: int = 32) -> torch.Tensor:
    """Noise, gradients, few levels and constants: uint8 (6, 3, side, side)."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, side)
    gradient = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (side, 1)), np.tile(ramp[::-1, None], (1, side))])
    smooth = 60 + 0.5 * gradient + rng.normal(0, 4, (3, side, side))
    images = [
        rng.integers(0, 256, (3, side, side)),
        gradient,
        smooth.clip(0, 255),
        rng.integers(100, 104, (3, side, side)),
        np.full((3, side, side), 77),
        np.where(rng.random((3, side, side)) < 0.01, 255, 0),
    ]
    return torch.from_numpy(np.stack(images).astype(np.uint8)).contiguous(memory_format=torch.channels_last)


def as_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def check(
    ours: torch.Tensor, images: torch.Tensor, pillow: Callable[[Image.Image], Image.Image], within: int = 1
) -> None:
    theirs = torch.stack([torch.from_numpy(np.array(pillow(as_pillow(i)))).permute(2, 0, 1) for i in images])
    assert ours.dtype is torch.uint8
    assert (ours.int() - theirs.int()).abs().max().item() <= within


def moved(matrix: Callable[[np.ndarray, int], np.ndarray], value: float, images: torch.Tensor) -> torch.Tensor:
    fixed = matrix(np.full(len(images), value), images.shape[-1])
    return geometry.affine(images, torch.from_numpy(fixed))


def each(value: float, images: torch.Tensor) -> torch.Tensor:
    return torch.full((len(images),), value, dtype=torch.float64)


FACTORS = st.floats(0.0, 2.0)


@settings(max_examples=25, deadline=None)
@given(FACTORS)
def test_enhancements(factor: float) -> None:
    images = samples()
    for ours, theirs in (
        (colour.brightness, ImageEnhance.Brightness),
        (colour.colour, ImageEnhance.Color),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.sharpness, ImageEnhance.Sharpness),
    ):
        check(ours(images, each(factor, images)), images, lambda p, e=theirs: e(p).enhance(factor))  # type: ignore[misc]


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(bits: int) -> None:
    images = samples()
    result = colour.posterize(images, torch.full((len(images),), bits))
    check(result, images, lambda p: ImageOps.posterize(p, bits), within=0)


@pytest.mark.parametrize("threshold", [0, 1, 64, 127.5, 128, 255, 256])
def test_solarize(threshold: float) -> None:
    images = samples()
    check(colour.solarize(images, each(threshold, images)), images, lambda p: ImageOps.solarize(p, threshold), within=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [32, 20, 16])
def test_autocontrast_and_equalize(side: int) -> None:
    images = samples(side)
    check(colour.autocontrast(images), images, ImageOps.autocontrast)
    check(colour.equalize(images), images, ImageOps.equalize)


def test_grey() -> None:
    images = samples()
    theirs = np.stack([np.array(as_pillow(image).convert("L")) for image in images])
    assert np.array_equal(colour.luma(images)[:, 0].numpy(), theirs)


@pytest.mark.parametrize("side", [32, 20])
@settings(max_examples=30, deadline=None)
@given(value=st.floats(-0.99, 0.99))
def test_shear(side: int, value: float) -> None:
    images = samples(side)
    size = (side, side)
    for ours, matrix in (
        (geometry.shear_x, (1, value, 0, 0, 1, 0)),
        (geometry.shear_y, (1, 0, 0, value, 1, 0)),
    ):
        check(
            moved(ours, value, images),
            images,
            lambda p, m=matrix: p.transform(size, Image.Transform.AFFINE, m, Image.Resampling.NEAREST),  # type: ignore[misc]
            within=0,
        )


@pytest.mark.parametrize("pixels", [-32, -31, -5, 0, 1, 16, 32])
def test_translate(pixels: int) -> None:
    images = samples()
    for ours, matrix in (
        (geometry.translate_x, (1, 0, pixels, 0, 1, 0)),
        (geometry.translate_y, (1, 0, 0, 0, 1, pixels)),
    ):
        check(
            moved(ours, pixels / 32, images),
            images,
            lambda p, m=matrix: p.transform((32, 32), Image.Transform.AFFINE, m, Image.Resampling.NEAREST),  # type: ignore[misc]
            within=0,
        )


@pytest.mark.parametrize("side", [32, 20])
@settings(max_examples=40, deadline=None)
@given(degrees=st.one_of(st.floats(-135, 135), st.sampled_from([0.0, 45.0, 90.0, -90.0, 135.0])))
def test_rotate(side: int, degrees: float) -> None:
    images = samples(side)
    check(moved(geometry.rotate, degrees, images), images, lambda p: p.rotate(degrees), within=0)
