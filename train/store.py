"""Open one latent store for training: which record is the n-th of a bucket, and where it lies.

manifest.json -> buckets: shards in order, samples before each   (16 bytes a shard)
excluded.jsonl -> places that the plan passes over
NNNNN.idx      -> opened at the first touch of a shard, checked, mapped, some kept; made if lost
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import DataError, ShardError
from curate.core.latent_column import KEY_BYTES
from curate.core.latent_manifest import LatentManifest
from curate.core.rebuild_index import rebuild_index
from curate.core.record_files import RecordFiles
from curate.core.record_index import SUFFIX
from curate.core.record_reader import (
    ArrayShard,
    CaptionShard,
    check_keys,
    open_arrays,
    open_captions,
)
from curate.core.store import LocalStore, Store

logger = logging.getLogger(__name__)

EXCLUDED = "excluded.jsonl"
OPEN_SHARDS = 4096  # chosen by us: mapped indexes; the kernel allows 65,530 maps a process


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRows:
    """Hold where a bucket's samples lie.

    Args:
        shards: [S], int64, places in the manifest's list.
        starts: [S + 1], int64, samples before each shard.
        passed: [E], int64, excluded samples, sorted, each less the number of those before it.
    """

    shards: NDArray[np.int64]
    starts: NDArray[np.int64]
    passed: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Give the number of samples that may be met."""
        return int(self.starts[-1]) - len(self.passed)

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the shard and the row in it of each position."""
        if len(self.passed):
            positions = positions + np.searchsorted(self.passed, positions, side="right")
        places = np.searchsorted(self.starts, positions, side="right") - 1
        return self.shards[places], positions - self.starts[places]


class LatentStore:
    """Open a store.

    Args:
        store: the folder, local or remote.
        files: reads its tars.

    Raises:
        DataError: no manifest, or no sample.
        ShardError: a damaged manifest or list of excluded samples.
    """

    def __init__(self, store: Store, files: RecordFiles) -> None:
        self.manifest = LatentManifest.load(store)
        self.files = files
        self.url = store.url
        self._store = store
        self.shard = functools.lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)
        self.captions = functools.lru_cache(maxsize=OPEN_SHARDS)(self._open_captions)
        self.feature = functools.lru_cache(maxsize=OPEN_SHARDS)(self._open_feature)
        said = store.read(EXCLUDED) if store.exists(EXCLUDED) else b""
        self.buckets = self._list_buckets(self._find_excluded(said))
        self.has_text = [entry.has_text for entry in self.manifest.shards]
        self.names = [entry.name for entry in self.manifest.shards]
        self._places = {name: place for place, name in enumerate(self.names)}
        self.digest = hashlib.sha256(self.manifest.to_json().encode() + said).hexdigest()
        if not self.buckets:
            raise DataError(
                f"{self.url}: must hold at least one encoded sample, got 0; see its reasons "
                "with `curate show stage=filter`"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Give bucket name ("64x64", pixels) -> number of samples."""
        return {name: rows.size for name, rows in self.buckets.items()}

    def place_of(self, name: str) -> int:
        """Give a shard's place in the manifest's list.

        Raises:
            ShardError: the manifest does not list it.
        """
        if name not in self._places:
            raise ShardError(
                f"{self.url}: must list shard {name}, where captions of other shards lie, got a "
                "manifest without it; run encode again"
            )
        return self._places[name]

    def _open_shard(self, number: int) -> ArrayShard:
        entry = self.manifest.shards[number]
        self._find_index(f"{entry.name}.tar")
        shard = open_arrays(self._store, self.files, entry.name)
        if shard.num_records != entry.num_samples:
            raise ShardError(
                f"{self.url}/{shard.tar}: must have the manifest's {entry.num_samples} samples, "
                f"got {shard.num_records}; run encode again"
            )
        if entry.has_text:
            for text in range(len(self.manifest.texts)):
                check_keys(shard, self.captions(text, entry.name))
        return shard

    def _open_captions(self, text: int, name: str) -> CaptionShard:
        folder = self.manifest.texts[text].folder
        self._find_index(f"{folder}/{name}.tar")
        return open_captions(self._store, self.files, f"{folder}/{name}")

    def _open_feature(self, name: str, number: int) -> ArrayShard:
        place = f"{name}/{self.manifest.shards[number].name}"
        self._find_index(f"{place}.tar")
        shard = open_arrays(self._store, self.files, place)
        if not np.array_equal(shard.keys, self.shard(number).keys):
            raise ShardError(
                f"{self.url}/{shard.tar}: must have the keys of the latents in the same order, "
                "got others; run encode again"
            )
        return shard

    def _find_index(self, tar: str) -> None:
        """Make the index of a local tar that has lost it."""
        name = tar.removesuffix(".tar") + SUFFIX
        if not isinstance(self._store, LocalStore) or self._store.exists(name):
            return
        if self._store.exists(tar):
            logger.warning("%s/%s was missing and is made again", self.url, name)
            rebuild_index(self._store.folder, self.manifest, tar)

    def _list_buckets(self, excluded: Sequence[tuple[int, int]]) -> dict[str, BucketRows]:
        shards = self.manifest.shards
        names = sorted({entry.bucket for entry in shards})
        found: dict[str, BucketRows] = {}
        for name in names:
            numbers = [i for i, entry in enumerate(shards) if entry.bucket == name]
            starts = np.cumsum([0, *(shards[i].num_samples for i in numbers)])
            place = {number: int(starts[i]) for i, number in enumerate(numbers)}
            passed = np.array(
                sorted({place[number] + row for number, row in excluded if number in place}),
                np.int64,
            )
            rows = BucketRows(
                shards=np.array(numbers, np.int64),
                starts=starts,
                passed=passed - np.arange(len(passed)),
            )
            if rows.size:
                found[name] = rows
        return found

    def _find_excluded(self, said: bytes) -> list[tuple[int, int]]:
        """Find the records of excluded keys: (shard, row)."""
        try:
            lines = [json.loads(line) for line in said.splitlines() if line.strip()]
            wanted = {bytes.fromhex(line["key"]) for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f'{self.url}/{EXCLUDED}: each line must be like {{"key": "..."}}, got {error!r}; '
                "correct it"
            ) from error
        found: list[tuple[int, int]] = []
        for number in range(len(self.manifest.shards) if wanted else 0):
            # Fixed-length strings are compared padded with zeros, so whole keys are.
            keys = np.frombuffer(self.shard(number).keys, f"S{KEY_BYTES}")
            rows = np.flatnonzero(np.isin(keys, np.array(list(wanted), keys.dtype)))
            found += [(number, row) for row in rows.tolist()]
        return found
