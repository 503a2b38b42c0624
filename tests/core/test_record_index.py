"""An index round-trips, is reproducible, and says when it or its tar is not what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ShardError
from curate.core.record_index import open_index, write_index
from curate.core.tar_writer import TarDigest

TAR = TarDigest(num_bytes=4096, xxh3=bytes(range(16)))
ROWS = np.array([(1, 2.5), (3, 4.5)], np.dtype([("a", "<u2"), ("b", "<f4")]))
ARRAYS = {"offset": np.arange(3, dtype="<u8") * 512, "rows": ROWS, "none": np.empty((0, 10), "u1")}


def write(path: Path) -> Path:
    write_index(path, TAR, {"bucket": "64x64", "sources": ["alt"]}, ARRAYS)
    return path


def test_facts_and_arrays_come_back(tmp_path: Path) -> None:
    index = open_index(write(tmp_path / "0.idx"))
    assert index.tar == TAR
    assert index.facts == {"bucket": "64x64", "sources": ["alt"]}
    assert list(index.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert index.arrays[name].dtype == array.dtype
        assert np.array_equal(index.arrays[name], array)


def test_arrays_are_views_of_the_file_at_multiples_of_64(tmp_path: Path) -> None:
    index = open_index(write(tmp_path / "0.idx"))
    for name in ("offset", "rows"):
        array = index.arrays[name]
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one, other = write(tmp_path / "0.idx"), write(tmp_path / "1.idx")
    assert one.read_bytes() == other.read_bytes()


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "0.idx")
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ShardError, match=r"0\.idx: must be .*, got .*; run encode again"):
            open_index(path)


@pytest.mark.parametrize("size", [0, 10, 63, 64, 100, -1])
def test_cut_index_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "0.idx")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ShardError, match="bytes"):
        open_index(path)


def test_unchecked_index_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "0.idx")
    data = bytearray(path.read_bytes())
    data[-70] ^= 1
    path.write_bytes(data)
    assert open_index(path, is_checked=False).tar == TAR


def test_absent_index_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="No such file"):
        open_index(tmp_path / "0.idx")


def test_index_older_than_its_tar_is_refused(tmp_path: Path) -> None:
    index = open_index(write(tmp_path / "0.idx"))
    index.check_tar(4096, "0.tar")
    with pytest.raises(ShardError, match=r"0\.tar: must be the tar of 0\.idx, 4096 bytes, got 99"):
        index.check_tar(99, "0.tar")


def test_cut_index_is_refused_unchecked_too(tmp_path: Path) -> None:
    path = write(tmp_path / "0.idx")
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ShardError, match=r"0\.idx: must be \d+ bytes long, got"):
        open_index(path, is_checked=False)
