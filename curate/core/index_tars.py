"""Make the index of a tar that has none: one of ours whose index was lost, or one from elsewhere.

    headers -> samples -> each .npy's own header -> dtype, shape, offset, digest -> NAME.idx

Tars of any writer will do (PAX headers, float times, any order of members), as long as they are
plain tars and the arrays of a column's records have one shape: one bucket per tar. Of a tar that
encode wrote, the index comes out with the bytes that encode wrote.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.latent_column import POOLED, ArrayRows, CaptionRows
from curate.core.record_index import SUFFIX
from curate.core.schema import is_key, make_key
from curate.core.tar_index import Member, TarSample, index_tar, read_member
from curate.core.tar_writer import TarDigest

_NPY = ".npy"
_RULE = "first_dot"  # as webdataset cuts names
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """Hold one member's array and the offset of its numbers in the tar."""

    array: NDArray[Any]
    offset: int


def index_arrays(
    tar: Path,
    facts: Mapping[str, Any],
    names: Sequence[str],
    extra: Mapping[str, Mapping[str, int]] | None = None,
    target: Path | None = None,
) -> Path:
    """Write the index of a column of arrays.

    Args:
        tar: the tar.
        facts: of the index, as encode gives them.
        names: of the arrays, e.g. ("moments", "flipped").
        extra: name -> key -> whole number, columns that the tar does not hold.
        target: where to; None is beside the tar.

    Raises:
        DataError: the tar is cut or damaged.
        ShardError: a sample lacks an array, or has one of another shape.
    """
    rows = ArrayRows(dict(facts))
    with tar.open("rb") as stream:
        for sample in index_tar(tar, str(tar), _RULE):
            arrays = {name: _read_array(stream, tar, sample, name) for name in names}
            key = key_of(sample.key)
            rows.add(
                key,
                {name: one.array for name, one in arrays.items()},
                {name: one.offset + one.array.nbytes for name, one in arrays.items()},
                {name: values[key] for name, values in (extra or {}).items()},
            )
    return _finish(tar, rows, target or tar.with_suffix(SUFFIX))


def index_captions(tar: Path, facts: Mapping[str, Any], target: Path | None = None) -> Path:
    """Write the index of a text column.

    A sample's captions are those that its json lists, else its arrays but `pooled`, each one a
    source. Arguments as of `index_arrays`.

    Raises:
        DataError: the tar is cut or damaged.
        ShardError: a sample lacks an array, or pooled vectors do not fit the captions.
    """
    rows = CaptionRows(dict(facts))
    samples = index_tar(tar, str(tar), _RULE)
    members = {f"{s.key}.{ext}": member for s in samples for ext, member in s.members.items()}
    with tar.open("rb") as stream:
        for sample in samples:
            named = _caption_members(stream, tar, sample)
            missing = [name for name in named.values() if name not in members]
            if missing:
                raise _lacks(tar, sample, missing[0])
            tokens = [load_array(stream, tar, members[name]) for name in named.values()]
            pooled = _read_pooled(stream, tar, sample, len(named))
            rows.add(
                key_of(sample.key),
                list(named),
                [one.array for one in tokens],
                [one.offset for one in tokens],
                pooled.array,
                pooled.offset,
            )
    return _finish(tar, rows, target or tar.with_suffix(SUFFIX))


def key_of(name: str) -> str:
    """Give the key of a sample: its name where that is one, else the hash of its name."""
    return name if is_key(name) else make_key("sample", name)


def load_array(stream: BinaryIO, tar: Path, member: Member) -> StoredArray:
    """Read one `.npy` member.

    Raises:
        ShardError: it is no plain array in C order.
    """
    data = io.BytesIO(read_member(stream, str(tar), member))
    try:
        array = np.lib.format.read_array(data, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ShardError(
            f"{tar}: {member.name} must be a plain .npy array, got {error}; write it again"
        ) from error
    if not array.flags.c_contiguous:
        raise ShardError(
            f"{tar}: {member.name} must be in C order, got Fortran order; write it again with "
            "numpy.ascontiguousarray"
        )
    return StoredArray(array=array, offset=member.offset + member.size - array.nbytes)


def digest_tar(path: Path) -> TarDigest:
    """Read a tar once for its digest."""
    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return TarDigest(num_bytes=size, xxh3=digest.digest())


def _finish(tar: Path, rows: ArrayRows | CaptionRows, target: Path) -> Path:
    """Write under another name first: an index is whole or absent."""
    # Ranks that miss the same index write the same bytes, each under a name of its own.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    rows.write(temporary, digest_tar(tar))
    temporary.replace(target)
    return target


def _read_array(stream: BinaryIO, tar: Path, sample: TarSample, name: str) -> StoredArray:
    member = sample.members.get(f"{name}{_NPY}")
    if member is None:
        raise _lacks(tar, sample, f"{name}{_NPY}")
    return load_array(stream, tar, member)


def _read_pooled(stream: BinaryIO, tar: Path, sample: TarSample, count: int) -> StoredArray:
    member = sample.members.get(f"{POOLED}{_NPY}")
    if member is None:  # an encoder without pooled vectors, or a sample without captions
        return StoredArray(array=np.empty((count, 0), np.float16), offset=0)
    pooled = load_array(stream, tar, member)
    if pooled.array.ndim != 2 or len(pooled.array) != count:
        raise ShardError(
            f"{tar}: {member.name} must have a row for each of {count} captions, got shape "
            f"{pooled.array.shape}; write it again"
        )
    return pooled


def _caption_members(stream: BinaryIO, tar: Path, sample: TarSample) -> dict[str, str]:
    """Give source -> name of the member that has its tokens."""
    listed = sample.members.get("json")
    if listed is None:
        sources = [ext.removesuffix(_NPY) for ext in sample.members if ext.endswith(_NPY)]
        return {s: f"{sample.key}.{s}{_NPY}" for s in sources if s != POOLED}
    try:
        rows = json.loads(read_member(stream, str(tar), listed))["captions"]
        return {row["source"]: row["member"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{tar}: {listed.name} must list captions with source and member, got {error!r}; "
            "write it again, or leave it out"
        ) from error


def _lacks(tar: Path, sample: TarSample, name: str) -> ShardError:
    return ShardError(
        f"{tar}: sample {sample.key} must have the member {name}, got "
        f"{', '.join(sample.members) or 'none'}; name the right arrays, or write the tar again"
    )
