"""Say how buckets fill batches and what placing pictures in them cost, resolution by resolution.

tables of bucket -> samples, share cut off, enlargement of each bucket -> a table a resolution
tables of `_sizes` are not read: who was dropped, and why, stands in the funnel
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.batch_fill import BatchFill, BucketFill, fill_batches
from curate.core.shard import ShardSet
from eval.row_stream import read_parts

_COLUMNS = (
    "bucket", "resolution", "height", "width", "scaled_height", "scaled_width", "original_height",
)  # fmt: skip
_BINS = 1000  # of shares in [0, 1]; chosen by us: quantiles to 0.1 %, in 8 kB a bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRow:
    """Lay out one bucket.

    Args:
        fill: its samples and batches.
        crop_mean: mean share of the picture that is cut off.
        crop_p95: its 95th percentile, to 0.1 %.
        enlarged_frac: share of samples that were made larger.
        scale_max: the largest scale; above 1 is an enlargement.
    """

    fill: BucketFill
    crop_mean: float
    crop_p95: float
    enlarged_frac: float
    scale_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionTable:
    """Lay out the buckets of one resolution, largest bucket first."""

    resolution: int
    fill: BatchFill
    rows: Sequence[BucketRow]


@dataclass(slots=True)
class _Tally:
    num: int = 0
    crop_sum: float = 0.0
    crop_bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS + 1, np.int64))
    num_enlarged: int = 0
    scale_max: float = 0.0

    def add(self, crop: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self.num += len(crop)
        self.crop_sum += float(crop.sum())
        self.crop_bins += np.bincount(np.ceil(crop * _BINS).astype(int), minlength=_BINS + 1)
        self.num_enlarged += int((scale > 1).sum())
        self.scale_max = max(self.scale_max, float(scale.max()))

    def crop_quantile(self, share: float) -> float:
        """Give the least share, in whole bins, that so many samples do not exceed."""
        return int(np.searchsorted(self.crop_bins.cumsum(), share * self.num)) / _BINS


def measure_buckets(bucketed: ShardSet | None, batch_size: int) -> list[ResolutionTable]:
    """Measure all buckets; none without shards.

    Args:
        bucketed: shards of the stage bucket.
        batch_size: of the training that is meant.
    """
    tallies: dict[tuple[int, str], _Tally] = {}
    for part in read_parts(bucketed, _COLUMNS):
        _add(tallies, part)
    sizes: dict[int, Counter[str]] = {}
    for (resolution, bucket), tally in tallies.items():
        sizes.setdefault(resolution, Counter())[bucket] = tally.num
    return [
        _lay_out(resolution, counts, tallies, batch_size)
        for resolution, counts in sorted(sizes.items())
    ]


def describe_buckets(tables: Sequence[ResolutionTable]) -> list[list[str]]:
    """Give the rows of a table of text, with a heading."""
    heading = ["bucket", "samples", "batches", "lost by DropLast", "repeats", "crop mean", "p95",
               "scale max"]  # fmt: skip
    return [heading] + [
        [row.fill.bucket, f"{row.fill.num:,}", f"{row.fill.batches:,.1f}",
         f"{row.fill.num_lost:,}", f"{row.fill.repeats:.1f}", f"{row.crop_mean:.1%}",
         f"{row.crop_p95:.1%}", f"{row.scale_max:.2f}"]
        for table in tables
        for row in table.rows
    ]  # fmt: skip


def _add(tallies: dict[tuple[int, str], _Tally], part: pa.Table) -> None:
    """Add a shard's rows; it has one bucket only, as bucket writes them."""
    if not part.num_rows:
        return
    column: dict[str, NDArray[Any]] = {
        name: part[name].to_numpy().astype(np.float64) for name in _COLUMNS if name != "bucket"
    }
    kept = column["height"] * column["width"]
    crop = 1 - kept / (column["scaled_height"] * column["scaled_width"])
    scale = column["scaled_height"] / column["original_height"]
    place = (int(column["resolution"][0]), part["bucket"][0].as_py())
    tallies.setdefault(place, _Tally()).add(crop, scale)


def _lay_out(
    resolution: int,
    counts: Counter[str],
    tallies: dict[tuple[int, str], _Tally],
    batch_size: int,
) -> ResolutionTable:
    fill = fill_batches(dict(counts.most_common()), batch_size)
    rows: list[BucketRow] = []
    for one in fill.buckets:
        tally = tallies[resolution, one.bucket]
        rows.append(
            BucketRow(
                fill=one,
                crop_mean=tally.crop_sum / tally.num,
                crop_p95=tally.crop_quantile(0.95),
                enlarged_frac=tally.num_enlarged / tally.num,
                scale_max=tally.scale_max,
            )
        )
    return ResolutionTable(resolution=resolution, fill=fill, rows=rows)
