"""A header says size, mode and frames before any pixel is decoded, and budgets hold on it."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from curate.core.errors import SampleError
from curate.core.image import decode_image, decode_reduced, resize_min_side, to_rgb
from curate.core.image_header import read_header, verify_pixels
from pipelines.toyweb.faults import bomb


def picture(height: int = 60, width: int = 90, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, format: str, **options: object) -> bytes:  # noqa: A002
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def animation(format: str, frames: int) -> bytes:  # noqa: A002
    images = [picture(12, 18, seed) for seed in range(frames)]
    return save(images[0], format, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_frames_are_counted_without_decoding(format: str) -> None:  # noqa: A002
    assert read_header(animation(format, 7)).frames == 7


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_more_frames_than_the_budget_are_refused(format: str) -> None:  # noqa: A002
    with pytest.raises(SampleError, match="too_many_frames: more than 6 frames"):
        read_header(animation(format, 7), max_frames=6)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_a_still_has_one_frame_and_its_size(format: str) -> None:  # noqa: A002
    header = read_header(save(picture(), format))
    assert (header.height, header.width, header.frames) == (60, 90, 1)


def test_modes_are_those_of_the_file() -> None:
    modes = {
        read_header(save(picture().convert(mode), format)).mode
        for mode, format in (("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"))  # noqa: A001
    }
    assert modes == {"CMYK", "L", "P", "RGBA"}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_upright_as_the_decoded_picture_is(orientation: int, format: str) -> None:  # noqa: A002
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(picture(), format, exif=exif)
    header = read_header(data)
    assert (header.width, header.height) == decode_image(data).size


def test_a_bomb_is_refused_from_its_header_at_once() -> None:
    data = bomb()
    start = time.process_time()
    with pytest.raises(SampleError, match=r"too_large: .*900000000 pixels"):
        read_header(data)
    assert time.process_time() - start < 0.1


def test_a_gif_of_endless_tiny_blocks_is_refused() -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\x02"
    with pytest.raises(SampleError, match="too_many_frames: more than 1000000 data blocks"):
        read_header(head + image + b"\x01\x00" * 1_100_000)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 3 // 4]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_a_cut_picture_is_told_without_keeping_its_pixels(format: str) -> None:  # noqa: A002
    data = cut(save(picture(240, 360), format))
    header = read_header(data)
    with pytest.raises(SampleError, match="truncated"):
        verify_pixels(data, header)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
def test_a_whole_jpeg_is_verified_at_an_eighth(options: dict[str, object]) -> None:
    data = save(picture(241, 363), "JPEG", **options)
    verify_pixels(data, read_header(data))


@pytest.mark.parametrize("side", [16, 40, 59])
def test_reduced_decoding_keeps_the_picture(side: int) -> None:
    smooth = picture(48, 72).resize((720, 480), Image.Resampling.BICUBIC)
    data = save(smooth, "JPEG", quality=95)
    reduced = decode_reduced(data, side)
    assert 1.5 * side <= min(reduced.size) < 480
    small = resize_min_side(reduced, side, 480, 720)
    exact = resize_min_side(decode_image(data), side, 480, 720)
    assert small.size == exact.size
    difference = np.abs(np.asarray(small).astype(int) - np.asarray(exact))
    assert difference.mean() < 1


def test_the_aspect_does_not_hang_on_how_a_picture_was_decoded() -> None:
    data = save(picture(900, 1196), "JPEG")
    reduced = decode_reduced(data, 256)
    assert reduced.size == (598, 450)
    assert resize_min_side(reduced, 256, 900, 1196).size == (340, 256)
    assert resize_min_side(decode_image(data), 256, 900, 1196).size == (340, 256)


@pytest.mark.parametrize("spoil", [cut, lambda data: b"", lambda data: b"<html>"])
def test_headers_of_broken_files_name_the_fault(spoil: Callable[[bytes], bytes]) -> None:
    data = spoil(save(picture(), "WEBP"))
    with pytest.raises(SampleError, match=r"empty|not_image|truncated"):
        verify_pixels(data, read_header(data))


def test_a_png_is_not_decoded_for_its_header() -> None:
    data = bytearray(save(picture(240, 360), "PNG"))
    data[len(data) // 2] ^= 0xFF  # its pixels do not decode
    assert read_header(bytes(data)).width == 360


def test_orientation_behind_the_pixels_of_a_png_counts_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(picture(), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    size = 12 + int.from_bytes(data[start : start + 4], "big")
    chunk, end = data[start : start + size], data.index(b"IEND") - 4
    moved = data[:start] + data[start + size : end] + chunk + data[end:]
    header = read_header(moved)
    assert (header.width, header.height) == decode_image(moved).size == (60, 90)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    for place in rng.integers(0, len(data), 4):
        spoilt[place] = rng.integers(256)
    return bytes(spoilt[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else spoilt)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_no_damage_is_more_than_a_failed_sample(format: str) -> None:  # noqa: A002
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if format in ("GIF", "BMP") else {"exif": exif}
    data = save(picture(24, 36), format, **options)
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoilt = mutated(data, rng)
        try:
            verify_pixels(spoilt, read_header(spoilt, max_pixels=1_000_000))
        except SampleError as error:
            assert error.status in STATUSES


STATUSES = {"empty", "not_image", "too_large", "unsupported_format", "too_many_frames", "truncated"}


def test_a_tiff_whose_second_page_is_empty_is_one_sample() -> None:
    data = save(picture(8, 8), "TIFF")
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    link = first + 2 + 12 * entries
    chained = data[:link] + len(data).to_bytes(4, "little") + data[link + 4 :] + bytes(6)
    with contextlib.suppress(SampleError):
        verify_pixels(chained, read_header(chained))


def test_deep_grey_takes_no_more_than_its_own_bytes_and_a_strip() -> None:
    image = Image.fromarray(np.full((3000, 3000), 40_000, np.uint16))
    tracemalloc.start()
    grey = to_rgb(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grey.getpixel((0, 0)) == (156, 156, 156)
    assert peak < 9 * 3000 * 3000
