"""The border turns any picture into upright 8-bit RGB in sRGB, or names what is wrong with it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from curate.core.errors import SampleError
from curate.core.image import cover_box, decode_image, encode_image, resize_cover


def save(image: Image.Image, format: str = "PNG", **options: object) -> bytes:  # noqa: A002
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def red(mode: str = "RGB", size: tuple[int, int] = (8, 4)) -> Image.Image:
    image = Image.new("RGB", size, (200, 30, 30))
    return image.quantize(8) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_the_same_red(mode: str) -> None:
    data = save(red(mode), "TIFF" if mode == "CMYK" else "PNG")
    pixels = np.asarray(decode_image(data))
    assert pixels.shape == (4, 8, 3)
    assert np.abs(pixels.astype(int) - [200, 30, 30]).max() <= 3


def test_alpha_is_composed_on_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(decode_image(save(image))).min() == 255


def test_palette_transparency_is_composed_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0] * 256)
    assert np.asarray(decode_image(save(image, transparency=0))).min() == 255


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = np.asarray(decode_image(save(Image.fromarray(values))))
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert abs(int(pixels[4, 0, 1]) - 130) <= 2


def test_exif_orientation_is_applied() -> None:
    image = red(size=(8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to view
    assert decode_image(save(image, "JPEG", exif=exif)).size == (4, 8)


def test_broken_exif_costs_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    # Without a density in its JFIF segment PIL looks for one in EXIF, and has then seen the fault.
    whole = save(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif, dpi=(72, 72))
    start = whole.index(b"Exif\0\0") + 6  # a TIFF header, which says II or MM and 42
    broken = whole[:start] + b"MX" + whole[start + 2 :]
    with pytest.raises(SyntaxError, match="not a TIFF file"):
        Image.open(io.BytesIO(broken)).getexif()
    assert decode_image(whole).size == (20, 40)
    assert decode_image(broken).size == (40, 20)


def test_icc_profiles_are_converted_to_srgb() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.asarray(decode_image(save(red(), icc_profile=lab_like)))
    assert np.abs(pixels.astype(int) - [200, 30, 30]).max() <= 2


def test_a_broken_icc_profile_costs_nothing() -> None:
    assert decode_image(save(red(), icc_profile=b"not a profile")).size == (8, 4)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"<html>not a picture</html>", "not_image"),
        (b"\x89PNG\r\n\x1a\n garbage", "not_image"),
        (png_claiming(9000, 9000), "too_large"),
        (png_claiming(60000, 60000), "too_large"),
        (save(Image.effect_noise((64, 64), 50), "PNG")[:900], "truncated"),
        (save(Image.effect_noise((64, 64), 50), "JPEG")[:700], "truncated"),
    ],
)
def test_bad_bytes_get_a_named_status(data: bytes, status: str) -> None:
    with pytest.raises(SampleError) as caught:
        decode_image(data)
    assert caught.value.status == status
    assert " at 0x" not in caught.value.detail  # it is written into a table that must not vary


def test_cover_keeps_the_centre() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    out = np.asarray(resize_cover(Image.fromarray(pixels), 10, 10))
    assert out.shape == (10, 10, 3)
    assert out.min() == 255


def test_cover_box_has_the_targets_aspect() -> None:
    top, left, height, width = cover_box(100, 300, 64, 128)
    assert (top, height) == (0, 100)
    assert width / height == pytest.approx(2)
    assert left == pytest.approx(50)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_round_trip(format: str) -> None:  # noqa: A002
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    again = decode_image(encode_image(image, format, quality=100))  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_the_cover_box_never_leaves_the_picture() -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    for height, width in rng.integers(20, 900, size=(300, 2)).tolist():
        for bucket in ((48, 80), (56, 72), (64, 64), (72, 56), (80, 48)):
            resize_cover(Image.new("RGB", (width, height)), *bucket)
