"""Plan batches as a pure function of (sizes, weights, batch size, seed, step): no state to keep.

    step            -> bucket and number of its batch   rounds.py, in proportion to size * weight
    item of a batch -> data set and item of it          rounds.py again, where sets are mixed
    item of a set   -> sample and epoch                 blocks.py, an endless shuffled sequence

No state: any step can be asked for at once, so resuming at step 10^9 costs as much as at 0. Every
rank plans the same global batch and takes its part of it, so bucket, shape and number of steps
agree by construction, and the world may grow or shrink between two steps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError
from curate.core.seed import derive_seed
from train.blocks import EndlessOrder
from train.rounds import MAX_TURNS, Rounds

logger = logging.getLogger(__name__)

# Raised when the same input would give another plan.
PLAN_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSet:
    """Describe one data set to the plan.

    Args:
        sizes: bucket -> number of samples, all > 0.
        weight: how often its samples are met, relative to those of other sets; > 0.
        digest: names its content in the plan's digest.
    """

    sizes: Mapping[str, int]
    weight: float = 1.0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBatch:
    """Name the samples of one batch, or of a part of it.

    Args:
        step: of the batch.
        bucket: all samples are of this bucket.
        first: place of the part in the global batch.
        sets: [B], int64, the data set of each sample.
        positions: [B], int64, place of each sample in its set's bucket.
        epochs: [B], int64, how often the sample was met before; part of its draws' names.
    """

    step: int
    bucket: str
    first: int = 0
    sets: NDArray[np.int64]
    positions: NDArray[np.int64]
    epochs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, number: int, num_parts: int) -> PlannedBatch:
        """Give one of equal parts: a rank's, or a micro-batch's of it.

        Raises:
            ConfigError: the batch is not divisible.
        """
        check_divisible(len(self), num_parts)
        size = len(self) // num_parts
        chosen = slice(number * size, (number + 1) * size)
        return PlannedBatch(
            step=self.step,
            bucket=self.bucket,
            first=self.first + number * size,
            sets=self.sets[chosen],
            positions=self.positions[chosen],
            epochs=self.epochs[chosen],
        )


class BatchPlan:
    """Answer which samples a step trains on.

    Args:
        sets: data sets to mix; one for a plain run.
        batch_size: samples a step, over all ranks.
        seed: the run's seed.
        world_size: ranks times micro-batches that a batch is cut into; changes no batch.

    Raises:
        ConfigError: the batch is not divisible, or a weight is not above 0.
        DataError: there is no sample.
    """

    def __init__(
        self, sets: Sequence[PlanSet], batch_size: int, seed: int, *, world_size: int = 1
    ) -> None:
        check_divisible(batch_size, world_size)
        self._sets = tuple(sets)
        self._batch_size = batch_size
        self._seed = seed
        weights = _whole_numbers([one.weight for one in sets])
        self.buckets = tuple(sorted({name for one in sets for name in one.sizes}))
        if not self.buckets:
            raise DataError("train: must have samples to train on, got none; run encode first")
        self._owners = {
            bucket: [i for i, one in enumerate(sets) if bucket in one.sizes]
            for bucket in self.buckets
        }
        self._orders = {
            (i, bucket): EndlessOrder(size, seed, i, bucket)
            for i, one in enumerate(sets)
            for bucket, size in one.sizes.items()
        }
        rates = {
            (i, bucket): weights[i] * size
            for i, one in enumerate(sets)
            for bucket, size in one.sizes.items()
        }
        sums = [sum(rates[i, bucket] for i in self._owners[bucket]) for bucket in self.buckets]
        num_samples = sum(order.size for order in self._orders.values())
        # Short rounds for small sets: an epoch of theirs is then even in itself.
        num_turns = min(MAX_TURNS, max(1, -(-num_samples // batch_size)))
        self._steps = Rounds(sums, num_turns, seed, "steps")
        self._items = {
            bucket: Rounds(
                [rates[i, bucket] for i in owners],
                min(MAX_TURNS, sum(sets[i].sizes[bucket] for i in owners)),
                seed,
                "items",
                bucket,
            )
            for bucket, owners in self._owners.items()
            if len(owners) > 1
        }

    def batch(self, step: int) -> PlannedBatch:
        """Name the samples of a step, counted from 0."""
        turn = self._steps.turns(step, 1)
        bucket = self.buckets[int(turn.parties[0])]
        first = int(turn.indices[0]) * self._batch_size
        if bucket not in self._items:
            (owner,) = self._owners[bucket]
            positions, epochs = self._orders[owner, bucket].items(first, self._batch_size)
            sets = np.full(self._batch_size, owner)
        else:
            sets, positions, epochs = self._mixed(bucket, first)
        return PlannedBatch(step=step, bucket=bucket, sets=sets, positions=positions, epochs=epochs)

    def spare(self, planned: PlannedBatch, place: int, attempt: int) -> int:
        """Name the sample that stands in for a bad one: a position in the same set's bucket."""
        owner = int(planned.sets[place])
        size = self._sets[owner].sizes[planned.bucket]
        return _draw_below(
            size, self._seed, planned.bucket, planned.step, planned.first + place, attempt
        )

    def repeats(self) -> dict[str, float]:
        """Give bucket -> times a batch is larger than it, for buckets smaller than a batch."""
        found: dict[str, float] = {}
        for bucket, owners in self._owners.items():
            size = sum(self._sets[i].sizes[bucket] for i in owners)
            if size < self._batch_size:
                found[bucket] = self._batch_size / size
        return found

    def digest(self) -> str:
        """Name the plan: equal digests mean equal batches at every step, on every rank."""
        said = {
            "version": PLAN_VERSION,
            "sets": [[dict(s.sizes), str(s.weight), s.digest] for s in self._sets],
            "batch_size": self._batch_size,
            "seed": self._seed,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _mixed(
        self, bucket: str, first: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        turns = self._items[bucket].turns(first, self._batch_size)
        positions = np.empty(self._batch_size, np.int64)
        epochs = np.empty(self._batch_size, np.int64)
        owners = self._owners[bucket]
        for party, owner in enumerate(owners):
            chosen = turns.parties == party
            indices = turns.indices[chosen]  # consecutive, for a party's turns are numbered in time
            if len(indices):
                order = self._orders[owner, bucket]
                positions[chosen], epochs[chosen] = order.items(int(indices[0]), len(indices))
        return np.array(owners, np.int64)[turns.parties], positions, epochs


def check_divisible(batch_size: int, num_parts: int) -> None:
    """Refuse a batch that ranks and micro-batches cannot share evenly.

    Raises:
        ConfigError: it is not divisible.
    """
    if batch_size % num_parts:
        raise ConfigError(
            f"train.batch_size: must be divisible by ranks times micro-batches, got {batch_size} "
            f"for {num_parts}; choose a multiple of {num_parts}"
        )


def report_repeats(plan: BatchPlan) -> None:
    """Warn of buckets that are smaller than a batch: the same sample is in one batch again."""
    for bucket, times in plan.repeats().items():
        logger.warning(
            "train: bucket %s is smaller than a batch, every sample is %.1f times in each of its "
            "batches; lower train.batch_size or merge buckets",
            bucket,
            times,
        )


def _whole_numbers(weights: Sequence[float]) -> list[int]:
    """Bring weights to whole numbers in the same proportion, as they are written in decimal."""
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"train: a data set's weight must be > 0, got {weight}; leave it out")
    fractions = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    return [int(fraction * scale) for fraction in fractions]


def _draw_below(limit: int, seed: int, *names: str | int) -> int:
    return derive_seed(seed, "spare", *names) % limit
