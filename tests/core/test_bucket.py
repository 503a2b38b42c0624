"""The bucket of a picture is the nearest in log ratio, and a transpose's is its mirror image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from curate.core.bucket import (
    Bucket,
    crop_loss,
    nearest_bucket,
    nearest_buckets,
    parse_bucket,
)
from curate.core.bucket_rules import area_buckets

SQUARES = [Bucket(height=64, width=64), Bucket(height=128, width=128)]


def test_names_are_height_times_width() -> None:
    assert Bucket(height=48, width=80).name == "48x80"
    assert parse_bucket("48x80") == Bucket(height=48, width=80)


def test_the_nearest_is_the_one_a_logarithm_finds() -> None:
    buckets = area_buckets(1024, 64, 4.0)
    rng = np.random.Generator(np.random.Philox(key=3))
    for height, width in rng.integers(100, 4000, size=(300, 2)).tolist():
        found = nearest_bucket(height, width, buckets)
        target = math.log(width / height)
        distances = [abs(math.log(one.width / one.height) - target) for one in buckets]
        assert abs(math.log(found.width / found.height) - target) <= min(distances) + 1e-12


def test_many_are_chosen_as_one() -> None:
    buckets = area_buckets(512, 64, 2.0)
    sizes = np.random.Generator(np.random.Philox(key=4)).integers(50, 2000, size=(200, 2))
    found = nearest_buckets(sizes[:, 0], sizes[:, 1], buckets)
    assert [buckets[place] for place in found.tolist()] == [
        nearest_bucket(height, width, buckets) for height, width in sizes.tolist()
    ]


def test_a_tie_goes_to_the_squarer_then_the_larger_then_the_wider() -> None:
    wide = [Bucket(height=64, width=128), Bucket(height=64, width=512)]
    assert nearest_bucket(100, 400, wide).name == "64x128"  # exactly between 1:2 and 1:8
    assert nearest_bucket(400, 100, [bucket.mirrored for bucket in wide]).name == "128x64"
    assert nearest_bucket(500, 500, SQUARES).name == "128x128"
    assert nearest_bucket(500, 500, [parse_bucket("80x48"), parse_bucket("48x80")]).name == "48x80"


@pytest.mark.parametrize(
    ("side", "max_upscale", "name"), [(200, 1.0, "128x128"), (100, 1.0, "64x64"),
                                      (100, 1.3, "128x128"), (63, 1.0, None), (64, 1.0, "64x64")]
)  # fmt: skip
def test_a_bucket_that_would_enlarge_too_much_is_passed_over(
    side: int, max_upscale: float, name: str | None
) -> None:
    found = int(nearest_buckets(np.array([side]), np.array([side]), SQUARES, max_upscale)[0])
    assert (SQUARES[found].name if found >= 0 else None) == name


def test_crop_loss_is_zero_at_equal_aspect_and_half_at_double() -> None:
    assert crop_loss(128, 128, Bucket(height=64, width=64)) == pytest.approx(0)
    assert crop_loss(128, 256, Bucket(height=64, width=64)) == pytest.approx(0.5)
    assert crop_loss(200, 100, Bucket(height=64, width=64)) == pytest.approx(0.5)
