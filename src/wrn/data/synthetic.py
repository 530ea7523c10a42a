"""A data set for machines without one: 100 classes of textured shapes, drawn from a seed.

A superclass is a shape (20 of them); a class is one of five textures on that shape. So classes of a superclass look
alike, and neither shape nor texture alone gives the class away. Position, size, angle, mirroring, colours, lighting,
background, smaller shapes behind and in front, and noise vary between images. Some images of a class have the texture
of another class of the superclass, so 100 % is out of reach.

The bytes are the same on every machine and with any number of threads: besides integers, only single additions,
multiplications, divisions and roundings of floats are used, whose results IEEE 754 prescribes to the last bit.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.random import generator

_PIXELS = 32
_SIDE = 64  # pixels along a side of a picture of a shape or a texture
_CLASSES = 100
_SIBLINGS = 5  # classes per superclass
_CHUNK = 50  # images drawn at a time; of 25, 50 and 100 the fastest, and another number gives other images
_POINT = 16  # coordinates are integers with 16 binary places
_SWAPPED = 0.08  # fraction of images with the texture of a random sibling, possibly their own

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SHAPES = (
    *("disc", "box", "triangle", "star", "cross", "ring", "crescent", "heart", "arrow", "gear"),
    *("drop", "hourglass", "chevron", "comb", "hook", "bolt", "fish", "house", "dumbbell", "key"),
)
_SHAPES = """
..####.. ........ ...##... ...##... ...##... ..####.. ..####.. .##..##. ...##... #..##..#
.######. ######## ...##... ...##... ...##... .######. .####... ######## ..####.. .######.
######## ######## ..####.. ######## ...##... ##....## ####.... ######## .######. .######.
######## ######## ..####.. .######. ######## ##....## ###..... ######## ######## ###..###
######## ######## .######. ..####.. ######## ##....## ###..... .######. ...##... ###..###
######## ######## .######. .######. ...##... ##....## ####.... .######. ...##... .######.
.######. ######## ######## .##..##. ...##... .######. .####... ..####.. ...##... .######.
..####.. ........ ######## ##....## ...##... ..####.. ..####.. ...##... ...##... #..##..#

....#... ######## ........ ##.##.## ..####.. ...####. ........ ...##... ###..... .####...
....##.. ######## ##....## ##.##.## .##..##. ..####.. ...###.. ..####.. ###..... ##..##..
...###.. .######. ###..### ##.##.## ##....## .####... #.#####. .######. ###..... ##..##..
..#####. ..####.. ######## ##.##.## ##....## .######. ######## ######## ..##.... .####...
.######. ..####.. .######. ######## ......## ...###.. ######## .######. ...##... ..##....
.######. .######. ..####.. ######## ......## ..###... #.#####. .##..##. ....#### ..#####.
.######. ######## ...##... ######## ....###. .###.... ...###.. .##..##. ....#### ..##....
..####.. ######## ........ ######## ....##.. .#...... ........ .##..##. ....#### ..####..
"""

TEXTURES = ("plain", "striped", "checked", "dotted", "zigzag", "netted", "bricked", "ringed", "crossed", "speckled")
_TEXTURES = """
........ ........ ####.... ........ #...#... ##..##.. ######## ........ ...##... #.....#.
........ ........ ####.... .##..##. ##..##.. ######## ...#.... .######. ...##... ...#....
........ ######## ####.... .##..##. .##..##. ##..##.. ...#.... .#....#. ...##... ......#.
........ ######## ####.... ........ ..##..## ##..##.. ...#.... .#....#. ######## .#......
........ ........ ....#### ........ ..#...#. ##..##.. ######## .#....#. ######## ....#..#
........ ........ ....#### .##..##. ##..##.. ######## .......# .#....#. ...##... ..#.....
........ ######## ....#### .##..##. .##..##. ##..##.. .......# .######. ...##... ......#.
........ ######## ....#### ........ #...#... ##..##.. .......# ........ ...##... .#..#...
"""


def texture_of(superclass: int, sibling: int) -> int:
    """The texture of a class: five of the ten for each shape, ten shapes for each texture."""
    stride = 1 if superclass % 2 == 0 else 3
    return (superclass + stride * sibling) % len(TEXTURES)


def class_names() -> tuple[str, ...]:
    """`texture-shape` by label; label // 5 is the superclass."""
    labels = [divmod(label, _SIBLINGS) for label in range(_CLASSES)]
    return tuple(f"{TEXTURES[texture_of(superclass, sibling)]}-{SHAPES[superclass]}" for superclass, sibling in labels)


@cache
def pictures(*, textures: bool) -> Floats:
    """The drawings enlarged with soft edges, 0..1, float32 (N, 64, 64): textures tile, shapes have an empty margin."""
    rows = np.array([list(row) for row in (_TEXTURES if textures else _SHAPES).split()]) == "#"
    small = rows.reshape(-1, 8, 10, 8).swapaxes(1, 2).reshape(-1, 8, 8)  # ten drawings of 8x8 stand side by side
    scale = 8 if textures else 6
    margin = (_SIDE - 8 * scale) // 2
    large = np.kron(small.astype(np.int64), np.ones((scale, scale), dtype=np.int64))
    large = np.pad(large, ((0, 0), (margin, margin), (margin, margin)))
    for axis in (1, 1, 2, 2):  # twice the sum of 5 neighbours along each side
        large = np.sum([np.roll(large, shift, axis) for shift in range(-2, 3)], axis=0)
    return (large / 5**4).astype(np.float32)


def _uniform(random: np.random.Generator, low: float, high: float, *shape: int) -> Doubles:
    """Like random.uniform, which some compilers turn into a fused operation with other last bits."""
    return random.random(shape) * (high - low) + low


