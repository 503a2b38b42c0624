"""Keep a binary index beside a tar: where each record's numbers lie, how long, with which digest.

    header, 64 bytes: magic, version, sizes, xxh3-128 of the tar, xxh3-64 of all but itself
    body: facts (JSON), then arrays, each at a multiple of 64 bytes

An index belongs to one state of one tar: it holds the tar's size and digest. It is mapped, never
read whole, so a billion records cost no memory. `core/latent_column.py` says which arrays there
are. Integers are little-endian.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.tar_writer import TarDigest

SUFFIX = ".idx"
MAGIC = b"LMINDEX1"
_START = struct.Struct("<8sIIQQ16s")  # magic, version, bytes of facts, tar and body, tar's digest
_END_BYTES = 16  # the digest in 8 bytes, and 8 to fill up
_HEADER_BYTES = _START.size + _END_BYTES
_VERSION = 1
_ALIGN = 64  # as numpy aligns the data of an .npy


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIndex:
    """Hold an open index; the arrays are views of the mapped file.

    Args:
        path: of the index.
        tar: the state of the tar that it was made from.
        facts: what holds for all records, plain JSON values.
        arrays: name -> array.
    """

    path: Path
    tar: TarDigest
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def check_tar(self, num_bytes: int, place: str) -> None:
        """Refuse a tar of another size.

        Raises:
            ShardError: the tar was cut or replaced after the index was made.
        """
        if num_bytes != self.tar.num_bytes:
            raise ShardError(
                f"{place}: must be the tar of {self.path.name}, {self.tar.num_bytes} bytes, got "
                f"{num_bytes}; the tar was cut or the index is older: run encode again, or "
                "`curate index`"
            )


def write_index(
    path: Path, tar: TarDigest, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write an index; equal content gives equal bytes.

    Args:
        path: of the index; the caller makes it visible when it is whole.
        tar: digest of the tar it describes.
        facts: plain JSON values; the name "arrays" is taken.
        arrays: name -> array of any plain dtype, structured ones too.
    """
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    listed = [
        {"name": name, "dtype": _spell(array.dtype), "shape": list(array.shape)}
        for name, array in ordered.items()
    ]
    said = json.dumps({**facts, "arrays": listed}, sort_keys=True).encode()
    body = bytearray(said + b" " * (-len(said) % _ALIGN))
    num_facts = len(body)
    for array in ordered.values():
        body += array.tobytes()
        body += bytes(-len(body) % _ALIGN)
    start = _START.pack(MAGIC, _VERSION, num_facts, tar.num_bytes, len(body), tar.xxh3)
    path.write_bytes(start + _digest(start, body).to_bytes(_END_BYTES, "little") + body)


def open_index(path: Path, *, is_checked: bool = True) -> RecordIndex:
    """Map an index.

    Args:
        path: of the index.
        is_checked: read it once and compare its digest, 1 ms for 10 MB.

    Raises:
        ShardError: the file is absent, is none of ours, is cut or has changed.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < _HEADER_BYTES:
                raise _bad(path, f"a file of at least {_HEADER_BYTES} bytes", f"{size} bytes")
            mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise _bad(path, "a readable index", error.strerror or str(error)) from error
    magic, version, num_facts, tar_bytes, num_body, tar_xxh3 = _START.unpack_from(mapped)
    if magic != MAGIC or version != _VERSION:
        raise _bad(path, f"an index of version {_VERSION}", f"{magic!r} {version}")
    body = mapped[_HEADER_BYTES:]
    if len(body) != num_body:
        raise _bad(path, f"{num_body + _HEADER_BYTES} bytes long", f"{size}")
    written = int.from_bytes(mapped[_START.size : _HEADER_BYTES], "little")
    if is_checked and _digest(mapped[: _START.size], body) != written:
        raise _bad(path, f"as it was written, digest {written:016x}", "other bytes")
    facts = json.loads(bytes(body[:num_facts]))
    return RecordIndex(
        path=path,
        tar=TarDigest(num_bytes=tar_bytes, xxh3=tar_xxh3),
        facts=facts,
        arrays=_read_arrays(body, num_facts, facts.pop("arrays")),
    )


def _read_arrays(
    body: memoryview, start: int, listed: list[dict[str, Any]]
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for entry in listed:
        dtype = np.dtype(_unspell(entry["dtype"]))
        count = int(np.prod(entry["shape"], dtype=np.int64))
        flat = np.frombuffer(body, dtype, count, start)
        arrays[entry["name"]] = flat.reshape(entry["shape"])
        start += count * dtype.itemsize
        start += -start % _ALIGN
    return arrays


def _digest(start: bytes | memoryview, body: bytes | bytearray | memoryview) -> int:
    digest = xxhash.xxh3_64(start)
    digest.update(body)
    return digest.intdigest()


def _spell(dtype: np.dtype[Any]) -> Any:
    return dtype.str if dtype.names is None else [list(field) for field in dtype.descr]


def _unspell(said: Any) -> Any:
    return said if isinstance(said, str) else [tuple(field) for field in said]


def _bad(path: Path, rule: str, got: str) -> ShardError:
    return ShardError(
        f"{path}: must be {rule}, got {got}; run encode again, or make it new with `curate index`"
    )
