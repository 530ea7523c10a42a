"""A data set for machines without one: 100 classes of textured shapes, drawn by formulas from a seed.

It imitates what makes CIFAR-100 hard rather than how it looks. The superclass is a shape (20 of them); a class is one
of five textures on that shape, with a tendency towards some of its variants; colour is a weak hint at the superclass.
Position, size, angle, mirroring, colours, lighting, background, smaller distractors behind and in front, and noise vary
between images, and some images of a class have the texture of a sibling class, so 100 % is out of reach.

Everything is drawn from counter-based random numbers with integer and elementwise arithmetic, so a seed always gives
the same bytes, with any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.patterns import SHAPES, SIDE, TEXTURE_NAMES, VARIANTS, draw_shapes, draw_textures
from wrn.data.random import generator

_PIXELS = 32
_SIBLINGS = 5  # classes per superclass
_CHUNK = 64  # images drawn at a time, so that their planes stay in the processor's cache (of 16 to 500, 64 was fastest)
_POINT = 16  # coordinates are integers with 16 binary places
_SWAPPED = 0.08  # fraction of images with the texture of a random sibling, possibly their own
_COLOURED = 0.7  # fraction of images whose hue leans towards that of the superclass
_COVERED = 0.4  # fraction of images with a shape in front

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]


def texture_of(superclass: int, sibling: int) -> int:
    """The texture of a class: five of the ten for each shape, ten shapes for each texture."""
    stride = 1 if superclass % 2 == 0 else 3
    return (superclass + stride * sibling) % len(TEXTURE_NAMES)


def class_names() -> tuple[str, ...]:
    """`texture-shape` by label; label // 5 is the superclass."""
    shapes = tuple(SHAPES)
    return tuple(
        f"{TEXTURE_NAMES[texture_of(superclass, sibling)]}-{shapes[superclass]}"
        for superclass in range(len(shapes))
        for sibling in range(_SIBLINGS)
    )


@dataclass(frozen=True)
class _Layer:
    """One textured shape per image, ready for lookup.

    shape, texture: int32 (N,), indices of pictures.
    place, weave: int32 (N, 6), where a pixel falls in the shape's and the texture's picture (see `_placement`).
    colours: float32 (N, 2, 3), 0..255, at texture level 0 and 1.
    """

    shape: Integers
    texture: Integers
    place: Integers
    weave: Integers
    colours: Floats

    def rows(self, rows: slice) -> _Layer:
        return _Layer(self.shape[rows], self.texture[rows], self.place[rows], self.weave[rows], self.colours[rows])


def _placement(
    angle: NDArray[np.float64],
    step: NDArray[np.float64],
    *,
    centre: NDArray[np.float64],
    mirrored: NDArray[np.bool_],
) -> Integers:
    """Affine maps from pixels to pictures, int32 (N, 6), in fixed point: u = a x + b y + c, v = d x + e y + f.

    angle: radians. step: picture pixels per image pixel. centre: (N, 2), the image pixel that shows the middle of the
    picture, relative to the middle of the image.
    """
    sign = np.where(mirrored, -1.0, 1.0)
    cosine, sine = np.cos(angle) * step, np.sin(angle) * step
    a, b, d, e = cosine * sign, sine * sign, -sine, cosine
    middle = SIDE / 2
    # Pixel i of the image is at i - 15.5 from its middle.
    x, y = centre[:, 0] + (_PIXELS - 1) / 2, centre[:, 1] + (_PIXELS - 1) / 2
    maps = np.stack([a, b, middle - a * x - b * y, d, e, middle - d * x - e * y], axis=1)
    return np.rint(maps * 2**_POINT).astype(np.int32)


def _look_up(pictures: Floats, which: Integers, maps: Integers, *, repeat: bool) -> Floats:
    """float32 (N, 32, 32): the pictures sampled through the maps; beyond its edge a picture repeats or is 0."""
    at = np.arange(_PIXELS, dtype=np.int32)
    grid = []
    for first in (0, 3):
        across = maps[:, first, None] * at
        down = maps[:, first + 1, None] * at + maps[:, first + 2, None]
        place = down[:, :, None] + across[:, None, :]
        place >>= _POINT
        if repeat:
            place &= SIDE - 1
        else:
            np.clip(place, 0, SIDE - 1, out=place)  # the edge of a shape's picture is 0
        grid.append(place)
    column, row = grid
    row *= SIDE
    row += column
    row += (which * (SIDE * SIDE))[:, None, None]
    return pictures.reshape(-1).take(row)


