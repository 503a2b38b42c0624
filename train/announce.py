"""Announce what will be read soon, so that the disk works while the trainer does.

Small records are announced by blocks of 64 neighbours, the first time that one of them is coming:
they all come within one window of the plan, and a block is read twice as fast as its records one by
one (storage.md, section 2: 620 against 453 MB/s). Large records are announced each on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from curate.core.record_files import RecordFiles
from train.blocks import BLOCK
from train.store import LatentStore
from train.visits import Showing, Visit

_MAX_BYTES = 16 << 10  # chosen by us: a block of larger records is over 1 MiB
_MAX_SEEN = 1 << 16  # chosen by us: blocks of 30 windows; those forgotten are announced again


class Announcer:
    """Tell the stores' files which ranges are coming.

    Args:
        stores: in the plan's order.
    """

    def __init__(self, stores: Sequence[LatentStore]) -> None:
        self._stores = stores
        self._seen: set[tuple[int, str, int, bytes]] = set()

    def announce(self, visits: Sequence[Visit]) -> None:
        """Announce the latents and captions of some visits."""
        if len(self._seen) > _MAX_SEEN:
            self._seen.clear()
        for visit in visits:
            files = self._stores[visit.owner].files
            self._announce_latents(files, visit)
            for showing in visit.showings:
                if showing:
                    self._announce_caption(files, showing, visit)

    def _announce_latents(self, files: RecordFiles, visit: Visit) -> None:
        offsets, size = visit.member.offsets, visit.member.num_bytes
        if size > _MAX_BYTES:
            files.will_need(visit.tar, offsets[visit.row], size)
        elif self._is_new(visit, visit.tar, visit.row):
            first = visit.row // BLOCK * BLOCK
            last = min(first + BLOCK, len(offsets)) - 1
            files.will_need(visit.tar, offsets[first], offsets[last] + size - offsets[first])

    def _announce_caption(self, files: RecordFiles, showing: Showing, visit: Visit) -> None:
        base, tar = showing.shard.base, showing.shard.tar
        start, end = showing.row, min(showing.row + 1, len(base) - 1)
        if base[end] - base[start] <= _MAX_BYTES:  # else the sample's captions are long
            if not self._is_new(visit, tar, showing.row):
                return
            start = start // BLOCK * BLOCK
            end = min(start + BLOCK, len(base) - 1)
        files.will_need(tar, base[start], max(base[end] - base[start], 1))

    def _is_new(self, visit: Visit, tar: str, row: int) -> bool:
        block = visit.owner, tar, row // BLOCK, visit.name[-8:]  # an epoch's
        if block in self._seen:
            return False
        self._seen.add(block)
        return True
