from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ShardError
from curate.core.record_files import LocalFiles
from curate.core.record_reader import (
    MAX_GAP,
    check_keys,
    open_arrays,
    open_captions,
    read_ranges,
    read_records,
)
from curate.core.store import LocalStore
from tests.core.latent_columns import (
    SHAPE,
    captions_of,
    keys,
    moments,
    write_arrays,
    write_captions,
)


class CountedFiles(LocalFiles):
    """Count system calls."""

    num_reads = 0

    def preadv(self, name: str, offset: int, buffers: Sequence[memoryview], /) -> None:
        self.num_reads += 1
        super().preadv(name, offset, buffers)


def no_fault(place: int, reason: str) -> None:
    raise AssertionError(f"{place}: {reason}")


def test_records_are_read_where_the_index_says(tmp_path: Path) -> None:
    write_arrays(tmp_path, count=5)
    files = CountedFiles(tmp_path)
    shard = open_arrays(LocalStore(tmp_path), files, "00000")
    member = shard.members["moments"]
    assert (shard.num_records, member.shape, member.dtype) == (5, SHAPE, np.float16)
    out = np.empty((5, *SHAPE), np.float16)
    rows = [out[i].reshape(-1).view(np.uint8).data for i in range(5)]
    read_ranges(files, [(shard.tar, member.offsets[i], rows[i], i) for i in range(5)], no_fault)
    for i, key in enumerate(keys(5)):
        assert shard.keys[i].tobytes().hex() == key
        assert np.array_equal(out[i], moments(key))
    assert files.num_reads == 1  # neighbours, their headers read with them


@pytest.mark.parametrize(("gap", "num_reads"), [(0, 1), (MAX_GAP, 1), (MAX_GAP + 1, 2), (-1, 2)])
def test_near_ranges_are_read_together(tmp_path: Path, gap: int, num_reads: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()
    (tmp_path / "a.tar").write_bytes(data)
    files = CountedFiles(tmp_path)
    buffers = bytearray(10), bytearray(7)
    offsets = 100, 110 + gap
    read_ranges(
        files,
        [("a.tar", o, memoryview(b), 0) for o, b in zip(offsets, buffers, strict=True)],
        no_fault,
    )
    assert files.num_reads == num_reads
    assert [bytes(b) for b in buffers] == [data[100:110], data[110 + gap : 117 + gap]]


def test_a_call_has_no_more_buffers_than_the_system_takes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 8192, np.uint8).tobytes()
    (tmp_path / "a.tar").write_bytes(data)
    files = CountedFiles(tmp_path)
    buffers = [bytearray(1) for _ in range(4096)]  # each with a gap of a byte behind it
    read_ranges(
        files, [("a.tar", 2 * i, memoryview(b), i) for i, b in enumerate(buffers)], no_fault
    )
    assert b"".join(buffers) == data[::2]
    assert files.num_reads == 8  # 2 * 512 - 1 buffers a call


def test_a_fault_is_told_of_its_range_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    buffers = [bytearray(10) for _ in range(3)]
    faults: dict[int, str] = {}
    read_ranges(
        LocalFiles(tmp_path),
        [
            ("a.tar", offset, memoryview(buffer), place)
            for place, (offset, buffer) in enumerate(zip((0, 95, 60), buffers, strict=True))
        ],
        faults.__setitem__,
    )
    assert list(faults) == [1]
    assert "must reach to byte 105, got 100" in faults[1]
    assert bytes(buffers[0]) == bytes(range(10))
    assert bytes(buffers[2]) == bytes(range(60, 70))


def test_captions_are_listed_by_record(tmp_path: Path) -> None:
    write_captions(tmp_path, count=5)
    files = LocalFiles(tmp_path)
    shard = open_captions(LocalStore(tmp_path), files, "00000")
    for row, key in enumerate(keys(5)):
        expected = captions_of(key, row)
        found, base = shard.captions[shard.first[row] : shard.first[row + 1]], shard.base[row]
        assert [shard.sources[one["source"]] for one in found] == [c.source for c in expected]
        for (tokens_at, pooled_at, num_tokens, *_), record in zip(found, expected, strict=True):
            tokens, pooled = np.empty_like(record.tokens), np.empty_like(record.pooled)
            views = [a.reshape(-1).view(np.uint8).data for a in (tokens, pooled)]
            files.preadv(shard.tar, base + tokens_at, views[:1])
            files.preadv(shard.tar, base + pooled_at, views[1:])
            assert num_tokens == len(record.tokens)
            assert np.array_equal(tokens, record.tokens)
            assert np.array_equal(pooled, record.pooled)


def test_columns_have_the_same_keys(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a")
    write_captions(tmp_path / "a", name="00001")
    write_captions(tmp_path / "a", count=4, name="00002")
    store, files = LocalStore(tmp_path / "a"), LocalFiles(tmp_path / "a")
    arrays = open_arrays(store, files, "00000")
    check_keys(arrays, open_captions(store, files, "00001"))
    with pytest.raises(ShardError, match=r"00002\.tar: must have the keys of 00000\.tar"):
        check_keys(arrays, open_captions(store, files, "00002"))


def test_a_cut_tar_is_refused_at_the_first_touch(tmp_path: Path) -> None:
    tar = write_arrays(tmp_path)
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(ShardError, match="the tar was cut or the index is older"):
        open_arrays(LocalStore(tmp_path), LocalFiles(tmp_path), "00000")
    tar.unlink()
    with pytest.raises(ShardError, match="its tar and its index must be there"):
        open_arrays(LocalStore(tmp_path), LocalFiles(tmp_path), "00000")


class CountingFiles(LocalFiles):
    """Count the calls that read several ranges at once."""

    joined = 0

    def preadv(self, name: str, offset: int, buffers: Sequence[memoryview], /) -> None:
        self.joined += len(buffers) > 1
        super().preadv(name, offset, buffers)


@pytest.mark.parametrize(("gap", "joined"), [(0, 1), (MAX_GAP, 1), (MAX_GAP + 1, 0)])
def test_records_near_each_other_are_read_by_one_call(
    tmp_path: Path, gap: int, joined: int
) -> None:
    data = np.random.default_rng(0).bytes(20_000)
    (tmp_path / "0.tar").write_bytes(data)
    files, out = CountingFiles(tmp_path), [bytearray(100), bytearray(100)]
    offsets = np.array([50, 150 + gap], np.uint64)
    faults: dict[int, str] = {}
    read_records(files, "0.tar", offsets, [memoryview(o) for o in out], [0, 1], faults.__setitem__)
    assert not faults
    assert [bytes(one) for one in out] == [data[50:150], data[150 + gap : 250 + gap]]
    assert files.joined == joined