def _colours(random: np.random.Generator, hue: NDArray[np.float64], contrast: tuple[float, float]) -> Floats:
    """Two colours of similar hue for each image, float32 (N, 2, 3), their lightness `contrast` levels apart."""
    count = len(hue)
    lightness = random.uniform(60, 195, count)
    apart = random.uniform(*contrast, count) / 2 * random.choice([-1, 1], count)
    levels = np.stack([lightness - apart, lightness + apart], axis=1)
    hues = np.stack([hue, hue + random.normal(0, 0.7, count)], axis=1)
    thirds = np.array([0, 2, 4]) * np.pi / 3
    strength = random.uniform(5, 65, (count, 2))
    colours = levels[:, :, None] + strength[:, :, None] * np.cos(hues[:, :, None] - thirds)
    return np.rint(colours.clip(0, 255)).astype(np.float32)


def _textured_shapes(
    random: np.random.Generator,
    *,
    shape: NDArray[np.int64],
    texture: NDArray[np.int64],
    size: NDArray[np.float64],
    centre: NDArray[np.float64],
    hue: NDArray[np.float64],
    contrast: tuple[float, float] = (40, 130),
) -> _Layer:
    """A layer with random angles, mirroring, texture scale and colours. size: pixels across; centre: pixels."""
    count = len(shape)
    coins = random.random((2, count)) < 0.5
    return _Layer(
        shape=shape.astype(np.int32),
        texture=texture.astype(np.int32),
        place=_placement(random.uniform(-0.6, 0.6, count), SIDE / size, centre=centre, mirrored=coins[0]),
        weave=_placement(
            random.uniform(0, 2 * np.pi, count),
            random.uniform(1.2, 2.0, count),
            centre=random.uniform(-16, 16, (count, 2)),
            mirrored=coins[1],
        ),
        colours=_colours(random, hue, contrast),
    )


def _anything(
    random: np.random.Generator,
    size: NDArray[np.float64],
    centre: NDArray[np.float64],
    contrast: tuple[float, float] = (40, 130),
) -> _Layer:
    """A layer of shapes and textures unrelated to the class."""
    count = len(size)
    return _textured_shapes(
        random,
        shape=random.integers(len(SHAPES) * VARIANTS, size=count),
        texture=random.integers(len(TEXTURE_NAMES), size=count),
        size=size,
        centre=centre,
        hue=random.uniform(0, 2 * np.pi, count),
        contrast=contrast,
    )


def _subject(random: np.random.Generator, label: int, size: NDArray[np.float64], centre: NDArray[np.float64]) -> _Layer:
    """The subjects of the images. They alone depend on the class; everything else distracts from it."""
    count = len(size)
    superclass, sibling = divmod(label, _SIBLINGS)
    variant = 2 * sibling + random.integers(-2, 3, count)
    worn = np.where(random.random(count) < _SWAPPED, random.integers(_SIBLINGS, size=count), sibling)
    textures = np.array([texture_of(superclass, other) for other in range(_SIBLINGS)])
    leaning = superclass * 2 * np.pi / len(SHAPES) + random.normal(0, 0.6, count)
    free = random.uniform(0, 2 * np.pi, count)
    return _textured_shapes(
        random,
        shape=superclass * VARIANTS + variant.clip(0, VARIANTS - 1),
        texture=textures[worn],
        size=size,
        centre=centre,
        hue=np.where(random.random(count) < _COLOURED, leaning, free),
    )


