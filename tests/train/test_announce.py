"""Blocks of neighbours are announced once an epoch, when the first of them is coming."""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.core.record_files import LocalFiles
from train.announce import Announcer
from train.data import BatchReader, LatentSet
from train.mix import CaptionMix
from train.plan import PlannedBatch


class CountingFiles(LocalFiles):
    """Note what is announced."""

    def will_need(self, name: str, offset: int, length: int, /) -> None:
        self.said.append((name, offset, length))

    said: list[tuple[str, int, int]]


def test_a_block_is_announced_once_an_epoch(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 130})
    with LatentSet([(shards.store, 1.0)]) as data:
        (store,) = data.stores
        files = CountingFiles(shards.table_path("00000").parent)
        files.said = []
        store.files = files
        mix = CaptionMix(weights={"alt": 1.0}, dropout_frac=0.0)
        reader, announcer = BatchReader(data, data.plan(2, 0), mix, 0), Announcer(data.stores)

        def announce(positions: list[int], epoch: int) -> list[str]:
            files.said.clear()
            zeros = np.zeros(len(positions), np.int64)
            batch = PlannedBatch(
                step=0, bucket="64x64", sets=zeros, positions=np.array(positions),
                epochs=zeros + epoch,
            )  # fmt: skip
            announcer.announce(reader.visits(batch))
            return sorted(name for name, _, _ in files.said)

        both = ["00000.tar", "text-main/00000.tar"]
        assert announce([3, 40], 0) == both  # one block
        offsets = store.shard(0).members["moments"].offsets
        name, start, length = files.said[0]
        assert (name, start) == ("00000.tar", int(offsets[0]))
        assert start + length >= int(offsets[63]) + store.shard(0).members["moments"].num_bytes
        assert announce([5, 63], 0) == []
        assert announce([64, 129], 0) == sorted(2 * both)  # the second, and the short third
        assert announce([3, 63], 1) == both  # another epoch