def _coins(random: np.random.Generator, count: int) -> Doubles:
    """-1 or 1."""
    return np.where(random.random(count) < 0.5, -1.0, 1.0)


def _look_up(random: np.random.Generator, which: Integers, step: Doubles, centre: Doubles, *, textures: bool) -> Floats:
    """The pictures `which` (N,) of shapes or textures, float32 (N, 32, 32).

    Each is turned by up to 28 degrees, mirrored and stretched at random; textures repeat beyond their edges.
    step: (N,), picture pixels per image pixel. centre: (2, N), where its middle is, in pixels from that of the image.
    """
    count = len(which)
    half = _uniform(random, -0.25, 0.25, count)  # the tangent of half the angle
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    across = step * _coins(random, count) * _uniform(random, 0.85, 1.15, count)
    down = step * _uniform(random, 0.85, 1.15, count)
    at = np.arange(_PIXELS, dtype=np.int32)
    places = []
    for a, b in ((cosine * across, sine * across), (-sine * down, cosine * down)):
        start = _SIDE / 2 - a * (centre[0] + (_PIXELS - 1) / 2) - b * (centre[1] + (_PIXELS - 1) / 2)
        a, b, start = (np.rint(value * 2**_POINT).astype(np.int32)[:, None] for value in (a, b, start))
        place = (b * at + start)[:, :, None] + (a * at)[:, None, :]
        place >>= _POINT
        places.append(place & (_SIDE - 1) if textures else place.clip(0, _SIDE - 1))
    column, row = places
    row *= _SIDE
    row += column + (which.astype(np.int32) * _SIDE**2)[:, None, None]
    return pictures(textures=textures).reshape(-1).take(row)


def _paint(random: np.random.Generator, texture: Integers, contrast: tuple[float, float]) -> Floats:
    """The textures in two random colours over whole images, float32 (N, 3, 32, 32) of levels around 0..255."""
    count = len(texture)
    step, centre = _uniform(random, 4, 6.4, count), _uniform(random, -16, 16, 2, count)
    level = _look_up(random, texture, step, centre, textures=True)
    first = _uniform(random, 40, 215, count, 3)
    apart = (_uniform(random, *contrast, count) * _coins(random, count))[:, None] + _uniform(random, -30, 30, count, 3)
    return level[:, None] * apart.astype(np.float32)[:, :, None, None] + first.astype(np.float32)[:, :, None, None]


def _draw(random: np.random.Generator, label: int, count: int) -> NDArray[np.uint8]:
    """Images of one class, uint8 (count, 3, 32, 32): a background, a shape, the class's shape, and another shape."""
    superclass, sibling = divmod(label, _SIBLINGS)
    worn = np.where(random.random(count) < _SWAPPED, random.integers(_SIBLINGS, size=count), sibling)
    own = np.array([texture_of(superclass, other) for other in range(_SIBLINGS)])[worn]
    canvas = _paint(random, random.integers(len(TEXTURES), size=count), (5, 50))
    for subject in (False, True, False):
        size = _uniform(random, 24, 38, count) if subject else _uniform(random, 8, 18, count)
        reach = (38 - size) * 0.4 + 2 if subject else 16.0
        shape = np.full(count, superclass) if subject else random.integers(len(SHAPES), size=count)
        texture = own if subject else random.integers(len(TEXTURES), size=count)
        mask = _look_up(random, shape, _SIDE / size, _uniform(random, -1, 1, 2, count) * reach, textures=False)
        paint = _paint(random, texture, (60, 150))
        paint -= canvas
        canvas += paint * mask[:, None]
    gain = _uniform(random, 0.65, 1.25, count, 1, 1, 1).astype(np.float32)
    noise = _uniform(random, 0.2, 1.4, count, 1, 1, 1).astype(np.float32)
    dice = random.integers(0, 256, canvas.shape, dtype=np.uint8)  # two 4-bit numbers each: a deviation of 6.5 levels
    canvas *= gain
    canvas += (((dice & 15) + (dice >> 4)).astype(np.float32) - 15) * noise
    return canvas.clip(0, 255, out=canvas).astype(np.uint8)


def _draw_split(seed: int, split: str, per_class: int) -> Split:
    """`per_class` images of each class in a random but fixed order."""
    places = generator(seed, f"synthetic-order-{split}").permutation(_CLASSES * per_class).reshape(_CLASSES, per_class)
    images = np.empty((_CLASSES * per_class, 3, _PIXELS, _PIXELS), dtype=np.uint8)
    labels = np.empty(_CLASSES * per_class, dtype=np.int64)
    for label in range(_CLASSES):
        random = generator(seed, f"synthetic-{split}", label)
        labels[places[label]] = label
        for start in range(0, per_class, _CHUNK):
            chunk = places[label, start : start + _CHUNK]
            images[chunk] = _draw(random, label, len(chunk))
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def make_synthetic(seed: int = 0, *, train_per_class: int = 500, test_per_class: int = 100) -> Dataset:
    """The synthetic data set of a seed: 100 balanced classes, 5 in each of 20 superclasses.

    A smaller set is not a subset of a larger one; it has other images of the same classes.
    """
    train = _draw_split(seed, "train", train_per_class)
    test = _draw_split(seed, "test", test_per_class)
    mean, std = channel_statistics(train.images)
    return Dataset(
        name="synthetic",
        origin=f"drawn from seed {seed}",
        train=train,
        test=test,
        classes=class_names(),
        superclasses=SHAPES,
        superclass_of=tuple(label // _SIBLINGS for label in range(_CLASSES)),
        mean=mean,
        std=std,
    )