def _around(
    random: np.random.Generator, centre: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points (N, 2) at a distance in pixels from `centre`, in random directions."""
    angle = random.uniform(0, 2 * np.pi, len(centre))
    return centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_class(
    random: np.random.Generator, label: int, count: int, shapes: Floats, textures: Floats
) -> NDArray[np.uint8]:
    """`count` images of one class, uint8 (count, 3, 32, 32)."""
    size = random.uniform(16, 31, count)
    centre = random.uniform(-1, 1, (count, 2)) * (2 + 0.45 * (_PIXELS - size))[:, None]
    ground = _anything(random, size, centre, contrast=(5, 55))
    behind = _anything(
        random, size * random.uniform(0.3, 0.55, count), _around(random, centre, size * random.uniform(0.4, 0.9, count))
    )
    subject = _subject(random, label, size, centre)
    covered = np.where(random.random(count) < _COVERED, random.uniform(0.3, 0.6, count), 3.0) * size
    front = _anything(random, size * random.uniform(0.25, 0.5, count), _around(random, centre, covered))
    light = random.uniform(-0.022, 0.022, (count, 2)).astype(np.float32)  # relative gain per pixel from the middle
    gain = random.uniform(0.65, 1.25, count).astype(np.float32)
    noise = random.uniform(0.2, 1.4, count).astype(np.float32)
    images = np.empty((count, 3, _PIXELS, _PIXELS), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        canvas = _paint(ground.rows(rows), textures)
        for layer in (behind.rows(rows), subject.rows(rows), front.rows(rows)):
            paint = _paint(layer, textures)
            paint -= canvas
            paint *= _look_up(shapes, layer.shape, layer.place, repeat=False)[:, None]
            canvas += paint
        at = np.arange(_PIXELS, dtype=np.float32) - np.float32((_PIXELS - 1) / 2)
        slope = 1 + light[rows, 0, None, None] * at + light[rows, 1, None, None] * at[:, None]
        canvas *= (slope * gain[rows, None, None])[:, None]
        canvas += _noise(random, canvas.shape) * noise[rows, None, None, None]
        images[rows] = np.clip(canvas, 0, 255, out=canvas)
    return images


def _paint(layer: _Layer, textures: Floats) -> Floats:
    """The layer's texture in its colours over the whole image, float32 (N, 3, 32, 32)."""
    level = _look_up(textures, layer.texture, layer.weave, repeat=True)
    first, second = layer.colours[:, 0, :, None, None], layer.colours[:, 1, :, None, None]
    paint = (second - first) * level[:, None]
    paint += first
    return paint


def _noise(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of levels -15..15 with standard deviation 6.5: the sum of two 4-bit numbers, from one random byte."""
    dice = random.integers(0, 256, shape, dtype=np.uint8)
    return ((dice & 15) + (dice >> 4)).astype(np.float32) - 15


def _draw_split(seed: int, split: str, per_class: int, shapes: Floats, textures: Floats) -> Split:
    """`per_class` images of each class in a random but fixed order."""
    classes = len(SHAPES) * _SIBLINGS
    places = generator(seed, f"synthetic-order-{split}").permutation(classes * per_class).reshape(classes, per_class)
    images = np.empty((classes * per_class, 3, _PIXELS, _PIXELS), dtype=np.uint8)
    labels = np.empty(classes * per_class, dtype=np.int64)
    for label in range(classes):
        random = generator(seed, f"synthetic-{split}", label)
        images[places[label]] = _draw_class(random, label, per_class, shapes, textures)
        labels[places[label]] = label
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def make_synthetic(seed: int = 0, *, train_per_class: int = 500, test_per_class: int = 100) -> Dataset:
    """The synthetic data set of a seed: 100 balanced classes, 5 in each of 20 superclasses.

    A smaller set is not a subset of a larger one; it has other images of the same classes.
    """
    shapes = draw_shapes().astype(np.float32) / np.float32(255)
    textures = draw_textures(seed).astype(np.float32) / np.float32(255)
    train = _draw_split(seed, "train", train_per_class, shapes, textures)
    test = _draw_split(seed, "test", test_per_class, shapes, textures)
    mean, std = channel_statistics(train.images)
    return Dataset(
        name="synthetic",
        origin=f"drawn from seed {seed}",
        train=train,
        test=test,
        classes=class_names(),
        superclasses=tuple(SHAPES),
        superclass_of=tuple(label // _SIBLINGS for label in range(len(SHAPES) * _SIBLINGS)),
        mean=mean,
        std=std,
    )
