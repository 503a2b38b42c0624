"""Hold training sizes and choose the one whose aspect ratio is nearest to a picture's.

Which sizes there are is a rule's matter (`core/bucket_rules.py`); where a picture is cut, the
placement's (`core/placement.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Bucket:
    """Hold a training size in pixels."""

    height: int
    width: int

    @property
    def name(self) -> str:
        """Give "HEIGHTxWIDTH"."""
        return f"{self.height}x{self.width}"

    @property
    def area(self) -> int:
        """Give height * width, in pixels."""
        return self.height * self.width

    @property
    def mirrored(self) -> Bucket:
        """Give the size of the transposed picture."""
        return Bucket(height=self.width, width=self.height)


def parse_bucket(name: str) -> Bucket:
    """Read "HEIGHTxWIDTH" back.

    Raises:
        ValueError: the text has another form.
    """
    height, _, width = name.partition("x")
    return Bucket(height=int(height), width=int(width))


def nearest_bucket(height: int, width: int, buckets: Sequence[Bucket]) -> Bucket:
    """Choose the bucket whose aspect ratio is nearest in log ratio, as `nearest_buckets` does."""
    found = nearest_buckets(np.array([height]), np.array([width]), buckets)
    return buckets[int(found[0])]


def nearest_buckets(
    heights: NDArray[np.integer],
    widths: NDArray[np.integer],
    buckets: Sequence[Bucket],
    max_upscale: float = float("inf"),
) -> NDArray[np.int64]:
    """Choose for many pictures the bucket nearest in log ratio among those they can fill.

    Of buckets equally near the one nearer to the square is taken, then the larger, then the wider:
    so a picture and its transpose get a bucket and its mirror image, wherever the list has both
    and the picture is no square between the two.

    Args:
        heights: [N], pixels, > 0.
        widths: [N], likewise.
        buckets: any order, at least one.
        max_upscale: how much a picture may be enlarged to cover its bucket; 1 is not at all.

    Returns:
        [N], places in `buckets`; -1 where none can be filled. Memory is 24 B * N * buckets.

    Source: log-ratio distance treats a picture and its transpose alike, while nearest |w/h| sends
    5.8 % of random sizes to non-transposed buckets (measured, reference curation.md section 3).
    """
    order = sorted(range(len(buckets)), key=lambda place: _preference(buckets[place]))
    bucket_heights = np.array([buckets[place].height for place in order], np.float64)
    bucket_widths = np.array([buckets[place].width for place in order], np.float64)
    tall = heights[:, None] * bucket_widths  # [N, B]
    wide = widths[:, None] * bucket_heights
    # exp(|log ratio|) by one division, which IEEE 754 rounds alike everywhere, unlike a logarithm:
    # equal distances are equal numbers, and ties fall the same way on every machine.
    distance = np.maximum(tall, wide) / np.minimum(tall, wide)
    fits = (heights[:, None] * max_upscale >= bucket_heights) & (
        widths[:, None] * max_upscale >= bucket_widths
    )
    distance[~fits] = np.inf
    nearest = distance.argmin(axis=1)
    return np.where(fits.any(axis=1), np.array(order)[nearest], -1)


def crop_loss(height: int, width: int, bucket: Bucket) -> float:
    """Give the share of the picture's area that a cover crop loses, in [0, 1).

    It is 1 - 1 / exp(|log ratio|): the nearest bucket is the one that loses least.
    """
    tall, wide = height * bucket.width, width * bucket.height
    return 1.0 - min(tall, wide) / max(tall, wide)


def _preference(bucket: Bucket) -> tuple[float, int, int]:
    """Order buckets that are equally near: square before long, large before small, then wide."""
    sides = sorted((bucket.height, bucket.width))
    return sides[1] / sides[0], -bucket.area, bucket.height
