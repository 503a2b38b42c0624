"""Find records of a latent store by number, and read many of them straight into one batch.

    index -> Range(tar, offset, buffer) of each array -> read_ranges -> the buffers are full

Ranges that lie near each other in one tar are read by one system call, their gap with them. Digests
are of what was read, so that a flipped byte is found where it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.record_files import RecordFiles
from curate.core.record_index import SUFFIX, RecordIndex, open_index
from curate.core.store import Store

# Chosen by us: a page; reading it costs less than a second system call (1 us, 4 KiB of copying).
MAX_GAP = 4096
MAX_BUFFERS = 1024  # of a system call. Source: Linux, limits.h, IOV_MAX


# Bytes to read, and where to: name of the tar in the store, offset in it, a buffer as long as what
# is read, and the caller's number of it. A plain tuple: a named one takes longer to make.
Range = tuple[str, int, memoryview, int]


class ArrayMember(NamedTuple):
    """Hold where one array of each record of a shard lies.

    Args:
        offsets: [N], uint64, in bytes.
        digests: [N], uint64, xxh3-64.
        dtype: of the arrays.
        shape: likewise.
        num_bytes: of one array.
    """

    offsets: NDArray[np.uint64]
    digests: NDArray[np.uint64]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayShard:
    """Hold an opened shard of arrays.

    Args:
        tar: name in the store.
        keys: [N, 10], uint8.
        num_records: N.
        members: by name.
        numbers: name -> [N], whole numbers that encode kept with the records.
    """

    tar: str
    keys: NDArray[np.uint8]
    num_records: int
    members: Mapping[str, ArrayMember]
    numbers: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionShard:
    """Hold an opened shard of captions.

    Args:
        tar: name in the store.
        sources: names of caption sources.
        keys_xxh3: digest of the keys, hex.
        base: [N], uint64.
        first: [N + 1], uint32, each record's first caption.
        captions: [C] of `CAPTION`.
    """

    tar: str
    sources: tuple[str, ...]
    keys_xxh3: str
    base: NDArray[np.uint64]
    first: NDArray[np.uint32]
    captions: NDArray[Any]


def open_arrays(store: Store, files: RecordFiles, name: str) -> ArrayShard:
    """Open the index of NAME.tar and see that it is of this tar.

    Raises:
        ShardError: the index or the tar is absent, damaged, or one is older than the other.
    """
    index = _open_checked(store, files, name)
    members: dict[str, ArrayMember] = {}
    for member, said in index.facts["members"].items():
        members[member] = ArrayMember(
            offsets=index.arrays[f"{member}.offset"],
            digests=index.arrays[f"{member}.xxh3"],
            dtype=np.dtype(said["dtype"]),
            shape=tuple(said["shape"]),
            num_bytes=int(np.prod(said["shape"])) * np.dtype(said["dtype"]).itemsize,
        )
    plain = {n: a for n, a in index.arrays.items() if n != "key" and "." not in n}
    keys = index.arrays["key"]
    return ArrayShard(
        tar=f"{name}.tar",
        keys=keys,
        num_records=len(keys),
        members=members,
        numbers=plain,
    )


def open_captions(store: Store, files: RecordFiles, name: str) -> CaptionShard:
    """Open the index of a text column's NAME.tar; errors as of `open_arrays`."""
    index = _open_checked(store, files, name)
    return CaptionShard(
        tar=f"{name}.tar",
        sources=tuple(index.facts["sources"]),
        keys_xxh3=index.facts["keys_xxh3"],
        base=index.arrays["base"],
        first=index.arrays["first"],
        captions=index.arrays["captions"],
    )


def check_keys(arrays: ArrayShard, captions: CaptionShard) -> None:
    """Refuse captions of other samples.

    Raises:
        ShardError: the two columns do not have the same keys in the same order.
    """
    found = xxhash.xxh3_64_hexdigest(arrays.keys.data)
    if found != captions.keys_xxh3:
        raise ShardError(
            f"{captions.tar}: must have the keys of {arrays.tar} in the same order, digest "
            f"{found}, got {captions.keys_xxh3}; run encode again"
        )


def read_records(
    files: RecordFiles,
    tar: str,
    offsets: NDArray[np.uint64],
    buffers: Sequence[memoryview],
    places: Sequence[int],
    on_fault: Callable[[int, str], None],
) -> None:
    """Fill buffers from one tar, each from its own offset.

    Args:
        files: the store's.
        tar: name in the store.
        offsets: [N], ascending, in bytes.
        buffers: N of them.
        places: the caller's numbers of them.
        on_fault: told the place of a record that could not be read, and why.
    """
    if files.joins_ranges and _has_near(offsets, buffers):
        ranges = zip([tar] * len(places), offsets.tolist(), buffers, places, strict=True)
        read_ranges(files, list(ranges), on_fault)
        return
    try:
        files.read_many(tar, offsets.tolist(), buffers)
    except (ShardError, OSError):
        for offset, buffer, place in zip(offsets.tolist(), buffers, places, strict=True):
            _read(files, offset, [(tar, offset, buffer, place)], [buffer], on_fault)


def read_ranges(
    files: RecordFiles, ranges: Sequence[Range], on_fault: Callable[[int, str], None]
) -> None:
    """Fill all buffers; near ones by one call.

    Args:
        files: the store's.
        ranges: best in the order of tar and offset.
        on_fault: told the place of a range that could not be read, and why.
    """
    start, end, before = 0, 0, ""
    group: list[Range] = []
    buffers: list[memoryview] = []
    for one in ranges:
        tar, offset, buffer, _ = one
        gap = offset - end
        # A range brings two buffers, its own and the gap's.
        if 0 <= gap <= MAX_GAP and tar == before and len(buffers) + 2 <= MAX_BUFFERS:
            if gap:
                buffers.append(_GAP[:gap])
            group.append(one)
            buffers.append(buffer)
        else:
            if buffers:
                _read(files, start, group, buffers, on_fault)
            group, buffers = [one], [buffer]
            before, start = tar, offset
        end = offset + len(buffer)
    if buffers:
        _read(files, start, group, buffers, on_fault)


# Threads write what nobody reads into it at the same time.
_GAP = memoryview(bytearray(MAX_GAP))


def _has_near(offsets: NDArray[np.uint64], buffers: Sequence[memoryview]) -> bool:
    """Tell whether a range begins soon behind the one before it."""
    if len(buffers) < 2:
        return False
    ends = offsets + np.array([len(buffer) for buffer in buffers], np.uint64)
    return bool((offsets[1:] - ends[:-1] <= MAX_GAP).any())  # an overlap wraps round to far


def _read(
    files: RecordFiles,
    start: int,
    group: list[Range],
    buffers: list[memoryview],
    on_fault: Callable[[int, str], None],
) -> None:
    try:
        files.preadv(group[0][0], start, buffers)
    except (ShardError, OSError) as error:
        if len(group) == 1:
            on_fault(group[0][3], str(error))
            return
        for one in group:  # the fault is of one of them
            _read(files, one[1], [one], [one[2]], on_fault)


def _open_checked(store: Store, files: RecordFiles, name: str) -> RecordIndex:
    place = f"{store.url}/{name}"
    try:
        index = open_index(store.local_path(f"{name}{SUFFIX}"))
        size = files.size(f"{name}.tar")
    except FileNotFoundError as error:
        raise ShardError(
            f"{place}: its tar and its index must be there, got {error}; run encode again"
        ) from error
    index.check_tar(size, f"{place}.tar")
    return index
