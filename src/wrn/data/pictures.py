"""Reads an image file as the network's 32x32 pixels, for `--dataset folder` and prediction."""

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
"""Pillow's names of the accepted formats. No others, as some call external programs."""
DRAFT = (4 * SIDE, 4 * SIDE)
"""JPEGs are decoded at a reduced size of at least this, which saves most of the time for a photo."""


@contextmanager
def without_size_warning() -> Iterator[None]:
    """Silence Pillow's warning about large images within the block; it still refuses those of twice the size.

    Must enclose all reading threads: warning filters are global to the process, and threads that each set and reset
    them may leave them set.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_pictures(paths: Sequence[Path]) -> list[Tensor | DataError]:
    """Each file as `read_picture` reads it, or its error; several at a time."""

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    with without_size_warning(), ThreadPoolExecutor() as pool:
        return list(pool.map(read, paths))


def read_picture(path: Path) -> Tensor:
    """uint8 (3, 32, 32), RGB: rotated as its EXIF says, transparency on white, resized ignoring the aspect ratio.

    Uses the first frame of an animation. Call it within `without_size_warning`. Raises DataError, naming the file, if
    it cannot be read as an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as file:
            file.draft("RGB", DRAFT)
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):
                # 16 bits per pixel (which Pillow keeps in 16 or 32): it would clip them at 255 instead of scaling.
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
        raise DataError(f"{path}: there is no such file; give the path of an image") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give the images in it, as {path}/*.png") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has more pixels than is safe to read; make it smaller") from None
    # On damaged files, Pillow's decoders raise anything: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = "not a known image format" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise DataError(f"{path}: cannot be read as an image ({reason}); fix or remove it") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
