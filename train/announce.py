"""Announce what will be read soon, so that the disk works while the trainer does.

Small records are announced by blocks of 64 neighbours, the first time that one of them is coming:
they all come within one window of the plan, and a block is read twice as fast as its records one by
one (storage.md, section 2: 620 against 453 MB/s). Large records are announced each on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.blocks import BLOCK
from train.store import LatentStore
from train.visits import Visits

_MAX_BYTES = 16 << 10  # chosen by us: a block of larger records is over 1 MiB
_MAX_SEEN = 4096  # chosen by us: shards; where more are met, blocks may be announced again


class Announcer:
    """Tell the stores' files which ranges are coming.

    Args:
        stores: in the plan's order.
    """

    def __init__(self, stores: Sequence[LatentStore]) -> None:
        self._stores = stores
        self._epochs: dict[tuple[int, str], NDArray[np.int64]] = {}  # of each block's last time

    def announce(self, visits: Visits) -> None:
        """Announce the latents and captions of some visits."""
        if len(self._epochs) > _MAX_SEEN:
            self._epochs.clear()
        epochs = visits.picks.epochs
        for one in visits.latents:
            member = one.shard.members[one.member]
            self._announce_rows(
                one.owner, one.shard.tar, one.rows, epochs[one.places], member.offsets,
                member.num_bytes,
            )  # fmt: skip
        for one in (one for reads in visits.texts for one in reads):
            base = one.shard.base
            mean = (int(base[-1]) - int(base[0])) // max(len(base) - 1, 1)
            self._announce_rows(one.owner, one.shard.tar, one.rows, epochs[one.places], base, mean)

    def _announce_rows(
        self,
        owner: int,
        tar: str,
        rows: NDArray[np.int64],
        epochs: NDArray[np.int64],
        offsets: NDArray[np.uint64],
        num_bytes: int,
    ) -> None:
        """Announce records of one tar, each about so large: their blocks, or large ones alone."""
        files = self._stores[owner].files
        if num_bytes > _MAX_BYTES:
            for offset in offsets[rows].tolist():
                files.will_need(tar, offset, num_bytes)
            return
        for block in self._new_blocks(owner, tar, rows // BLOCK, epochs, len(offsets)):
            start = int(offsets[block * BLOCK])
            last = int(offsets[min((block + 1) * BLOCK, len(offsets)) - 1])
            files.will_need(tar, start, last + max(num_bytes, 1) - start)

    def _new_blocks(
        self, owner: int, tar: str, blocks: NDArray[np.int64], epochs: NDArray[np.int64], size: int
    ) -> list[int]:
        """Give the blocks that were not announced in their epoch yet."""
        at = owner, tar
        if at not in self._epochs:
            self._epochs[at] = np.full(-(-size // BLOCK), -1)
        seen = self._epochs[at]
        is_new = seen[blocks] != epochs
        if not is_new.any():
            return []
        seen[blocks] = epochs
        return np.unique(blocks[is_new]).tolist()
