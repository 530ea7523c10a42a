"""What Pillow has opened, as upright 8-bit RGB pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS, PROFILE = (b"tEXt", b"zTXt", b"iTXt"), b"iCCP"
ROTATING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Keywords of the texts that may say how an image is rotated, where there is no eXIf chunk."""
ORIENTATION, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 0x0112, 258, 262, 339
"""Tags of EXIF and of TIFF, which are the same."""
UNSIGNED, WHITE_IS_ZERO = 1, 0
DEPTHS = range(8, 34, 2)
"""Bits that a sensor or a program may give a pixel."""


def without_text(content: bytes) -> bytes:
    """A PNG without its texts and colour profile: nothing needs them, and Pillow refuses images with long ones.

    Kept is a text that may say how the image is rotated. Any other content is returned as it is.
    """
    if not content.startswith(PNG):
        return content
    return b"".join(_needed_chunks(content))


def _needed_chunks(png: bytes) -> Iterator[bytes]:
    yield PNG
    start = len(PNG)
    while start < len(png):
        kind, data = png[start + 4 : start + 8], start + 8
        end = data + int.from_bytes(png[start : start + 4], "big") + 4  # the checksum
        if not (kind == PROFILE or (kind in TEXTS and not png.startswith(ROTATING, data))):
            yield png[start:end]
        start = end


def orientation(picture: Image.Image) -> int:
    """How a loaded image is rotated and mirrored, 1 to 8 as in EXIF. Only that one tag is read: others may be nonsense.

    A TIFF is upright already: Pillow sees to that when loading it.
    """
    try:
        value: Any = picture.getexif().get(ORIENTATION)
    except Exception:  # on damaged EXIF, Pillow raises anything; the pixels are good without
        return 1
    return int(value) if value in range(1, 9) else 1


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    from PIL import Image

    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return picture if method is None else picture.transpose(method)


def to_rgb(picture: Image.Image) -> Image.Image:
    """8 bits per channel, and white where it is transparent."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # Pillow would clip them at 255
        picture = _eight_bits(picture)
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey levels of 16 or 32 bits as 8 bits."""
    from PIL import Image

    tags = getattr(picture, "tag_v2", {})  # of a TIFF
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        levels = _scaled(values, 0.0, 2.0 ** tags.get(BITS, (16,))[0] - 1)
    else:
        if picture.mode == "I" and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
            values = values.view(np.uint32)
        levels = _scaled(values, *_range(values))
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = 255 - levels
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # of a PNG: this level is
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        return Image.merge("LA", (Image.fromarray(levels), Image.fromarray(alpha)))
    return Image.fromarray(levels)


def _range(values: NDArray[np.int32 | np.uint32 | np.float32]) -> tuple[float, float]:
    """The values of black and white. No file with 32 bits says them, so the pixels have to.

    Black is 0, and white is the largest value of the smallest depth that holds all pixels; of floating-point numbers
    also 1. Where that cannot be, as with negative values, they are the least and the greatest value.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("none of its pixels is a finite number")
    least, greatest = float(finite.min()), float(finite.max())
    whites = [2.0**bits - 1 for bits in DEPTHS]
    if values.dtype == np.float32:
        whites.insert(0, 1.0)
    white = next((white for white in whites if greatest <= white), None)
    return (0.0, white) if least >= 0 and white is not None else (least, greatest)


def _scaled(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    """`black` as 0, `white` as 255, what is no number as black."""
    levels = (values.astype(np.float32) - black) * (255 / ((white - black) or 1))
    return np.nan_to_num(levels, nan=0, posinf=255, neginf=0).round().clip(0, 255).astype(np.uint8)
