"""A placement covers its bucket, says where it cuts, and why a picture may not be placed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ConfigError
from curate.core.geometry import CropMode, Geometry, list_buckets
from curate.core.placement import STATUSES, Placement, choose_buckets, cover_size, place
from curate.core.smart_crop import find_focus, place_picture

PLAIN = Geometry(resolutions=(256,), step_px=64, max_aspect=4.0)
KEYS = [f"{number:020x}" for number in range(300)]
RNG_SIZES = np.random.Generator(np.random.Philox(key=11)).integers(60, 3000, size=(300, 2))


def put(height: int, width: int, geometry: Geometry = PLAIN, key: str = KEYS[0]) -> Placement:
    return place(key, height, width, geometry, geometry.resolutions[-1], seed=5)


@pytest.mark.parametrize("crop", ["centre", "random"])
def test_the_resized_picture_just_covers_the_bucket_and_the_window_lies_in_it(
    crop: CropMode,
) -> None:
    geometry = dataclasses.replace(PLAIN, crop=crop, max_upscale=9.0)
    for key, (height, width) in zip(KEYS, RNG_SIZES.tolist(), strict=True):
        one = put(height, width, geometry, key)
        slack = one.scaled_height - one.bucket.height, one.scaled_width - one.bucket.width
        assert min(slack) == 0
        assert 0 <= one.crop_top <= slack[0]
        assert 0 <= one.crop_left <= slack[1]
        ratio = (one.scaled_width / one.scaled_height) / (width / height)
        assert ratio == pytest.approx(1, abs=0.5 / min(one.scaled_height, one.scaled_width))
        assert one.box_top + one.box_height <= height + 1e-9
        assert one.box_left + one.box_width <= width + 1e-9


def test_a_centred_window_of_the_transpose_is_the_transposed_window() -> None:
    for height, width in RNG_SIZES.tolist():
        one, other = put(height, width), put(width, height)
        if height != width:
            assert one.bucket == other.bucket.mirrored
            assert one.status == other.status
            assert (one.crop_top, one.crop_left) == (other.crop_left, other.crop_top)


def test_sdxls_ids_of_a_worked_example() -> None:
    """600 x 1000 to 192 x 320 is 5:3 exactly; 700 x 1000 loses 100 rows of 1000-wide ones."""
    assert put(600, 1000).size_ids == (600, 1000, 0, 0, 192, 320)
    geometry = Geometry(rule="custom", resolutions=(256,), custom=("192x320",))
    one = put(700, 1000, geometry)
    assert (one.scaled_height, one.scaled_width) == (224, 320)
    assert one.size_ids == (700, 1000, 16, 0, 192, 320)
    assert (one.box_top, one.box_left, one.box_height, one.box_width) == (50, 0, 600, 1000)


def test_sdxls_ids_are_in_the_order_in_which_diffusers_joins_them() -> None:
    import torch
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
        StableDiffusionXLPipeline,
    )

    width = 6 * 256 + 1280  # of the embedding: six ids of 256 channels, and the pooled text
    unet = SimpleNamespace(
        config=SimpleNamespace(addition_time_embed_dim=256),
        add_embedding=SimpleNamespace(linear_1=SimpleNamespace(in_features=width)),
    )
    one = put(700, 1001)
    join: Any = StableDiffusionXLPipeline._get_add_time_ids  # pyright: ignore[reportPrivateUsage]
    ids = join(
        SimpleNamespace(unet=unet),
        (one.original_height, one.original_width),
        (one.crop_top, one.crop_left),
        (one.bucket.height, one.bucket.width),
        dtype=torch.int64,
        text_encoder_projection_dim=1280,
    )
    assert tuple(ids[0].tolist()) == one.size_ids


def test_a_random_window_is_drawn_by_key_alike_for_all_resolutions() -> None:
    geometry = dataclasses.replace(PLAIN, resolutions=(256, 512), crop="random")
    places: list[float] = []
    for key in KEYS:
        small = place(key, 900, 1600, geometry, 256, seed=5)
        large = place(key, 900, 1600, geometry, 512, seed=5)
        assert small == place(key, 900, 1600, geometry, 256, seed=5)
        if small.bucket.height * large.bucket.width == small.bucket.width * large.bucket.height:
            assert small.box_left == pytest.approx(large.box_left, abs=7)
        wide = place(key, 1000, 4000, geometry, 512, seed=5).move_to(0.5)
        assert wide.crop_left == (wide.scaled_width - wide.bucket.width) // 2
        square = place(key, 512, 1000, dataclasses.replace(geometry, max_aspect=1.0), 512, seed=5)
        places.append(square.crop_left / (1000 - 512))
    assert 0 <= min(places) < 0.02
    assert 0.98 < max(places) <= 1
    assert np.mean(places) == pytest.approx(0.5, abs=0.06)  # 3.6 standard errors


def test_a_picture_that_would_lose_too_much_is_not_placed() -> None:
    geometry = dataclasses.replace(PLAIN, max_aspect=1.0, max_crop_frac=0.4)
    assert put(300, 499, geometry).status == "ok"
    assert put(300, 501, geometry).status == "crop_loss"


def test_a_picture_below_every_bucket_is_not_placed_unless_enlarging_is_allowed() -> None:
    square = dataclasses.replace(PLAIN, max_aspect=1.0)
    assert put(255, 300, square).status == "upscale"
    assert put(256, 300, square).status == "ok"
    assert put(255, 300, dataclasses.replace(square, max_upscale=1.1)).status == "ok"
    assert put(200, 300, dataclasses.replace(square, max_upscale=1.1)).status == "upscale"


def test_a_picture_too_small_for_the_nearest_bucket_takes_the_next_that_it_fills() -> None:
    geometry = Geometry(
        rule="custom", resolutions=(256,), custom=("256x256", "128x192"), max_crop_frac=0.4
    )
    assert put(200, 210, geometry).bucket.name == "128x192"
    strict = dataclasses.replace(geometry, max_crop_frac=0.1)
    assert put(200, 210, strict).status == "upscale"


def test_many_get_the_bucket_and_status_that_each_gets_alone() -> None:
    heights, widths = RNG_SIZES.T
    chosen, status = choose_buckets(heights, widths, PLAIN, 256)
    buckets = list_buckets(PLAIN, 256)
    one_by_one = [put(height, width) for height, width in RNG_SIZES.tolist()]
    assert [buckets[place] for place in chosen.tolist()] == [one.bucket for one in one_by_one]
    assert [STATUSES[place] for place in status.tolist()] == [one.status for one in one_by_one]
    assert {one.status for one in one_by_one} == set(STATUSES)


def test_the_cover_size_rounds_to_the_nearest_pixel() -> None:
    bucket = list_buckets(Geometry(), 64)[2]
    assert bucket.name == "64x64"
    assert cover_size(100, 151, bucket) == (64, 97)  # 96.64
    assert cover_size(151, 100, bucket) == (97, 64)
    assert cover_size(3, 3, bucket) == (64, 64)


def with_detail(height: int, width: int, top: int, left: int) -> Image.Image:
    """Draw noise in a square of 100 px on a flat picture."""
    pixels = np.full((height, width, 3), 120, np.uint8)
    noise = np.random.Generator(np.random.Philox(key=2)).integers(0, 255, (100, 100, 3), np.uint8)
    pixels[top : top + 100, left : left + 100] = noise
    return Image.fromarray(pixels)


SMART = Geometry(resolutions=(64,), max_aspect=1.0, max_crop_frac=0.9, crop="smart")


@pytest.mark.parametrize("start", [0, 40, 300, 500])
def test_a_smart_window_holds_the_detail_on_either_axis(start: int) -> None:
    wide = place_picture(KEYS[0], with_detail(200, 600, 50, start), SMART, 64, seed=0)
    assert wide.box_left <= start + 4
    assert wide.box_left + wide.box_width >= start + 96
    tall = place_picture(KEYS[0], with_detail(600, 200, start, 50), SMART, 64, seed=0)
    assert tall.box_top <= start + 4
    assert tall.box_top + tall.box_height >= start + 96


def test_a_smart_window_on_an_even_picture_is_the_centred_one() -> None:
    flat = Image.new("RGB", (600, 200), "grey")
    centred = place(KEYS[0], 200, 600, SMART, 64, seed=0)
    assert abs(place_picture(KEYS[0], flat, SMART, 64, 0).crop_left - centred.crop_left) <= 1
    square = Image.new("RGB", (200, 200), "grey")
    assert find_focus(square, place(KEYS[0], 200, 200, SMART, 64, 0)) == 0.5


def test_a_smart_window_hangs_on_pixels_only() -> None:
    picture = with_detail(200, 600, 50, 430)
    ones = {place_picture(key, picture, SMART, 64, seed) for key in KEYS[:3] for seed in (0, 1)}
    assert len(ones) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "golden"}, r"bucket\.rule: must be of area, sdxl"),
        ({"crop": "top"}, r"bucket\.crop: must be of centre"),
        ({"step_px": 12}, r"bucket\.step_px: must be a multiple of 8, got 12"),
        ({"resolutions": ()}, r"bucket\.resolutions: must be one or more"),
        ({"resolutions": (512, 256)}, r"bucket\.resolutions: .*ascending"),
        ({"resolutions": (4,)}, r"bucket\.resolutions: must be at least step_px 8, got 4"),
        ({"max_aspect": 0.5}, r"bucket\.max_aspect: must be >= 1"),
        ({"max_crop_frac": 1.0}, r"bucket\.max_crop_frac: must be in"),
        ({"max_upscale": 0.9}, r"bucket\.max_upscale: must be >= 1"),
        ({"rule": "sdxl", "resolutions": (512,), "step_px": 64}, r"needs multiples of 16 times"),
        ({"rule": "custom"}, r"bucket\.custom: belongs to rule custom"),
        ({"custom": ("64x64",)}, r"bucket\.custom: belongs to rule custom"),
        ({"rule": "custom", "custom": ("64x65",)}, r"bucket\.custom: .*step_px 8, got 64x65"),
        ({"rule": "custom", "custom": ("64",)}, r"bucket\.custom: .*got 64;"),
        ({"rule": "custom", "custom": ("-8x8",)}, r"bucket\.custom: .*got -8x8;"),
        (
            {"rule": "custom", "custom": ("64x64",), "resolutions": (64, 128)},
            r"bucket\.resolutions: each needs a custom size .* got none for 128",
        ),
    ],
)
def test_a_geometry_that_makes_no_sense_is_refused_in_one_line(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Geometry(**fields)
    assert "\n" not in str(caught.value)
