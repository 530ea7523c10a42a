"""Modes, depths, transparency and metadata, down to single pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wrn.data.pictures import read_image, without_pillow_warnings
from wrn.errors import DataError

Tag = tuple[int, int, int, bytes]
"""Number, type, count, and the value or its offset in four bytes."""
TRANSPOSES = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Pillow's operation that turns an image of each EXIF orientation upright."""
UPSIDE_DOWN: Tag = (0x0112, 3, 1, struct.pack("<HH", 3, 0))
FAR = struct.pack("<I", 99_999)

ODD_TAGS: dict[str, Tag] = {
    "no values": (0x0213, 3, 0, bytes(4)),
    "-1/0": (0x011A, 10, 1, struct.pack("<I", 8 + 2 + 2 * 12 + 4)),
    "bytes for a number": (0x0213, 1, 4, b"abcd"),
    "no text": (0x010F, 2, 4, b"\xff\xfe\xfd\xfc"),
    "an unknown type": (0x9999, 99, 1, bytes(4)),
    "beyond the end": (0x9999, 2, 5000, FAR),
    "a directory beyond the end": (0x8769, 4, 1, FAR),
}


def content(image: Image.Image, kind: str, **keys: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **keys)
    return buffer.getvalue()


def levels(data: bytes) -> list[list[int]]:
    """The grey levels of an image."""
    pixels = read_image(data)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0].tolist()


def exif(*tags: Tag) -> bytes:
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + struct.pack("<ii", -1, 0)


def tiff(values: np.ndarray, sample_format: int, *, bits: int = 0, inverted: bool = False) -> bytes:
    """An uncompressed little-endian TIFF of one channel; sample_format: 1 unsigned, 2 signed, 3 floating-point."""
    height, width = values.shape
    data = values.tobytes()
    bits = bits or values.itemsize * 8
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, int(not inverted)), (273, 0), (277, 1)]
    tags += [(278, height), (279, len(data)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([0, 100, 255, 7], [0, 100, 255, 7]),  # 8 bits in 32
        ([0, 4095, 2048, 0], [0, 255, 128, 0]),  # 12
        ([0, 65535, 257, 2570], [0, 255, 1, 10]),  # 16
        ([0, 2**31 - 1, 2**30, 0], [0, 128, 64, 0]),
        ([0, 2**32 - 1, 2**31, 2**24], [0, 255, 128, 1]),
    ],
)
def test_32_bit_integers_are_scaled_by_their_depth(pixels: list[int], expected: list[int]) -> None:
    values = np.array(pixels, "<u4").reshape(2, 2)
    assert levels(tiff(values, 1)) == np.reshape(expected, (2, 2)).tolist()
    if max(pixels) < 2**31 - 1:
        assert levels(tiff(values.astype("<i4"), 2)) == np.reshape(expected, (2, 2)).tolist()


def test_negative_values_and_constants() -> None:
    assert levels(tiff(np.array([[-1000, 1000], [0, 500]], "<i4"), 2)) == [[0, 255], [128, 191]]
    assert levels(tiff(np.array([[-5, -5]], "<i2"), 2)) == [[0, 0]]
    assert levels(tiff(np.zeros((1, 2), "<i4"), 2)) == [[0, 0]]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([0, 1, 0.5, 0.2], [0, 255, 128, 51]),
        ([0, 255, 100, 7.4], [0, 255, 100, 7]),
        ([0, 65535, 257, 2570], [0, 255, 1, 10]),
        ([-1, 1, 0, 0.5], [0, 255, 128, 191]),
        ([np.nan, 1, np.inf, -np.inf], [0, 255, 255, 0]),
        ([0, 1e30, 0, 0], [0, 255, 0, 0]),
    ],
)
def test_floating_point_numbers_are_scaled(pixels: list[float], expected: list[int]) -> None:
    assert levels(tiff(np.array(pixels, "<f4").reshape(2, 2), 3)) == np.reshape(expected, (2, 2)).tolist()


def test_pixels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="none of its pixels is a finite number"):
        read_image(tiff(np.full((2, 2), np.nan, "<f4"), 3))


