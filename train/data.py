"""Open encoded stores and read planned batches: raw moments and text in, all a step needs out.

    stores + weights -> LatentSet   what there is: buckets, facts that must agree
                     -> plan()      train/plan.py: which samples a step takes
                     -> reader()    BatchReader: visits -> one slot filled by preadv -> RawBatch

A record that cannot be read, or whose digest differs, is replaced by the plan's spare, counted and
named in the log; shapes and counts stay. Not for reading ahead: see `train/loader.py`.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from curate.core.errors import DataError
from curate.core.store import Store
from train.announce import Announcer
from train.batches import RawBatch, RawText
from train.draws import Draws
from train.gather import Gathered, Gatherer
from train.mix import CaptionMix
from train.open_stores import open_stores
from train.plan import BatchPlan, PlannedBatch, PlanSet
from train.reading import ReadConfig, Wishes
from train.slot import Slot
from train.space import LatentSpace
from train.visits import Picks, Visitor, Visits

logger = logging.getLogger(__name__)

# Chosen by us: where sixteen records drawn from all of a bucket are bad, the store is.
_MAX_SPARES = 16


class BadRecord(NamedTuple):
    """Name a record that was replaced."""

    key: str
    reason: str


class LatentSet:
    """Open latent stores that are trained on together.

    Args:
        stores: (store, weight); a weight of 2 meets a store's samples twice as often.
        reading: how they are read.

    Raises:
        DataError: no sample to train on, or stores whose facts differ.
        ShardError: a damaged store.
    """

    def __init__(
        self, stores: Sequence[tuple[Store, float]], reading: ReadConfig | None = None
    ) -> None:
        self.reading = reading or ReadConfig()
        self.stores = open_stores([store for store, _ in stores], self.reading)
        self.space = LatentSpace.from_manifest(self.stores[0].manifest)
        self._weights = [weight for _, weight in stores]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for store in self.stores:
            store.files.close()

    def __len__(self) -> int:
        return sum(sum(store.sizes.values()) for store in self.stores)

    @property
    def bucket_sizes(self) -> dict[str, int]:
        """Give bucket name ("64x64", pixels) -> number of samples."""
        total: Counter[str] = Counter()
        for store in self.stores:
            total.update(store.sizes)
        return dict(sorted(total.items()))

    def plan(self, batch_size: int, seed: int, *, world_size: int = 1) -> BatchPlan:
        """Plan batches of these stores."""
        sets = [
            PlanSet(sizes=store.sizes, weight=weight, digest=store.digest)
            for store, weight in zip(self.stores, self._weights, strict=True)
        ]
        return BatchPlan(sets, batch_size, seed, world_size=world_size)


class BatchReader:
    """Read the batches of a plan; safe to use from threads, each with its own slot.

    Args:
        data: the stores.
        plan: made by `data.plan`.
        mix: which captions are drawn.
        seed: the run's seed.
        wishes: what a batch has.
    """

    def __init__(
        self,
        data: LatentSet,
        plan: BatchPlan,
        mix: CaptionMix,
        seed: int,
        wishes: Wishes | None = None,
    ) -> None:
        self.plan = plan
        self.bad: list[BadRecord] = []
        self._data = data
        self._wishes = wishes or Wishes()
        self._visitor = Visitor(
            data.stores,
            mix,
            seed,
            verify=data.reading.verify,
            with_flips=self._wishes.with_flips,
        )
        self._gatherer = Gatherer(data.stores, self._wishes)
        self._announcer = Announcer(data.stores)
        self._lock = threading.Lock()
        self._timestep, self._vae, self._noise = (
            Draws(seed, purpose) for purpose in ("timestep", "vae", "noise")
        )

    @property
    def counts(self) -> Counter[str]:
        """Count "other_caption", "without_caption" and "bad_record" so far."""
        return self._visitor.counts + Counter(bad_record=len(self.bad))

    def visits(self, planned: PlannedBatch) -> Visits:
        """Find the records of a planned batch."""
        shards, rows = np.empty_like(planned.positions), np.empty_like(planned.positions)
        for owner, store in enumerate(self._data.stores):
            places = planned.sets == owner
            if places.any():
                located = store.buckets[planned.bucket].locate(planned.positions[places])
                shards[places], rows[places] = located
        return self._visitor.visit(
            Picks(owners=planned.sets, shards=shards, rows=rows, epochs=planned.epochs)
        )

    def announce(self, visits: Visits) -> None:
        """Say that these will be read soon."""
        self._announcer.announce(visits)

    def read(self, planned: PlannedBatch, slot: Slot, visits: Visits | None = None) -> RawBatch:
        """Read a batch into a slot.

        Raises:
            DataError: more bad records than `reading.max_bad`.
            ShardError: a shard is absent or damaged as a whole.
        """
        chosen = self.visits(planned) if visits is None else visits
        for attempt in range(_MAX_SPARES):
            gathered, faults = self._gatherer.gather(chosen, slot)
            if not faults:
                return self._assemble(planned, chosen, gathered, slot)
            picks = chosen.picks
            for place, reason in sorted(faults.items()):
                self._note(chosen.keys[place].tobytes().hex(), reason)
                picks = picks.with_pick(place, *self._spare(planned, place, attempt))
            chosen = self._visitor.visit(picks)
        raise DataError(
            f"step {planned.step}: must find whole records in bucket {planned.bucket}, got "
            f"{_MAX_SPARES} bad ones in a row; run `curate verify`"
        )

    def _spare(self, planned: PlannedBatch, place: int, attempt: int) -> tuple[int, int]:
        """Give the shard and row of the record that stands in for a bad one."""
        rows = self._data.stores[int(planned.sets[place])].buckets[planned.bucket]
        position = np.array([self.plan.spare(planned, place, attempt)])
        (shard,), (row,) = rows.locate(position)
        return int(shard), int(row)

    def _note(self, key: str, reason: str) -> None:
        with self._lock:
            self.bad.append(BadRecord(key, reason))
            count = len(self.bad)
        logger.warning("record %s is bad and another is shown in its place: %s", key, reason)
        if count > self._data.reading.max_bad:
            raise DataError(
                f"train.reading.max_bad: at most {self._data.reading.max_bad} bad records are "
                f"replaced, got {count}, the last one {key}: {reason}; run `curate verify`, then "
                "encode again or list them in excluded.jsonl"
            )

    def _assemble(
        self, planned: PlannedBatch, visits: Visits, gathered: Gathered, slot: Slot
    ) -> RawBatch:
        facts = self._data.stores[0].manifest
        latents = gathered.latents
        shape = (len(latents), facts.latents.channels, *latents.shape[2:])
        numbers = visits.numbers
        has_posterior = self._wishes.with_noise and facts.latents.member == "moments"
        return RawBatch(
            step=planned.step,
            bucket=planned.bucket,
            key_bytes=visits.keys,
            sources=tuple(visits.sources),
            flipped=tuple(visits.flipped.tolist()),
            latents=torch.from_numpy(latents),
            texts={
                text.name: RawText(
                    form=text.form,
                    tokens=torch.from_numpy(arrays.tokens),
                    lengths=torch.from_numpy(arrays.lengths),
                    pooled=torch.from_numpy(arrays.pooled),
                )
                for text, arrays in zip(facts.texts, gathered.texts, strict=True)
            },
            features={name: torch.from_numpy(a) for name, a in gathered.features.items()},
            uniform=torch.from_numpy(self._timestep.uniform(numbers)),
            posterior=_normal(self._vae, numbers, slot, "vae", shape) if has_posterior else None,
            noise=_normal(self._noise, numbers, slot, "noise", shape)
            if self._wishes.with_noise
            else None,
        )


def _normal(
    draws: Draws, numbers: NDArray[np.uint64], slot: Slot, what: str, shape: tuple[int, ...]
) -> torch.Tensor:
    array = slot.array(what, shape, np.float32)
    draws.fill_normal(numbers, array)
    return torch.from_numpy(array)
