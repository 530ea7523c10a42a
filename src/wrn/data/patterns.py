"""Building blocks of the synthetic data set: small grey pictures of shapes and textures, drawn by formulas.

Both are drawn once at 64x64 and then looked up: a shape as its coverage (255 inside, 0 outside, soft edges), a texture
as a grey level that tiles seamlessly in both directions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wrn.data.random import generator

SIDE = 64
"""Pixels along a side of a picture of a shape or a texture."""

VARIANTS = 9
"""Number of variants drawn of each shape: more pointed, with more teeth, with a wider hole, and so on."""

_FINE = 4 * SIDE  # pictures are drawn at this size, without soft edges, and averaged down

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pictures = NDArray[np.uint8]


def _polygon(x: Field, y: Field, *corners: tuple[float, float]) -> Mask:
    """The points inside a closed polygon, by the even-odd rule."""
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 != y1:
            inside ^= ((y < y0) != (y < y1)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _disc(x: Field, y: Field, t: float) -> Mask:
    return (x / 0.9) ** 2 + (y / (0.9 - 0.4 * t)) ** 2 < 1


def _box(x: Field, y: Field, t: float) -> Mask:
    return (abs(x) < 0.8) & (abs(y) < 0.75 - 0.4 * t)


def _triangle(x: Field, y: Field, t: float) -> Mask:
    return _polygon(x, y, (-0.9, -0.6), (0.9, -0.6), (0.7 * t, 0.9 - 0.2 * t))


def _star(x: Field, y: Field, t: float) -> Mask:
    half = np.pi / (4 + round(3 * t))  # the angle from a tip to the notch beside it
    angle = (np.arctan2(x, y) + half) % (2 * half) - half
    tip, notch = 0.95, 0.4
    # The straight line between tip and notch, in polar form.
    edge = tip * notch * np.sin(half) / (tip * np.sin(abs(angle)) + notch * np.sin(half - abs(angle)))
    return np.hypot(x, y) < edge


def _cross(x: Field, y: Field, t: float) -> Mask:
    arm, raised = 0.16 + 0.16 * t, y - 0.3 * t
    return ((abs(x) < arm) | (abs(raised) < arm)) & (abs(x) < 0.75) & (abs(y) < 0.9)


def _ring(x: Field, y: Field, t: float) -> Mask:
    radius = np.hypot(x, y)
    return (radius < 0.92) & (radius > 0.3 + 0.35 * t)


def _crescent(x: Field, y: Field, t: float) -> Mask:
    return (np.hypot(x, y) < 0.92) & (np.hypot(x - 0.35 - 0.3 * t, y) > 0.75)


def _heart(x: Field, y: Field, t: float) -> Mask:
    x, y = x * (1.25 + 0.25 * t), y * 1.2 + 0.1
    return (x**2 + y**2 - 1) ** 3 < x**2 * y**3


def _arrow(x: Field, y: Field, t: float) -> Mask:
    shaft, neck = 0.14 + 0.16 * t, 0.35 - 0.5 * t
    head = _polygon(x, y, (-0.75, neck), (0.75, neck), (0.0, 0.95))
    return head | ((abs(x) < shaft) & (y > -0.9) & (y <= neck))


def _gear(x: Field, y: Field, t: float) -> Mask:
    radius, teeth = np.hypot(x, y), 6 + round(5 * t)
    tooth = np.arctan2(x, y) * teeth / (2 * np.pi) % 1 < 0.5
    return (radius < np.where(tooth, 0.92, 0.68)) & (radius > 0.25)


def _flower(x: Field, y: Field, t: float) -> Mask:
    radius, petals = np.hypot(x, y), 3 + round(4 * t)
    return radius < 0.3 + 0.62 * abs(np.cos(np.arctan2(x, y) * petals / 2))


def _drop(x: Field, y: Field, t: float) -> Mask:
    round_part = np.hypot(x, y + 0.35) < 0.55
    bent = x - 0.35 * t * np.clip(y, 0, 1)
    return round_part | ((abs(bent) < 0.5 * (0.95 - y) / 1.15) & (y > -0.2) & (y < 0.95))


def _hourglass(x: Field, y: Field, t: float) -> Mask:
    return (abs(x) < 0.08 + 0.3 * t + (0.8 - 0.35 * t) * abs(y)) & (abs(y) < 0.9)


def _chevron(x: Field, y: Field, t: float) -> Mask:
    bent = y + (0.5 + 0.6 * t) * abs(x) - 0.3 - 0.2 * t
    return (abs(bent) < 0.32 - 0.08 * t) & (abs(x) < 0.88)


def _comb(x: Field, y: Field, t: float) -> Mask:
    teeth = 3 + round(2 * t)
    tooth = (x + 0.88) / 1.76 * (2 * teeth - 1) % 2 < 1
    return (abs(x) < 0.88) & (abs(y) < 0.8) & ((y > 0.3) | tooth)


def _spiral(x: Field, y: Field, t: float) -> Mask:
    radius, turns = np.hypot(x, y), 1.6 + 0.9 * t
    return (radius < 0.95) & ((radius * turns - np.arctan2(x, y) / (2 * np.pi)) % 1 < 0.55)


def _bolt(x: Field, y: Field, t: float) -> Mask:
    step = 0.1 + 0.3 * t
    return _polygon(
        x, y, (0.3, 0.95), (-0.6, -step), (-0.05, -step), (-0.35, -0.95), (0.6, step), (0.05, step), (0.55, 0.95)
    )


def _fish(x: Field, y: Field, t: float) -> Mask:
    body = ((x - 0.2) / 0.7) ** 2 + (y / (0.3 + 0.25 * t)) ** 2 < 1
    return body | _polygon(x, y, (-0.3, 0.0), (-0.93, 0.5), (-0.75, 0.0), (-0.93, -0.5))


def _house(x: Field, y: Field, t: float) -> Mask:
    eaves = 0.3 - 0.35 * t
    roof = _polygon(x, y, (-0.9, eaves), (0.9, eaves), (0.0, 0.92))
    door = (abs(x - 0.2) < 0.16) & (y < -0.3)
    return roof | ((abs(x) < 0.65) & (y > -0.85) & (y <= eaves) & ~door)


def _dumbbell(x: Field, y: Field, t: float) -> Mask:
    small = 0.42 - 0.16 * t
    ends = (np.hypot(x - 0.5, y) < 0.42) | (np.hypot(x + 0.55, y) < small)
    return ends | ((abs(y) < 0.13) & (abs(x) < 0.6))


SHAPES: dict[str, Callable[[Field, Field, float], Mask]] = {
    "disc": _disc,
    "box": _box,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "gear": _gear,
    "flower": _flower,
    "drop": _drop,
    "hourglass": _hourglass,
    "chevron": _chevron,
    "comb": _comb,
    "spiral": _spiral,
    "bolt": _bolt,
    "fish": _fish,
    "house": _house,
    "dumbbell": _dumbbell,
}
"""For each shape, which points of the square -1..1 (y upwards) belong to it; its variant ranges over 0..1."""


def _wave(phase: Field) -> Field:
    """0..1, with period 1 and flat tops: a clipped sine."""
    return np.clip(0.5 + 0.9 * np.sin(2 * np.pi * phase), 0, 1)


def _bricks(x: Field, y: Field) -> Field:
    row = np.floor(y * 8)
    joint = ((y * 8 % 1) < 0.28) | (((x * 4 + row / 2) % 1) < 0.14)
    return np.where(joint, 0.0, 1.0)


def _scales(x: Field, y: Field) -> Field:
    row = np.floor(y * 8)
    across, down = (x * 5 + (row % 2) / 2) % 1 - 0.5, y * 8 % 1
    return np.clip(1.6 * np.hypot(across * 1.4, down) - 0.45, 0, 1)


TEXTURES: dict[str, Callable[[Field, Field], Field]] = {
    "plain": lambda x, y: 0.5 + 0.08 * np.sin(2 * np.pi * (x + y)),
    "striped": lambda x, y: _wave(8 * y),
    "checked": lambda x, y: np.where((np.floor(10 * x) + np.floor(10 * y)) % 2, 1.0, 0.0),
    "dotted": lambda x, y: np.where(np.hypot(6 * x % 1 - 0.5, 6 * y % 1 - 0.5) < 0.3, 1.0, 0.0),
    "zigzag": lambda x, y: _wave(6 * y + 0.9 * abs(4 * x % 1 - 0.5) * 2),
    "netted": lambda x, y: np.where(np.minimum(8 * x % 1, 8 * y % 1) < 0.28, 1.0, 0.0),
    "bricked": _bricks,
    "scaly": _scales,
}
"""For each texture, the grey level 0..1 over the square 0..1, which tiles. Two more, `speckled` and `marbled`, are
noise."""

TEXTURE_NAMES = (*TEXTURES, "speckled", "marbled")


def _noise(seed: int, cells: int) -> Field:
    """Smooth noise in 0..1 (_FINE, _FINE) that tiles, with `cells` independent values along a side."""
    values = generator(seed, "synthetic-noise", cells).random((cells, cells))
    at = np.arange(_FINE) * cells / _FINE
    low = at.astype(np.int64)
    part = at - low
    part = part * part * (3 - 2 * part)
    for _ in range(2):  # along one side, then along the other
        values = values[low].T * (1 - part) + values[(low + 1) % cells].T * part
    return values


def _shrunk(picture: NDArray[np.float64]) -> Pictures:
    """A (_FINE, _FINE) picture of 0..1 averaged down to (SIDE, SIDE) levels 0..255."""
    step = _FINE // SIDE
    small = picture.reshape(SIDE, step, SIDE, step).mean(axis=(1, 3))
    return np.floor(small * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _softened(pictures: Pictures) -> Pictures:
    """Each pixel replaced by the mean of its 3x3 neighbourhood, so that edges are one pixel wide in the images."""
    wide = np.pad(pictures.astype(np.uint16), ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return ((total + 4) // 9).astype(np.uint8)


def draw_shapes() -> Pictures:
    """Coverage of every shape in every variant, (shapes, VARIANTS, SIDE, SIDE); the outermost pixels are 0."""
    at = (np.arange(_FINE) + 0.5) / _FINE * 2 - 1
    x, y = np.meshgrid(at, -at)
    pictures = np.zeros((len(SHAPES), VARIANTS, SIDE, SIDE), dtype=np.uint8)
    for index, shape in enumerate(SHAPES.values()):
        for variant in range(VARIANTS):
            pictures[index, variant] = _shrunk(shape(x, y, variant / (VARIANTS - 1)).astype(np.float64))
    pictures[..., [0, 1, -2, -1], :] = 0
    pictures[..., [0, 1, -2, -1]] = 0
    return _softened(pictures)


def draw_textures(seed: int) -> Pictures:
    """Grey levels of every texture, (textures, SIDE, SIDE), in the order of TEXTURE_NAMES."""
    at = (np.arange(_FINE) + 0.5) / _FINE
    x, y = np.meshgrid(at, at)
    pictures = [texture(x, y) for texture in TEXTURES.values()]
    coarse, middle, fine = (_noise(seed, cells) for cells in (5, 10, 22))
    pictures.append(np.clip((fine - 0.55) * 5, 0, 1))
    pictures.append(_wave(3 * x.astype(np.float64) + 2.2 * coarse + 0.9 * middle))
    return np.stack([_shrunk(picture) for picture in pictures])
