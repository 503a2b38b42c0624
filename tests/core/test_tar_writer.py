"""Tars are those of Python's tarfile, byte for byte, and arrays those of numpy."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xxhash

from curate.core.errors import ShardError
from curate.core.shard import npy_bytes
from curate.core.tar_writer import TarWriter

MEMBERS = {
    "0123456789abcdef0123.json": b"{}",
    "0123456789abcdef0123.alternate_1.npy": bytes(range(256)) * 3,
    "0123456789abcdef0123.empty": b"",
    "x" * 100: b"1",
    "\u00e9.txt": b"an accent",
}


def test_a_tar_has_the_bytes_of_tarfile(tmp_path: Path) -> None:
    writer = TarWriter(tmp_path / "ours.tar")
    offsets = [writer.add(name, data) for name, data in MEMBERS.items()]
    digest = writer.close()
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT, bufsize=tarfile.BLOCKSIZE
    ) as tar:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    ours = (tmp_path / "ours.tar").read_bytes()
    assert ours == stream.getvalue()[: len(ours)]
    assert not any(stream.getvalue()[len(ours) :])  # tarfile pads to 10 KiB
    assert (digest.num_bytes, digest.xxh3) == (len(ours), xxhash.xxh3_128_digest(ours))
    for offset, data in zip(offsets, MEMBERS.values(), strict=True):
        assert ours[offset : offset + len(data)] == data


@pytest.mark.parametrize("name", ["A.json", "a/b.json", "x" * 101, "\u00e9" * 51])
def test_names_that_a_header_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    writer = TarWriter(tmp_path / "ours.tar")
    with pytest.raises(ShardError, match="member names are lower-case, flat and at most 100"):
        writer.add(name, b"")
    writer.abandon()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4), np.float16), np.zeros((0, 4)), np.zeros(5, np.int32),
        np.arange(6).reshape(2, 3).T, np.zeros(3, [("a", "<u4"), ("b", "<f2")]),
        np.zeros((65535, 1), np.int8),
    ],
)  # fmt: skip
def test_arrays_have_the_bytes_of_numpy(array: np.ndarray) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    assert npy_bytes(array) == stream.getvalue()


def test_objects_are_no_arrays() -> None:
    with pytest.raises(ValueError, match="plain numbers"):
        npy_bytes(np.array([{}], object))
