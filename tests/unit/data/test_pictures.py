from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from wrn.data import pictures
from wrn.data.pictures import UnreadableFile, read_image, read_picture, read_pictures, without_pillow_warnings
from wrn.errors import DataError


def save(path: Path, array: np.ndarray, mode: str | None = None, **keys: Any) -> Path:
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


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
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


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"P6 1 1 255 abc"]
)
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
    with without_pillow_warnings():
        assert read_picture(tmp_path / "large.png").shape == (3, 32, 32)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(DataError, match="has more pixels than is safe to read"):
        read_picture(tmp_path / "large.png")


def test_an_image_over_the_bound_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = save(tmp_path / "x.png", quadrants(50)).read_bytes()
    assert read_image(content, max_pixels=2500).shape == (50, 50, 3)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it is decoded"))
    with pytest.raises(DataError, match="image: has more pixels"):
        read_image(content, max_pixels=2499)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_and_its_content_are_the_same_image(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"x.{suffix}", quadrants(300)[:200])
    assert read_image(path).shape == (200, 300, 3)
    assert np.array_equal(read_image(path), read_image(path.read_bytes()))
    assert torch.equal(read_picture(path), read_picture(path.read_bytes()))
    if suffix == "png":
        assert np.array_equal(read_image(path), quadrants(300)[:200])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_opened_is_not_called_broken(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "x.png", quadrants())

    def refuse(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnreadableFile, match=re.escape(f"{path}: cannot be opened ({os.strerror(number)})")):
        read_picture(path)


def test_want_of_memory_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", quadrants())

    def fail(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(UnreadableFile, match="not enough memory"):
        read_picture(path)


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_impossible_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be opened"):
        read_picture(tmp_path / name)


def test_progress_is_told_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"{number}.png", quadrants()) for number in range(30)]
    lines: list[str] = []
    assert len(read_pictures(paths, lines.append)) == 30
    assert lines == [], "it did not take long"
    clock = iter(np.arange(0.0, 1000.0, 1.0).tolist())  # a second for each image
    monkeypatch.setattr("wrn.data.pictures.time.monotonic", lambda: next(clock))
    read_pictures(paths, lines.append)
    done = [int(re.fullmatch(r"decoded (\d+) of 30 images", line)[1]) for line in lines]  # type: ignore[index]
    assert done[0] <= 3
    assert max(np.diff([0, *done, 30])) <= 11


def test_an_exception_does_not_wait_for_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def read(path: Path) -> torch.Tensor:
        begun.append(path)
        time.sleep(0.02)
        return torch.empty(0)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "read_picture", read)
    monkeypatch.setattr(pictures, "FIRST_LINE_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        read_pictures([tmp_path] * 500, interrupt)
    assert len(begun) < 200
