"""Ranges of remote files come from a bounded folder of blocks, each fetched once while needed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ConfigError, ShardError, StoreError
from curate.core.range_cache import CachedFiles
from curate.core.remote_store import RemoteStore

BLOCK = 1000
FILES = {"a.tar": 5_300, "b.tar": 10_000}


class CountingStore(RemoteStore):
    """Count the ranges that are asked for; fail those that a test names."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[tuple[str, int]] = []
        self.failing: set[tuple[str, int]] = set()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        self.asked.append((name, start // BLOCK))
        if (name, start // BLOCK) in self.failing:
            raise StoreError(f"{self.url}/{name}: must be readable, got a fault; run again")
        return super().read_range(name, start, stop)


@pytest.fixture
def contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {name: rng.bytes(size) for name, size in FILES.items()}


@pytest.fixture
def store(contents: dict[str, bytes]) -> CountingStore:
    store = CountingStore(f"memory://{uuid.uuid4().hex}")
    for name, data in contents.items():
        store.write(name, data)
    return store


@pytest.fixture
def files(store: CountingStore, tmp_path: Path) -> Iterator[CachedFiles]:
    files = CachedFiles(store, tmp_path / "cache", 4 * BLOCK, BLOCK)
    yield files
    files.close()


def read(files: CachedFiles, name: str, offset: int, *lengths: int) -> bytes:
    buffers = [bytearray(length) for length in lengths]
    files.preadv(name, offset, [memoryview(buffer) for buffer in buffers])
    return b"".join(bytes(buffer) for buffer in buffers)


def folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size - 8 for file in path.iterdir())


def test_ranges_over_blocks_and_buffers_are_exact(
    files: CachedFiles, contents: dict[str, bytes]
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        name = str(rng.choice(list(FILES)))
        lengths = rng.integers(0, 900, 3).tolist()
        offset = int(rng.integers(0, FILES[name] - sum(lengths)))
        assert read(files, name, offset, *lengths) == contents[name][offset:][: sum(lengths)]


def test_block_is_fetched_once_while_there_is_room(
    files: CachedFiles, store: CountingStore
) -> None:
    for _ in range(3):
        read(files, "a.tar", 100, 50)
        read(files, "a.tar", 990, 20)
    assert sorted(store.asked) == [("a.tar", 0), ("a.tar", 1)]
    assert files.num_fetched == 2


def test_folder_stays_within_the_budget(files: CachedFiles, tmp_path: Path) -> None:
    for number in range(10):
        read(files, "b.tar", number * BLOCK, 10)
        assert folder_bytes(tmp_path / "cache") <= 4 * BLOCK


def test_longest_unread_block_goes_first(files: CachedFiles, store: CountingStore) -> None:
    for number in (0, 1, 2, 3, 0, 4):  # 4 throws out 1
        read(files, "b.tar", number * BLOCK, 10)
    store.asked.clear()
    for number in (0, 2, 3, 4):
        read(files, "b.tar", number * BLOCK, 10)
    assert store.asked == []
    read(files, "b.tar", BLOCK, 10)
    assert store.asked == [("b.tar", 1)]


def test_budget_below_two_blocks_is_refused(store: CountingStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two blocks, 2000 bytes, got 1999"):
        CachedFiles(store, tmp_path, 1999, BLOCK)


def test_announced_range_is_there_when_it_is_read(
    files: CachedFiles, store: CountingStore, contents: dict[str, bytes]
) -> None:
    files.will_need("a.tar", 900, 200)
    assert read(files, "a.tar", 900, 200) == contents["a.tar"][900:1100]
    assert sorted(store.asked) == [("a.tar", 0), ("a.tar", 1)]


def test_blocks_of_an_earlier_process_are_used_if_whole(
    store: CountingStore, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    first = CachedFiles(store, tmp_path, 4 * BLOCK, BLOCK)
    for number in range(3):
        read(first, "a.tar", number * BLOCK, 10)
    first.close()
    damaged, cut, _ = sorted(tmp_path.iterdir(), key=lambda path: path.name)
    data = bytearray(damaged.read_bytes())
    data[500] ^= 1
    damaged.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "x.partial").write_bytes(b"half")
    store.asked.clear()
    second = CachedFiles(store, tmp_path, 4 * BLOCK, BLOCK)
    assert read(second, "a.tar", 0, 3 * BLOCK) == contents["a.tar"][: 3 * BLOCK]
    second.close()
    assert sorted(store.asked) == [("a.tar", 0), ("a.tar", 1)]
    assert not (tmp_path / "x.partial").exists()


def test_left_blocks_make_room_first(store: CountingStore, tmp_path: Path) -> None:
    first = CachedFiles(store, tmp_path, 4 * BLOCK, BLOCK)
    for number in range(4):
        read(first, "b.tar", number * BLOCK, 10)
    first.close()
    second = CachedFiles(store, tmp_path, 4 * BLOCK, BLOCK)
    for number in range(4, 8):
        read(second, "b.tar", number * BLOCK, 10)
        assert folder_bytes(tmp_path) <= 4 * BLOCK
    second.close()


def test_fault_is_raised_and_the_next_reader_tries_again(
    files: CachedFiles, store: CountingStore, contents: dict[str, bytes]
) -> None:
    store.failing = {("a.tar", 2)}
    files.will_need("a.tar", 2 * BLOCK, 10)
    with pytest.raises(StoreError, match="got a fault"):
        read(files, "a.tar", 2 * BLOCK, 10)
    store.failing = set()
    assert read(files, "a.tar", 2 * BLOCK, 10) == contents["a.tar"][2 * BLOCK :][:10]


def test_range_behind_the_end_is_named(files: CachedFiles) -> None:
    with pytest.raises(ShardError, match=r"a\.tar: must have bytes 5200 to 5400, got 5300 bytes"):
        read(files, "a.tar", 5200, 200)


def test_threads_read_the_same_and_fetch_once(
    store: CountingStore, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    files = CachedFiles(store, tmp_path, 16 * BLOCK, BLOCK)
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        rng = np.random.default_rng(number)
        for _ in range(100):
            offset = int(rng.integers(0, FILES["b.tar"] - 300))
            if read(files, "b.tar", offset, 300) != contents["b.tar"][offset:][:300]:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    files.close()
    assert len(store.asked) == len(set(store.asked)) == 10


def test_threads_share_a_budget_of_two_blocks(
    store: CountingStore, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    files = CachedFiles(store, tmp_path, 2 * BLOCK, BLOCK)

    def work(number: int) -> bool:
        rng = np.random.default_rng(number)
        for _ in range(30):
            offset = int(rng.integers(0, FILES["b.tar"] - 1500))
            files.will_need("b.tar", offset, 1500)
            if read(files, "b.tar", offset, 1500) != contents["b.tar"][offset:][:1500]:
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    files.close()
    assert folder_bytes(tmp_path) <= 2 * BLOCK
