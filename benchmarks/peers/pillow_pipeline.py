"""The peer of the batch path: a DataLoader that augments image by image, with Pillow and with NumPy.

What a competent user writes: uint8 images in memory, one `Image` per item, Pillow's own C code for every operation.
Where NumPy is quicker than Pillow (crop, flip, cutout), there is a NumPy version too, and a benchmark takes the
faster of the two. It shares no code with the `wrn` package.
"""

import math
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.utils.data import DataLoader, Dataset, default_collate

MEAN = np.array([0.5071, 0.4865, 0.4409], dtype=np.float32)
STD = np.array([0.2673, 0.2564, 0.2762], dtype=np.float32)
SIDE, PADDING, HOLE = 32, 4, 8
REFLECTED = np.pad(np.arange(SIDE), PADDING, mode="reflect")


def crop_and_flip_pillow(image):
    """A window of the image padded by black (Pillow cannot reflect), mirrored half of the time."""
    left, top = random.randint(0, 2 * PADDING), random.randint(0, 2 * PADDING)
    image = ImageOps.expand(image, border=PADDING).crop((left, top, left + SIDE, top + SIDE))
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def crop_and_flip_numpy(image):
    """A window of the image padded by reflection, mirrored half of the time: (32, 32, 3) bytes."""
    left, top = random.randint(0, 2 * PADDING), random.randint(0, 2 * PADDING)
    image = image[REFLECTED[top : top + SIDE]][:, REFLECTED[left : left + SIDE]]
    return image[:, ::-1] if random.random() < 0.5 else image


def finish(image, hole, erasing):
    """Scaled and normalised, as a (3, 32, 32) tensor.

    A square of `hole` pixels is blanked if it is not 0; with chance `erasing` a rectangle is filled with noise.
    """
    array = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
    if hole:
        y, x = random.randrange(SIDE), random.randrange(SIDE)
        array[max(0, y - hole // 2) : y + hole // 2, max(0, x - hole // 2) : x + hole // 2] = 0
    if random.random() < erasing:
        area, ratio = random.uniform(0.02, 0.33) * SIDE**2, math.exp(random.uniform(math.log(0.3), -math.log(0.3)))
        height, width = (min(SIDE, max(1, round(side))) for side in (math.sqrt(area * ratio), math.sqrt(area / ratio)))
        y, x = random.randint(0, SIDE - height), random.randint(0, SIDE - width)
        array[y : y + height, x : x + width] = np.random.standard_normal((height, width, 3))
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def mixup(items, alpha=0.2):
    """A batch with each image mixed with another, one weight for all of them, as the paper's code does."""
    images, labels = default_collate(items)
    other, weight = torch.randperm(len(images)), np.random.beta(alpha, alpha)
    return weight * images + (1 - weight) * images[other], labels, labels[other], weight


def cutmix(items, alpha=1.0):
    """A batch with one window of each image from another image, the same window for all, as the paper's code does."""
    images, labels = default_collate(items)
    other, weight = torch.randperm(len(images)), np.random.beta(alpha, alpha)
    half = int(SIDE * math.sqrt(1 - weight)) // 2
    y, x = random.randrange(SIDE), random.randrange(SIDE)
    rows, columns = slice(max(0, y - half), y + half), slice(max(0, x - half), x + half)
    images[:, :, rows, columns] = images[other][:, :, rows, columns]
    return images, labels, labels[other], weight


def _affine(matrix):
    return lambda image, level: image.transform(image.size, Image.Transform.AFFINE, matrix(level))


def _enhance(kind):
    return lambda image, level: kind(image).enhance(0.01 + 1.99 * level / 30)


def _signed(limit):
    """A magnitude of up to `limit`, of either sign."""
    return lambda level: random.choice((-1, 1)) * level * limit / 30


_shear, _shift, _angle = _signed(0.99), _signed(32), _signed(135)
WIDE = (
    lambda image, level: image,
    lambda image, level: ImageOps.autocontrast(image),
    lambda image, level: ImageOps.equalize(image),
    lambda image, level: image.rotate(int(_angle(level))),
    lambda image, level: ImageOps.solarize(image, 256 - int(256 * level / 30)),
    lambda image, level: ImageOps.posterize(image, 8 - int(6 * level / 30)),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
    _affine(lambda level: (1, _shear(level), 0, 0, 1, 0)),
    _affine(lambda level: (1, 0, 0, _shear(level), 1, 0)),
    _affine(lambda level: (1, 0, int(_shift(level)), 0, 1, 0)),
    _affine(lambda level: (1, 0, 0, 0, 1, int(_shift(level)))),
)
"""TrivialAugment's wide space, on a Pillow image at a level of 0 to 30."""


def trivial_augment(image):
    return random.choice(WIDE)(image, random.randint(0, 30))


def rand_augment(image, operations=2, level=14):
    """Two operations at one level. Of the wide space: what an operation costs does not depend on its strength."""
    for operation in random.choices(WIDE, k=operations):
        image = operation(image, level)
    return image


class Pillow(Dataset):
    """Crop and flip, a policy (a function of a Pillow image, or None), cutout and erasing, by Pillow."""

    def __init__(self, images, labels, policy=None, crop=True, hole=0, erasing=0.0):
        self.images, self.labels, self.policy, self.crop = images, labels, policy, crop
        self.hole, self.erasing = hole, erasing

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        if self.crop:
            image = crop_and_flip_pillow(image)
        if self.policy is not None:
            image = self.policy(image)
        return finish(image, self.hole, self.erasing), self.labels[index]


class NumPy(Pillow):
    """The same; crop and flip by NumPy, and Pillow only where there is a policy."""

    def __getitem__(self, index):
        image = self.images[index]
        if self.crop:
            image = crop_and_flip_numpy(image)
        if self.policy is not None:
            image = self.policy(Image.fromarray(np.ascontiguousarray(image)))
        return finish(image, self.hole, self.erasing), self.labels[index]


def make_loader(dataset, batch_size, collate=None):
    """In this process: one core, and nothing lost between processes."""
    keys = {"shuffle": True, "drop_last": True, "num_workers": 0}
    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate, **keys)
