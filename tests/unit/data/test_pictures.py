from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wrn.data.pictures import read_picture, without_size_warning
from wrn.errors import DataError


def save(path: Path, array: np.ndarray, mode: str | None = None, **keys: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **keys)
    return path


def quadrants(side: int = 64) -> np.ndarray:
    """Red, green / blue, white."""
    array = np.zeros((side, side, 3), dtype=np.uint8)
    half = side // 2
    array[:half, :half, 0] = array[:half, half:, 1] = array[half:, :half, 2] = array[half:, half:] = 255
    return array


def corners(image: torch.Tensor) -> list[list[int]]:
    return [image[:, y, x].tolist() for y in (3, 28) for x in (3, 28)]


def test_a_32_pixel_image_is_unchanged(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = read_picture(save(tmp_path / "x.png", array))
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(array).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "ppm", "tif"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    image = read_picture(save(tmp_path / f"x.{suffix}", quadrants(200)))
    wanted = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    assert (torch.tensor(corners(image)) - wanted).abs().max() < 40
    assert image.shape == (3, 32, 32)


def test_a_large_jpeg_is_like_the_same_png(tmp_path: Path) -> None:
    waves = np.sin(np.arange(1500) / 90)
    array = (127 + 120 * waves[:900, None, None] * waves[None, :, None] * np.ones(3)).astype(np.uint8)
    png = read_picture(save(tmp_path / "x.png", array))
    jpeg = read_picture(save(tmp_path / "x.jpg", array, quality=95))
    assert (png.int() - jpeg.int()).abs().max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled(suffix: str, tmp_path: Path) -> None:
    array = np.repeat(np.arange(32, dtype=np.uint16)[:, None] * 2114, 32, axis=1)
    image = read_picture(save(tmp_path / f"x.{suffix}", array))
    assert image[0, :, 0].tolist() == [round(v / 257) for v in array[:, 0].tolist()]
    dark = read_picture(save(tmp_path / f"dark.{suffix}", array // 1000))
    assert dark.max() <= 1


def test_gray_palette_and_one_bit(tmp_path: Path) -> None:
    for mode in ("L", "P", "1"):
        image = read_picture(save(tmp_path / f"{mode}.png", quadrants(32), mode))
        assert image.shape == (3, 32, 32)
    assert torch.equal(image[0], image[1])


def test_transparent_is_white(tmp_path: Path) -> None:
    array = np.zeros((32, 32, 4), dtype=np.uint8)
    array[:16, :, 3] = 255
    image = read_picture(save(tmp_path / "x.png", array))
    assert (int(image[:, :15].max()), int(image[:, 17:].min())) == (0, 255)


def test_rotated_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = read_picture(save(tmp_path / "x.png", quadrants(), exif=exif))
    assert corners(image) == [[255, 255, 255], [0, 0, 255], [0, 255, 0], [255, 0, 0]]


def test_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floating-point"):
        read_picture(save(tmp_path / "x.tif", np.zeros((8, 8), dtype=np.float32)))


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_not_an_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image \(not a known image format\)"):
        read_picture(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file; give the path"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(DataError, match="is a folder; give the images in it"):
        read_picture(tmp_path)


@settings(max_examples=60)
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # Pillow warns about many things that it still reads
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_any_damage_raises_data_error(suffix: str, tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    path = tmp_path_factory.mktemp("damage") / f"x.{suffix}"
    Image.fromarray(quadrants(40)).save(path)
    content = bytearray(path.read_bytes())
    draw = data.draw  # type: ignore[attr-defined]
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = draw(st.integers(0, 255))
    path.write_bytes(content[: draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataError):
        assert read_picture(path).shape == (3, 32, 32)


def test_a_very_large_image_is_read_without_a_warning_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with without_size_warning():
        assert read_picture(tmp_path / "large.png").shape == (3, 32, 32)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(DataError, match="has more pixels than is safe to read; make it smaller"):
        read_picture(tmp_path / "large.png")
