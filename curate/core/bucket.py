"""Build aspect-ratio buckets and choose one for a picture; used by bucket, train and sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Bucket:
    """Hold a training size in pixels."""

    height: int
    width: int

    @property
    def name(self) -> str:
        """Give "HEIGHTxWIDTH"."""
        return f"{self.height}x{self.width}"


def parse_bucket(name: str) -> Bucket:
    """Read "HEIGHTxWIDTH" back."""
    height, _, width = name.partition("x")
    return Bucket(height=int(height), width=int(width))


def make_buckets(area_px: int, step_px: int, max_aspect: float) -> list[Bucket]:
    """List sizes near one area, closed under transposition.

    Args:
        area_px: upper bound of height * width, in pixels.
        step_px: both sides are multiples of it.
        max_aspect: longest side over shortest side, at most.

    Returns:
        For every short side the longest side within the area, sorted; the square is included.

    Source: the generator idea of SDXL's table (area bound, multiples of 64; reference curation.md
    section 3), made mirror-symmetric: every size has its transpose.
    """
    square = int(math.sqrt(area_px)) // step_px * step_px
    if square < step_px:
        raise ValueError(f"area_px must be at least step_px squared, got {area_px} and {step_px}")
    sizes = {(square, square)}
    for short in range(step_px, square + 1, step_px):
        long = area_px // short // step_px * step_px
        if long >= short and long / short <= max_aspect:
            sizes |= {(short, long), (long, short)}
    return [Bucket(height=height, width=width) for height, width in sorted(sizes)]


def nearest_bucket(height: int, width: int, buckets: Sequence[Bucket]) -> Bucket:
    """Choose the bucket whose aspect ratio is nearest in log ratio; ties go to the first.

    Source: log-ratio distance treats a picture and its transpose alike, while nearest |w/h| sends
    5.8 % of random sizes to non-transposed buckets (measured, reference curation.md section 3).
    """
    target = math.log(width / height)
    return min(buckets, key=lambda bucket: abs(math.log(bucket.width / bucket.height) - target))


def crop_loss(height: int, width: int, bucket: Bucket) -> float:
    """Give the share of the picture's area that a centred cover crop loses, in [0, 1)."""
    scale = min(height / bucket.height, width / bucket.width)
    return 1.0 - bucket.height * bucket.width * scale * scale / (height * width)
