"""Plan batches as a pure function of (seed, bucket sizes, step): the data cursor is a number.

    bucket -> endless sequence: its samples in a new order every epoch, one epoch after another
           -> every `batch_size` consecutive items are one batch, so nothing is dropped and all
              batches are full; a bucket smaller than a batch waits until enough epochs are over
    epoch  -> the batches that become full in it, all buckets mixed in a new order

No state: any step can be asked for at once, so resuming at step 10^6 costs as much as at 0.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import make_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBatch:
    """Name the samples of one batch.

    Args:
        bucket: all samples are of this bucket.
        positions: [batch_size], int64, place of each sample in its bucket's sorted list.
        epochs: [batch_size], int64, how often the sample was met before; part of its draws' names.
    """

    bucket: str
    positions: NDArray[np.int64]
    epochs: NDArray[np.int64]


class BatchPlan:
    """Answer which samples a step trains on.

    Args:
        bucket_sizes: bucket name -> number of samples, all > 0.
        batch_size: samples a batch.
        seed: the run's seed.
    """

    def __init__(self, bucket_sizes: Mapping[str, int], batch_size: int, seed: int) -> None:
        self._sizes = dict(sorted(bucket_sizes.items()))
        self._batch_size = batch_size
        self._seed = seed
        # Two epochs of an order are alive at a time, since a batch may straddle them.
        self._order = functools.lru_cache(maxsize=2 * len(self._sizes) + 2)(self._make_order)
        self._schedule = functools.lru_cache(maxsize=2)(self._make_schedule)

    def batch(self, step: int) -> PlannedBatch:
        """Name the samples of a step, counted from 0."""
        epoch = self._epoch_of(step)
        bucket, index = self._schedule(epoch)[step - self._num_steps_before(epoch)]
        size = self._sizes[bucket]
        items = np.arange(index * self._batch_size, (index + 1) * self._batch_size)
        epochs, places = items // size, items % size
        positions = np.empty_like(items)
        for item_epoch in np.unique(epochs).tolist():
            chosen = epochs == item_epoch
            positions[chosen] = self._order(bucket, item_epoch)[places[chosen]]
        return PlannedBatch(bucket=bucket, positions=positions, epochs=epochs)

    def _num_batches_before(self, bucket: str, epoch: int) -> int:
        return epoch * self._sizes[bucket] // self._batch_size

    def _num_steps_before(self, epoch: int) -> int:
        return sum(self._num_batches_before(bucket, epoch) for bucket in self._sizes)

    def _epoch_of(self, step: int) -> int:
        # Rounding down only ever loses batches, so this first guess is never too late.
        epoch = step * self._batch_size // sum(self._sizes.values())
        while self._num_steps_before(epoch + 1) <= step:
            epoch += 1
        return epoch

    def _make_schedule(self, epoch: int) -> list[tuple[str, int]]:
        batches = [
            (bucket, index)
            for bucket in self._sizes
            for index in range(
                self._num_batches_before(bucket, epoch), self._num_batches_before(bucket, epoch + 1)
            )
        ]
        order = make_rng(self._seed, "batches", epoch).permutation(len(batches))
        return [batches[i] for i in order.tolist()]

    def _make_order(self, bucket: str, epoch: int) -> NDArray[np.int64]:
        return make_rng(self._seed, "order", bucket, epoch).permutation(self._sizes[bucket])
