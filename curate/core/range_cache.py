"""Read ranges of remote files through a bounded folder of blocks, fetched ahead by threads.

    will_need -> block of 4 MiB -> one range request -> NAME.partial -> fsync-less rename -> preadv

The longest unread block goes first. A plan that reads in windows leaves a window's blocks behind
for the rest of an epoch, so whoever reads sees to it that the budget holds its windows
(`train/data.py` refuses a smaller one: it would fetch the same blocks again and again).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import xxhash

from curate.core.errors import ConfigError, ShardError
from curate.core.remote_store import RemoteStore

BLOCK_BYTES = 4 << 20  # chosen by us: S3 answers in some 30 ms, in which 80 MB/s bring 2.4 MB
_THREADS = 8  # chosen by us: one connection to S3 gives some 80 MB/s
_DIGEST_BYTES = 8


class _Block(NamedTuple):
    """Name a block: a file and which of its blocks."""

    name: str
    number: int


@dataclass(slots=True)
class _Held:
    """Hold what is known of a block that is here or on its way.

    Args:
        fetched: done when the block's file is whole.
        num_bytes: of the block.
        readers: threads that read it now; it is not thrown out meanwhile.
    """

    fetched: Future[None]
    num_bytes: int
    readers: int = 0


class CachedFiles:
    """Give byte ranges of the files of a remote store; safe to use from threads.

    Args:
        store: where the files are.
        folder: for blocks, made when absent; of one process and one version of the store. Blocks
            that an earlier process left there are used when their digest fits.
        budget_bytes: of all blocks together.
        block_bytes: of a block; the last of a file is shorter.

    Raises:
        ConfigError: the budget is below two blocks.
    """

    def __init__(
        self,
        store: RemoteStore,
        folder: Path,
        budget_bytes: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        if budget_bytes < 2 * block_bytes:
            raise ConfigError(
                f"train.reading.cache_bytes: must be at least two blocks, {2 * block_bytes} bytes, "
                f"got {budget_bytes}; raise it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.num_fetched = 0
        self.joins_ranges = True
        self._store = store
        self._folder = folder
        self._budget = budget_bytes
        self._block_bytes = block_bytes
        self._sizes: dict[str, int] = {}
        self._held: OrderedDict[_Block, _Held] = OrderedDict()  # the longest unread first
        self._left = _find_left(folder)
        self._lock = threading.Condition()  # notified when a block is less busy
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="range-cache")

    def size(self, name: str) -> int:
        """Give a file's size, in bytes.

        Raises:
            FileNotFoundError: the store has no such file.
        """
        if name not in self._sizes:
            self._sizes[name] = self._store.facts(name)[0]
        return self._sizes[name]

    def preadv(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers from consecutive bytes of a file.

        Raises:
            ShardError: the file ends before.
            StoreError: the store does not answer.
        """
        end = offset + sum(map(len, buffers))
        if end > self.size(name):
            raise ShardError(
                f"{self._store.url}/{name}: must have bytes {offset} to {end}, got "
                f"{self.size(name)} bytes; the file was cut, run encode again"
            )
        pieces = list(buffers)
        while offset < end:
            block = _Block(name, offset // self._block_bytes)
            start = offset - block.number * self._block_bytes
            count = min(end - offset, self._block_bytes - start)
            self._read_block(block, start, _take(pieces, count))
            offset += count

    def read_many(self, name: str, offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer from its own offset; errors as of `preadv`."""
        for offset, buffer in zip(offsets, buffers, strict=True):
            self.preadv(name, offset, [buffer])

    def will_need(self, name: str, offset: int, length: int) -> None:
        """Begin to fetch a range, if there is room for it."""
        self.size(name)  # asked for before the lock is taken
        for block in self._blocks(name, offset, length):
            with self._lock:
                if block not in self._held and self._make_room(self._num_bytes(block)):
                    self._begin(block)

    def close(self) -> None:
        """Stop fetching; blocks stay for the next process."""
        self._pool.shutdown(cancel_futures=True)

    def _blocks(self, name: str, offset: int, length: int) -> list[_Block]:
        first, last = offset // self._block_bytes, (offset + length - 1) // self._block_bytes
        return [_Block(name, number) for number in range(first, last + 1)]

    def _num_bytes(self, block: _Block) -> int:
        return min(self._block_bytes, self.size(block.name) - block.number * self._block_bytes)

    def _read_block(self, block: _Block, start: int, buffers: list[memoryview]) -> None:
        held = self._hold(block)
        try:
            held.fetched.result()
            descriptor = os.open(self._path(block), os.O_RDONLY)
            try:
                got = os.preadv(descriptor, buffers, _DIGEST_BYTES + start)
            finally:
                os.close(descriptor)
        finally:
            self._let_go(block, held)
        wanted = sum(map(len, buffers))
        assert got == wanted, f"{self._path(block)}: {got} of {wanted} bytes of a whole block"

    def _hold(self, block: _Block) -> _Held:
        """Find or begin a block, and keep it while it is read."""
        with self._lock:
            held = self._held.get(block)
            while held is None and not self._make_room(self._num_bytes(block)):
                self._lock.wait()  # all blocks are being fetched or read, which ends
                held = self._held.get(block)
            if held is None:
                held = self._begin(block)
            held.readers += 1
            self._held.move_to_end(block)
            return held

    def _let_go(self, block: _Block, held: _Held) -> None:
        with self._lock:
            held.readers -= 1
            has_failed = held.fetched.done() and held.fetched.exception() is not None
            if has_failed and self._held.get(block) is held:
                del self._held[block]  # asked for again, it is fetched again
            self._lock.notify_all()

    def _make_room(self, num_bytes: int) -> bool:
        """Throw out blocks that nobody reads, until so many bytes are free."""
        used = sum(held.num_bytes for held in self._held.values()) + sum(self._left.values())
        while self._left and used + num_bytes > self._budget:
            path, size = self._left.popitem()
            path.unlink(missing_ok=True)
            used -= size
        for block, held in list(self._held.items()):
            if used + num_bytes <= self._budget:
                break
            if held.readers or not held.fetched.done():
                continue
            self._held.pop(block)
            self._path(block).unlink(missing_ok=True)
            used -= held.num_bytes
        return used + num_bytes <= self._budget

    def _begin(self, block: _Block) -> _Held:
        num_bytes = self._num_bytes(block)
        self._left.pop(self._path(block), None)
        held = _Held(self._pool.submit(self._fetch, block, num_bytes), num_bytes)
        self._held[block] = held
        held.fetched.add_done_callback(self._note_done)
        return held

    def _note_done(self, fetched: Future[None]) -> None:
        with self._lock:
            self._lock.notify_all()

    def _fetch(self, block: _Block, num_bytes: int) -> None:
        path = self._path(block)
        if _is_whole(path, num_bytes):
            return
        start = block.number * self._block_bytes
        data = self._store.read_range(block.name, start, start + num_bytes)
        temporary = path.with_name(f"{path.name}.{threading.get_ident()}.partial")
        temporary.write_bytes(xxhash.xxh3_64_digest(data) + data)
        temporary.replace(path)
        self.num_fetched += 1

    def _path(self, block: _Block) -> Path:
        name = xxhash.xxh3_64_hexdigest(block.name.encode())
        return self._folder / f"{name}-{self._block_bytes}-{block.number}"


def _find_left(folder: Path) -> dict[Path, int]:
    """List the blocks that an earlier process left; what it was just writing is removed."""
    for path in folder.glob("*.partial"):
        path.unlink(missing_ok=True)
    return {path: path.stat().st_size - _DIGEST_BYTES for path in sorted(folder.iterdir())}


def _is_whole(path: Path, num_bytes: int) -> bool:
    """Tell whether a block that an earlier process left has its digest."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    kept, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return len(body) == num_bytes and xxhash.xxh3_64_digest(body) == kept


def _take(pieces: list[memoryview], count: int) -> list[memoryview]:
    """Take so many bytes off the front of a list of buffers."""
    taken: list[memoryview] = []
    while count:
        head = pieces[0][:count]
        taken.append(head)
        count -= len(head)
        if len(head) == len(pieces[0]):
            pieces.pop(0)
        else:
            pieces[0] = pieces[0][len(head) :]
    return taken
