"""A picture file as the network's 32x32 pixels: shared by `--dataset folder` and by prediction."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wrn.errors import DataError

SIDE = 32
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
"""Pillow's names of what is read. No others: some call external programs."""
DRAFT = (4 * SIDE, 4 * SIDE)
"""JPEGs are decoded at no less than this size, which saves most of the time that a photo takes."""


@contextmanager
def large_ones_unremarked() -> Iterator[None]:
    """Within this block Pillow does not warn of large pictures; those of twice the size it refuses all the same.

    To be put around all threads that read: the filters of warnings are those of the whole process, and threads that
    each set and reset them leave them set for good.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_pictures(paths: Sequence[Path]) -> list[Tensor | DataError]:
    """Each of these files as `read_picture` reads it, or what is wrong with it; several at a time."""

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    with large_ones_unremarked(), ThreadPoolExecutor() as pool:
        return list(pool.map(read, paths))


def read_picture(path: Path) -> Tensor:
    """uint8 (3, 32, 32), RGB: turned as its EXIF says, transparency on white, resized without regard to its shape.

    Of a moving picture, the first frame. To be called within `large_ones_unremarked`. Raises DataError, naming the
    file, when it cannot be read as a picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as file:
            file.draft("RGB", DRAFT)
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):
                # 16 bits a pixel (Pillow holds them in 16 or in 32): it would cut them off at 255, not scale them.
                values = np.asarray(picture, dtype=np.float64) / 257
                picture = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
            elif picture.mode == "F":
                raise ValueError("its pixels are floating-point numbers of unknown range")
            if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("RGB")
            if picture.size != (SIDE, SIDE):
                picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; give the path of a picture") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give the pictures in it, as {path}/*.png") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has more pixels than is safe to read; make it smaller") from None
    # Pillow's decoders meet damage with whatever it leads to: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = "no picture of a known format" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise DataError(f"{path}: cannot be read as a picture ({reason}); fix or remove it") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
