"""A picture file as the network's 32x32 pixels: shared by `--dataset folder` and by prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wrn.errors import DataError

SIDE = 32
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")


def read_picture(path: Path) -> Tensor:
    """uint8 (3, 32, 32), RGB: turned as its EXIF says, transparency on white, resized without regard to its shape.

    Raises DataError, naming the file, when it cannot be read as a picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
                # 16 bits a pixel: Pillow would cut them off at 255 instead of scaling them.
                values = np.asarray(picture, dtype=np.float64)
                scaled = values / (257 if values.max(initial=0) > 255 else 1)
                picture = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("RGB")
            if picture.size != (SIDE, SIDE):
                picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=None)
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no picture that can be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{path}: cannot be read as a picture ({reason}); mend or remove it") from None
