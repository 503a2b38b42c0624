"""Say how well buckets fill batches: what other trainers would drop, and what recurs here.

A trainer that makes whole batches of one bucket's samples and drops the rest of each epoch
(DropLast) never sees a bucket smaller than a batch. Here a bucket is an endless shuffled sequence
(`train/plan.py`): nothing is dropped, a small bucket waits for its turn and recurs in its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFill:
    """Say how one bucket fills batches.

    Args:
        bucket: its name.
        num: its samples.
        batch_size: samples a batch.
    """

    bucket: str
    num: int
    batch_size: int

    @property
    def batches(self) -> float:
        """Give the batches of an epoch; of an endless sequence the mean."""
        return self.num / self.batch_size

    @property
    def num_lost(self) -> int:
        """Give the samples of an epoch that DropLast would not train on."""
        return self.num % self.batch_size

    @property
    def repeats(self) -> float:
        """Give how often a sample is in one batch, on average; 1 where the bucket fills one."""
        return max(1.0, self.batch_size / self.num)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFill:
    """Sum up how the buckets of one training fill batches; ordered as they were given."""

    buckets: tuple[BucketFill, ...]

    @property
    def num(self) -> int:
        """Give the samples of all buckets."""
        return sum(one.num for one in self.buckets)

    @property
    def batches(self) -> float:
        """Give the batches of an epoch."""
        return sum(one.batches for one in self.buckets)

    @property
    def lost_frac(self) -> float:
        """Give the share of an epoch's samples that DropLast would not train on, in [0, 1]."""
        return sum(one.num_lost for one in self.buckets) / self.num

    @property
    def small(self) -> tuple[BucketFill, ...]:
        """Give the buckets that do not fill a batch: DropLast never trains on them."""
        return tuple(one for one in self.buckets if one.num < one.batch_size)


def fill_batches(sizes: Mapping[str, int], batch_size: int) -> BatchFill:
    """Work out how buckets fill batches.

    Args:
        sizes: bucket -> samples, > 0; at least one.
        batch_size: samples a batch, over all ranks.
    """
    return BatchFill(
        buckets=tuple(
            BucketFill(bucket=bucket, num=num, batch_size=batch_size)
            for bucket, num in sizes.items()
        )
    )
