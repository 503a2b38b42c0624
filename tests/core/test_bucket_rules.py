"""Each rule of the field lists the sizes that its source says, and mirrors them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from curate.core.bucket import Bucket, nearest_bucket, nearest_buckets
from curate.core.bucket_rules import (
    area_buckets,
    custom_buckets,
    kohya_buckets,
    sd3_buckets,
    sdxl_buckets,
    sdxl_mirrored_buckets,
)
from curate.core.geometry import Geometry, list_buckets

MIRRORED = {
    "demo": Geometry(),
    "area": Geometry(resolutions=(1024,), step_px=64, max_aspect=4.0),
    "sdxl_mirrored": Geometry(rule="sdxl_mirrored", resolutions=(1024,), step_px=64),
    "kohya": Geometry(rule="kohya", resolutions=(512,), step_px=64, max_aspect=4.0),
    "sd3": Geometry(rule="sd3", resolutions=(1024,), step_px=16, max_aspect=2.0),
    "custom": Geometry(
        rule="custom", resolutions=(512,), step_px=64,
        custom=("512x512", "512x768", "768x512", "320x768", "768x320"),
    ),
}  # fmt: skip


def names(buckets: list[Bucket]) -> list[str]:
    return [bucket.name for bucket in buckets]


def test_the_demos_buckets_are_the_documented_five() -> None:
    assert names(area_buckets(64, 8, 2.0)) == ["48x80", "56x72", "64x64", "72x56", "80x48"]


@pytest.mark.parametrize(
    ("side", "step", "aspect"), [(64, 8, 2.0), (256, 16, 2.5), (1024, 64, 4.0)]
)
def test_the_area_rule_keeps_area_step_and_aspect(side: int, step: int, aspect: float) -> None:
    for bucket in area_buckets(side, step, aspect):
        assert bucket.height % step == bucket.width % step == 0
        assert 0.5 * side**2 < bucket.area <= side**2
        assert max(bucket.height, bucket.width) <= aspect * min(bucket.height, bucket.width)


def test_sdxls_table_is_the_papers() -> None:
    """Facts that the paper's list has: 40 sizes, areas, steps, and its ends."""
    buckets = sdxl_buckets(1024)
    assert len(buckets) == 40
    assert {side % 64 for bucket in buckets for side in (bucket.height, bucket.width)} == {0}
    assert min(bucket.area for bucket in buckets) == 946_176
    assert max(bucket.area for bucket in buckets) == 1024 * 1024
    assert names(buckets)[:4] == ["512x1856", "512x1920", "512x1984", "512x2048"]
    assert names(buckets)[-1] == "2048x512"


def test_one_size_of_sdxls_table_has_no_mirror_image() -> None:
    table = set(sdxl_buckets(1024))
    assert [one.name for one in table if one.mirrored not in table] == ["704x1344"]
    assert set(sdxl_mirrored_buckets(1024)) - table == {Bucket(height=1344, width=704)}


def test_half_of_sdxl_is_its_table_halved() -> None:
    halves = [f"{one.height // 2}x{one.width // 2}" for one in sdxl_buckets(1024)]
    assert names(sdxl_buckets(512)) == halves


def test_kohyas_sizes_for_sdxl_are_33_of_the_tables_40() -> None:
    assert len(set(kohya_buckets(1024, 64, 4.0)) & set(sdxl_buckets(1024))) == 33


def test_kohyas_sizes_for_512_are_those_its_rule_says() -> None:
    """Worked out by hand: sides 256..1024, area 262144, the other side rounded down to 64."""
    pairs = {(256, 1024), (256, 960), (256, 896), (256, 832), (320, 768), (320, 704), (384, 640),
             (448, 576), (512, 512)}  # fmt: skip
    expected = pairs | {(width, height) for height, width in pairs}
    assert {(one.height, one.width) for one in kohya_buckets(512, 64, 4.0)} == expected


def test_sd3s_areas_are_as_near_to_the_square_as_its_step_allows() -> None:
    buckets = sd3_buckets(1024, 64, 2.0)
    flat = ["768x1344", "768x1408", "832x1216", "832x1280", "896x1152", "960x1088"]
    assert names(buckets)[:7] == [*flat, "1024x1024"]
    assert {one.mirrored for one in buckets} == set(buckets)
    for bucket in buckets:
        longest = max(bucket.height, bucket.width)
        # Half a step of the other side is the most that rounding can add or take.
        assert abs(bucket.area - 1024**2) <= 32 * longest
    assert any(bucket.area > 1024**2 for bucket in buckets)


def test_custom_sizes_go_to_the_resolution_of_their_area() -> None:
    sizes = ["256x256", "192x320", "512x512", "384x640"]
    assert names(custom_buckets(sizes, [256, 512], 256)) == ["192x320", "256x256"]
    assert names(custom_buckets(sizes, [256, 512], 512)) == ["384x640", "512x512"]
    assert len(custom_buckets(sizes, [512], 512)) == 4


@pytest.mark.parametrize("name", MIRRORED)
def test_a_transpose_gets_the_transposed_bucket(name: str) -> None:
    """Also pictures exactly between two buckets, in log ratio; squares have no other transpose."""
    geometry = MIRRORED[name]
    buckets = list_buckets(geometry, geometry.resolutions[0])
    rng = np.random.Generator(np.random.Philox(key=7))
    sizes = [tuple(size) for size in rng.integers(40, 4000, size=(20_000, 2)).tolist()]
    ratios = sorted((one for one in buckets), key=lambda one: one.width / one.height)
    for low, high in itertools.pairwise(ratios):
        square = low.height * high.height * low.width * high.width
        if math.isqrt(square) ** 2 == square:  # the ratio between the two is rational
            sizes.append((low.height * high.height, math.isqrt(square)))
    heights, widths = np.array([size for size in sizes if size[0] != size[1]]).T
    for limit in (float("inf"), 1.0):
        upright = nearest_buckets(heights, widths, buckets, limit).tolist()
        turned = nearest_buckets(widths, heights, buckets, limit).tolist()
        assert [place < 0 for place in upright] == [place < 0 for place in turned]
        pairs = [(a, b) for a, b in zip(upright, turned, strict=True) if a >= 0]
        assert all(buckets[a].mirrored == buckets[b] for a, b in pairs)


def test_only_the_table_as_published_breaks_the_mirror() -> None:
    table = sdxl_buckets(1024)
    assert nearest_bucket(704, 1344, table).name == "704x1344"
    assert nearest_bucket(1344, 704, table).name == "1408x704"
    assert nearest_bucket(1344, 704, sdxl_mirrored_buckets(1024)).name == "1344x704"
