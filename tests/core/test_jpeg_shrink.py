"""The short way makes an ordinary JPEG smaller as PIL would, and leaves all others to PIL."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as photographs

from curate.core.errors import SampleError
from curate.core.image import (
    decode_image,
    decode_reduced,
    encode_image,
    min_side_size,
    resize_min_side,
)
from curate.core.image_header import read_header
from curate.core.jpeg_shrink import shrink_jpeg


def photograph() -> Image.Image:
    return Image.fromarray(photographs.astronaut()).crop((0, 0, 500, 400))


def save(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:  # noqa: A002
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def shrink(data: bytes, side_px: int) -> bytes | None:
    return shrink_jpeg(data, read_header(data), side_px, quality=95)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
@pytest.mark.parametrize("side_px", [30, 64, 100, 200, 399])
def test_a_small_picture_is_like_pils(side_px: int, options: dict[str, object]) -> None:
    data = save(photograph(), quality=92, **options)
    small = shrink(data, side_px)
    assert small is not None
    found = decode_image(small)
    resized = resize_min_side(decode_reduced(data, side_px), side_px, 400, 500)
    exact = decode_image(encode_image(resized, "jpeg", 95, subsampling="4:2:0"))
    assert found.size == exact.size == min_side_size(side_px, 400, 500)
    difference = np.asarray(found).astype(int) - np.asarray(exact)
    assert np.abs(difference).mean() < 3  # of 255: another filter
    assert np.abs(difference.mean((0, 1))).max() < 0.5  # no channel is another, or shifted


@pytest.mark.parametrize("side_px", [30, 45, 64, 90, 100, 200])
def test_a_small_picture_is_as_near_to_lanczos_as_pils(side_px: int) -> None:
    data = save(photograph(), quality=92)
    small = shrink_jpeg(data, read_header(data), side_px, quality=100)
    assert small is not None
    resized = resize_min_side(decode_reduced(data, side_px), side_px, 400, 500)
    pils = encode_image(resized, "jpeg", 100, subsampling="4:2:0")
    exact = decode_image(data).resize(resized.size, Image.Resampling.LANCZOS)
    ours, theirs = (
        np.square(np.asarray(decode_image(made)).astype(float) - np.asarray(exact)).mean()
        for made in (small, pils)
    )
    assert ours <= theirs


def test_a_picture_far_over_its_target_has_no_aliases() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 1), np.uint8).repeat(3, 2)
    whole = Image.fromarray(noise).resize((1600, 1600), Image.Resampling.NEAREST)
    small = shrink(save(whole, quality=95), 20)  # eighths of 8 x 8 noise, then 10 times smaller
    assert small is not None
    spread = np.asarray(decode_image(small)).astype(float).std()
    assert spread == pytest.approx(255 / 12**0.5 / 10, rel=0.1)  # of means of 100 uniform values


def test_what_is_made_has_the_quality_asked_for_and_half_the_chroma() -> None:
    data = save(photograph(), quality=92)
    header = read_header(data)
    by_quality = [shrink_jpeg(data, header, 128, quality) for quality in (50, 75, 95)]
    for quality, small in zip((50, 75, 95), by_quality, strict=True):
        assert small is not None
        ours, pils = Image.open(io.BytesIO(small)), save(photograph(), quality=quality)
        assert ours.quantization == Image.open(io.BytesIO(pils)).quantization  # type: ignore[attr-defined]
        assert [layer[1:3] for layer in ours.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]


def test_odd_sides_keep_the_aspect_of_the_whole_picture() -> None:
    data = save(Image.new("RGB", (1196, 901), "teal"))
    small = shrink(data, 256)
    assert small is not None
    assert decode_image(small).size == min_side_size(256, 901, 1196) == (340, 256)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return save(photograph(), exif=exif)


def profiled() -> bytes:
    return save(
        photograph(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(turned(), id="turned"),
        pytest.param(profiled(), id="profile"),
        pytest.param(save(photograph().convert("L")), id="grey"),
        pytest.param(save(photograph().convert("CMYK")), id="CMYK"),
        pytest.param(save(photograph(), "PNG"), id="PNG"),
        pytest.param(save(photograph())[:-2000], id="cut"),
    ],
)
def test_other_pictures_are_left_to_pil(data: bytes) -> None:
    assert shrink(data, 64) is None


def test_no_damaged_file_passes_that_pil_refuses() -> None:
    whole = save(photograph(), quality=80, exif=save(photograph().resize((9, 9)), "TIFF"))
    rng = np.random.default_rng(5)
    passed = refused = 0
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        data = data[: rng.integers(len(data) // 2, len(data) + 1)] if rng.random() < 0.3 else data
        try:
            small = shrink(data.tobytes(), 64)
        except SampleError:  # its header is gone
            continue
        if small is None:
            refused += 1
        else:
            decode_image(data.tobytes())  # does not raise
            passed += 1
    assert min(passed, refused) > 10
