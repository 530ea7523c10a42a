"""Image files of any size and mode as RGB arrays, and as the network's 32x32 pixels: the only code that opens any."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wrn.data.pixels import orientation, to_rgb, upright, without_text
from wrn.errors import DataError

SIDE = 32
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Pillow's names of the formats that are ever opened: some of the others call external programs."""
MAX_PIXELS = 178_000_000
"""The largest image that is decoded. Pillow itself refuses more than 178,956,970 pixels."""
DRAFT = 4 * SIDE
"""JPEGs are decoded at a reduced size, with no side below this, which saves most of the time for a photo."""
FIRST_LINE_S, NEXT_LINE_S = 2.0, 10.0
"""Seconds of decoding until the first line about its progress, and between later ones."""


class UnreadableFile(DataError):
    """A file that could not be opened or read, or not decoded for want of memory: later it may well be readable."""


@contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Silence Pillow within the block: it warns about large images and about damage that it gets over.

    Must enclose all reading threads: warning filters are global to the process, and threads that each set and reset
    them may leave them set.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_pictures(paths: Sequence[Path], on_message: Callable[[str], None] | None = None) -> list[Tensor | DataError]:
    """Each file as `read_picture` reads it, or its error; several at a time.

    on_message: told every few seconds how many are done.
    """

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    results: list[Tensor | DataError] = []
    due = time.monotonic() + FIRST_LINE_S
    pool = ThreadPoolExecutor()
    with without_pillow_warnings():
        try:
            for result in pool.map(read, paths):
                results.append(result)
                if on_message is not None and time.monotonic() >= due:
                    on_message(f"decoded {len(results):,} of {len(paths):,} images")
                    due = time.monotonic() + NEXT_LINE_S
        finally:  # a signal's exception, for one, does not wait for images that nobody has begun to read
            pool.shutdown(cancel_futures=True)
    return results


def read_picture(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """uint8 (3, 32, 32), RGB, resized ignoring the aspect ratio. The rest is as in `read_image`."""
    return to_network_size(read_image(source, max_pixels=max_pixels, reduced_to=DRAFT))


def to_network_size(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) as uint8 (3, 32, 32): bilinear, each new pixel over all the old ones that it covers."""
    from PIL import Image

    if image.shape[:2] != (SIDE, SIDE):
        image = np.array(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def read_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, reduced_to: int = 0) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), RGB, of a file or of its content: rotated as its EXIF says, transparency on white, more than
    8 bits scaled, of an animation the first frame.

    max_pixels: the largest width times height; checked before anything is decoded.
    reduced_to: if not 0, JPEGs may be decoded at a half, a quarter or an eighth of their size, as long as no side
        becomes shorter than this.

    Call it within `without_pillow_warnings`. Raises UnreadableFile if the file cannot be opened, and DataError if it is
    no image or a larger one; both name the file.
    """
    from PIL import Image, UnidentifiedImageError

    name = os.fspath(source) if isinstance(source, Path) else "image"
    content = _content(source) if isinstance(source, Path) else source
    try:
        with Image.open(io.BytesIO(without_text(content)), formats=FORMATS) as file:
            width, height = file.size
            if width * height > max_pixels:
                raise Image.DecompressionBombError
            if reduced_to:
                file.draft("RGB", (reduced_to, reduced_to))
            file.load()
            return np.array(upright(to_rgb(file), orientation(file)))
    except Image.DecompressionBombError:
        raise DataError(
            f"{name}: has more pixels than is safe to read (over {max_pixels / 1e6:.0f} million); make it smaller"
        ) from None
    except MemoryError:
        raise UnreadableFile(f"{name}: there is not enough memory to read it; make it smaller") from None
    # On damaged files, Pillow's decoders raise anything: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = "not a known image format" if isinstance(error, UnidentifiedImageError) else _reason(error)
        raise DataError(f"{name}: cannot be read as an image ({reason}); fix or remove it") from None


def _content(path: Path) -> bytes:
    """The bytes of a file: read before they are decoded, so that trouble with the disk is not taken for damage."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableFile(f"{path}: there is no such file; give the path of an image") from None
    except IsADirectoryError:
        raise UnreadableFile(f"{path}: is a folder; give the images in it, as {path}/*.png") from None
    except (OSError, ValueError, MemoryError) as error:  # a path with a NUL is a ValueError
        raise UnreadableFile(f"{path}: cannot be opened ({_reason(error)}); fix that") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
