"""Place pictures in buckets: which bucket, resized to what, cut where; from sizes and keys alone.

    (height, width) -> bucket -> scaled size that covers it -> crop offset along the free axis

The plan of `bucket`, its pixels and whoever wants to see the same crop (`recaption`) call the same
pure functions. A smart crop also looks at the pixels: `core/smart_crop.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.core.bucket import Bucket, nearest_buckets
from curate.core.geometry import Geometry, list_buckets
from curate.core.schema import OK
from curate.core.seed import derive_seed

CROP_LOSS, UPSCALE = "crop_loss", "upscale"
STATUSES = (OK, CROP_LOSS, UPSCALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Say where a picture goes: resized as a whole, then cut; and why it may not.

    Args:
        status: "ok", "crop_loss" or "upscale".
        bucket: the size after the cut; of a picture that is not placed, the nearest.
        resolution: the S it was chosen for.
        original_height: of the picture as decoded, pixels.
        original_width: likewise.
        scaled_height: after the resize, before the cut, pixels; at least the bucket's.
        scaled_width: likewise; one of the two equals the bucket's.
        crop_top: of the window in the resized picture, pixels.
        crop_left: likewise.
    """

    status: str
    bucket: Bucket
    resolution: int
    original_height: int
    original_width: int
    scaled_height: int
    scaled_width: int
    crop_top: int
    crop_left: int

    @property
    def box_top(self) -> float:
        """Give the window's top in the original, pixels."""
        return self.crop_top * self.original_height / self.scaled_height

    @property
    def box_left(self) -> float:
        """Give the window's left in the original, pixels."""
        return self.crop_left * self.original_width / self.scaled_width

    @property
    def box_height(self) -> float:
        """Give the window's height in the original, pixels."""
        return self.bucket.height * self.original_height / self.scaled_height

    @property
    def box_width(self) -> float:
        """Give the window's width in the original, pixels."""
        return self.bucket.width * self.original_width / self.scaled_width

    @property
    def size_ids(self) -> tuple[int, int, int, int, int, int]:
        """Give SDXL's conditioning: original size, crop's top left, target size; height first.

        Source: diffusers, `StableDiffusionXLPipeline._get_add_time_ids`: original_size +
        crops_coords_top_left + target_size; the crop is counted in the resized picture (Podell et
        al. 2023, algorithm 1).
        """
        return (
            self.original_height, self.original_width, self.crop_top, self.crop_left,
            self.bucket.height, self.bucket.width,
        )  # fmt: skip

    def move_to(self, fraction: float) -> Placement:
        """Shift the window along the axis that is cut.

        Args:
            fraction: 0 for the top or left end, 1 for the other.
        """
        return replace(
            self,
            crop_top=_offset(self.scaled_height - self.bucket.height, fraction),
            crop_left=_offset(self.scaled_width - self.bucket.width, fraction),
        )


def place(
    key: str, height: int, width: int, geometry: Geometry, resolution: int, seed: int
) -> Placement:
    """Place one picture; a smart crop starts at the centre (`smart_crop.place_picture` moves it).

    Args:
        key: of the sample; decides a random crop, alike for all resolutions.
        height: of the picture as decoded, upright, pixels.
        width: likewise.
        geometry: the sizes and limits.
        resolution: one of the geometry's.
        seed: the run's seed.
    """
    buckets = list_buckets(geometry, resolution)
    chosen, status = choose_buckets(np.array([height]), np.array([width]), geometry, resolution)
    bucket = buckets[int(chosen[0])]
    scaled_height, scaled_width = cover_size(height, width, bucket)
    placement = Placement(
        status=STATUSES[int(status[0])],
        bucket=bucket,
        resolution=resolution,
        original_height=height,
        original_width=width,
        scaled_height=scaled_height,
        scaled_width=scaled_width,
        crop_top=(scaled_height - bucket.height) // 2,
        crop_left=(scaled_width - bucket.width) // 2,
    )
    if geometry.crop == "random":
        return placement.move_to(derive_seed(seed, "crop", key) / 2**64)
    return placement


def choose_buckets(
    heights: NDArray[np.integer],
    widths: NDArray[np.integer],
    geometry: Geometry,
    resolution: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the buckets of many pictures and say which of them may not go there.

    A picture goes to the nearest bucket that it fills without being enlarged too much. If that one
    (or none) cuts off too much, the nearest of all says why: it asks for the same cut, or for more
    pixels than there are.

    Returns:
        Places in `list_buckets`, [N], and places in `STATUSES`, [N].
    """
    buckets = list_buckets(geometry, resolution)
    fitting = nearest_buckets(heights, widths, buckets, geometry.max_upscale)
    nearest = nearest_buckets(heights, widths, buckets)
    fits = (fitting >= 0) & (
        _crop_losses(heights, widths, buckets, fitting) <= geometry.max_crop_frac
    )
    cuts_much = _crop_losses(heights, widths, buckets, nearest) > geometry.max_crop_frac
    status = np.where(fits, 0, np.where(cuts_much, 1, 2))
    return np.where(fits, fitting, nearest), status


def cover_size(height: int, width: int, bucket: Bucket) -> tuple[int, int]:
    """Give the size of a picture resized to just cover a bucket, (height, width) in pixels."""
    if bucket.height * width >= bucket.width * height:
        return bucket.height, max(bucket.width, _divide(width * bucket.height, height))
    return max(bucket.height, _divide(height * bucket.width, width)), bucket.width


def _divide(numerator: int, denominator: int) -> int:
    """Divide and round half up, in whole numbers."""
    return (2 * numerator + denominator) // (2 * denominator)


def _offset(slack: int, fraction: float) -> int:
    """Give one of the slack + 1 places of a window, all as likely for a uniform fraction."""
    return min(slack, int(fraction * (slack + 1)))


def _crop_losses(
    heights: NDArray[np.integer],
    widths: NDArray[np.integer],
    buckets: Sequence[Bucket],
    chosen: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Give the share of each picture that its bucket cuts off, as `bucket.crop_loss`."""
    tall = heights * np.array([bucket.width for bucket in buckets])[chosen]
    wide = widths * np.array([bucket.height for bucket in buckets])[chosen]
    return 1.0 - np.minimum(tall, wide) / np.maximum(tall, wide)