def test_12_and_16_bits_and_white_as_0() -> None:
    values = np.array([[0, 65535], [257, 2570]], "<u2")
    assert levels(tiff(values, 1)) == [[0, 255], [1, 10]]
    assert levels(tiff(values, 1, inverted=True)) == [[255, 0], [254, 245]]
    # Two pixels of 12 bits in three bytes: 0x000 and 0xfff.
    packed = tiff(np.array([[0x00, 0x0F, 0xFF]], "u1"), 1, bits=12).replace(
        struct.pack("<HHII", 256, 4, 1, 3), struct.pack("<HHII", 256, 4, 1, 2)
    )
    assert levels(packed) == [[0, 255]]


def test_a_transparent_level_of_16_bits() -> None:
    grey = Image.fromarray(np.array([[0, 1000], [65535, 2570]], np.uint16))
    assert levels(content(grey, "PNG", transparency=1000)) == [[0, 255], [255, 10]]


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("L", 77, "PNG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (10, 0), "PNG", (255, 255, 255)),
        ("PA", (0, 0), "TIFF", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 0), "WEBP", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), "PNG", (204, 204, 204)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("YCbCr", (255, 128, 128), "TIFF", (255, 255, 255)),
        ("LAB", (255, 128, 128), "TIFF", (255, 255, 255)),
    ],
)
def test_modes(mode: str, colour: Any, kind: str, expected: tuple[int, ...]) -> None:
    pixel = read_image(
        content(Image.new(mode, (16, 16), colour), kind, **({"lossless": True} if kind == "WEBP" else {}))
    )
    assert pixel.shape == (16, 16, 3)
    assert np.abs(pixel.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    keys = {"lossless": True} if kind == "WEBP" else {}
    data = content(frames[0], kind, save_all=True, append_images=frames[1:], **keys)
    assert read_image(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TRANSPOSES)
def test_every_orientation(kind: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    image = Image.fromarray(pixels)
    tags = Image.Exif()
    tags[0x0112] = orientation
    more: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}
    keys = more.get(kind, {})
    found = read_image(content(image, kind, exif=tags, **keys))
    method = TRANSPOSES[orientation]
    expected = np.array(image if method is None else image.transpose(Image.Transpose(method)))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() < 30


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("odd", ODD_TAGS)
def test_odd_tags_beside_the_orientation_are_harmless(kind: str, odd: str) -> None:
    image = Image.new("RGB", (16, 16))
    image.paste("white", (0, 0, 16, 8))
    with without_pillow_warnings():
        found = read_image(content(image, kind, exif=exif(UPSIDE_DOWN, ODD_TAGS[odd])))
    assert (found[:6].max() < 60, found[-6:].min() > 200) == (True, True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("damage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense"])
def test_damaged_exif_leaves_the_image_as_it_is(kind: str, damage: bytes) -> None:
    with without_pillow_warnings():
        assert read_image(content(Image.new("RGB", (4, 4), "white"), kind, exif=damage)).min() > 250


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("before_pixels", [True, False])
def test_long_texts_in_a_png(kind: bytes, before_pixels: bool) -> None:
    text = b"lorem ipsum " * 250_000  # 3 MB
    data = {
        b"tEXt": b"Comment\0" + text,
        b"zTXt": b"Comment\0\0" + zlib.compress(text, 1),
        b"iTXt": b"Comment\0\1\0\0\0" + zlib.compress(text, 1),
        b"iCCP": b"profile\0\0" + zlib.compress(text, 1),
    }[kind]
    png = content(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG")
    place = 33 if before_pixels else len(png) - 12  # after the header, or before the end
    assert read_image(png[:place] + chunk(kind, data) + png[place:])[3, 3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      36\n" + exif(UPSIDE_DOWN)[6:].hex().encode() + b"\n"),
        chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'),
    ],
)
def test_an_orientation_among_the_texts_of_a_png_counts(text: bytes) -> None:
    image = Image.new("RGB", (4, 4))
    image.putpixel((0, 0), (255, 255, 255))
    png = content(image, "PNG")
    found = read_image(png[:33] + text + png[33:])
    assert (found[0, 0].tolist(), found[3, 3].tolist()) == ([0, 0, 0], [255, 255, 255])
