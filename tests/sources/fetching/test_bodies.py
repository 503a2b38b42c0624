"""Compressed bodies are undone within bounds, alike however their bytes are cut into chunks."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest

from curate.core.errors import SampleError
from curate.sources.fetching.bodies import Inflater

MEMBER = gzip.compress(b"a picture")


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def inflate(data: bytes, size: int, max_bytes: int) -> bytes:
    inflater = Inflater("gzip", max_bytes)
    return b"".join(piece for chunk in chunks(data, size) for piece in inflater.feed(chunk))


def test_bytes_behind_the_compressed_data_are_not_gathered() -> None:
    """zlib would keep them all, and copy them for each chunk: 10 s of CPU time and more."""
    inflater, chunk = Inflater("gzip", 2**20), bytes(2**16)
    assert b"".join(inflater.feed(MEMBER)) == b"a picture"
    assert inflater.has_ended
    start = time.process_time()
    for _ in range(1600):  # 100 MiB
        assert list(inflater.feed(chunk)) == []
    assert time.process_time() - start < 1


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_compressed_bytes_count_up_to_the_end_of_the_data(size: int) -> None:
    assert inflate(MEMBER, size, len(MEMBER)) == b"a picture"
    assert inflate(MEMBER + bytes(500), size, len(MEMBER)) == b"a picture"
    with pytest.raises(SampleError, match=f"more than {len(MEMBER) - 1} bytes"):
        inflate(MEMBER, size, len(MEMBER) - 1)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_damage_beyond_the_limit_is_not_seen(size: int) -> None:
    """Which of two failures is named must not depend on how the network cuts the body."""
    broken = gzip.compress(b"a picture")[:20] + b"\xff" * 50
    with pytest.raises(SampleError, match="more than 20 bytes"):
        inflate(broken, size, 20)
