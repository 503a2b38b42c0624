"""Buckets keep the area and treat a picture and its transpose alike."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.bucket import Bucket, crop_loss, make_buckets, nearest_bucket, parse_bucket


@pytest.mark.parametrize(
    ("area", "step", "aspect"), [(4096, 8, 2.0), (65536, 16, 2.5), (2**20, 64, 4.0)]
)
def test_buckets_fit_area_step_and_aspect(area: int, step: int, aspect: float) -> None:
    buckets = make_buckets(area, step, aspect)
    sizes = {(b.height, b.width) for b in buckets}
    assert {(w, h) for h, w in sizes} == sizes
    for bucket in buckets:
        assert bucket.height % step == bucket.width % step == 0
        assert 0.5 * area < bucket.height * bucket.width <= area
        assert max(bucket.height, bucket.width) <= aspect * min(bucket.height, bucket.width)


def test_demo_buckets_are_the_documented_five() -> None:
    assert [b.name for b in make_buckets(4096, 8, 2.0)] == [
        "48x80",
        "56x72",
        "64x64",
        "72x56",
        "80x48",
    ]


def test_a_transpose_gets_the_transposed_bucket() -> None:
    buckets = make_buckets(2**20, 64, 4.0)
    rng = np.random.Generator(np.random.Philox(key=7))
    for height, width in rng.integers(100, 4000, size=(500, 2)).tolist():
        bucket = nearest_bucket(height, width, buckets)
        mirrored = nearest_bucket(width, height, buckets)
        if abs(np.log(height / width)) > 1e-9:
            assert (bucket.height, bucket.width) == (mirrored.width, mirrored.height)


def test_crop_loss_is_zero_at_equal_aspect_and_half_at_double() -> None:
    assert crop_loss(128, 128, Bucket(height=64, width=64)) == pytest.approx(0)
    assert crop_loss(128, 256, Bucket(height=64, width=64)) == pytest.approx(0.5)


def test_names_are_height_times_width() -> None:
    assert Bucket(height=48, width=80).name == "48x80"
    assert parse_bucket("48x80") == Bucket(height=48, width=80)


def test_an_area_below_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="area_px"):
        make_buckets(16, 8, 2.0)
