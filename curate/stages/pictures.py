"""Read decoded pictures of ingested shards, by their offsets, for the stages that open pixels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image

from curate.core.ahead import map_ahead
from curate.core.errors import SampleError, ShardError
from curate.core.image import decode_image
from curate.core.schema import OK
from curate.core.shard import ShardSet

_COLUMNS = ("key", "status", "caption", "offset", "bytes", "width", "height")
# Chosen by us: 768 MB of RGB, 256 pictures of a megapixel or four of the largest.
MAX_BATCH_PIXELS = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Hold one decoded sample: RGB, upright, sRGB."""

    key: str
    caption: str
    image: Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Damaged:
    key: str
    error: SampleError


def read_pictures(
    ingested: ShardSet,
    shard: str,
    keys: Collection[str] | None = None,
    *,
    ahead: int = 0,
    threads: int = 1,
    damaged: dict[str, SampleError] | None = None,
) -> Iterator[Picture]:
    """Yield the good samples of a shard in table order, or only those among `keys`.

    Args:
        ingested: the shard set.
        shard: its name.
        keys: None for all.
        ahead: pictures decoded before they are asked for, in other threads, at most
            `MAX_BATCH_PIXELS` in all; 0 decodes each when it is asked for.
        threads: that decode ahead.
        damaged: filled with the samples that do not decode, by key; they are not yielded.

    Raises:
        ShardError: the tar is shorter than its table says.
        SampleError: a picture does not decode, and `damaged` is not given.
    """
    rows = [
        row
        for row in ingested.table(shard, _COLUMNS).to_pylist()
        if row["status"] == OK and (keys is None or row["key"] in keys)
    ]
    with _open_tar(ingested, shard, whole=keys is None) as tar:
        encoded = ((row, _read_member(ingested, shard, tar, row)) for row in rows)
        decoded = (
            map_ahead(
                _decode, encoded, ahead=ahead, threads=threads,
                weigh=_count_pixels, budget=MAX_BATCH_PIXELS,
            )
            if ahead
            else map(_decode, encoded)
        )  # fmt: skip
        for item in decoded:
            if isinstance(item, Picture):
                yield item
            elif damaged is None:
                raise item.error
            else:
                damaged[item.key] = item.error


def read_rows(
    ingested: ShardSet, shard: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Picture]:
    """Yield the pictures of some rows, in their order; the shard's table is not read.

    Args:
        ingested: the shard set.
        shard: its name.
        rows: have key, caption, offset, bytes, width and height, as ingest's table has them.

    Raises:
        ShardError: the tar is shorter than a row says.
        SampleError: a picture does not decode.
    """
    with _open_tar(ingested, shard, whole=False) as tar:
        for row in rows:
            item = _decode((row, _read_member(ingested, shard, tar, row)))
            if isinstance(item, _Damaged):
                raise item.error
            yield item


def read_bytes(
    ingested: ShardSet, shard: str, keys: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield key and file of the good samples among `keys`, in table order; nothing is decoded.

    Raises:
        ShardError: the tar is shorter than its table says.
    """
    rows = ingested.table(shard, _COLUMNS).to_pylist()
    with _open_tar(ingested, shard, whole=True) as tar:
        for row in rows:
            if row["status"] == OK and row["key"] in keys:
                yield row["key"], _read_member(ingested, shard, tar, row)


def batch_pictures(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Cut a stream into batches of `size` pictures, fewer where they are very large."""
    batch, num_pixels = list[Picture](), 0
    for picture in pictures:
        pixels = picture.image.width * picture.image.height
        if len(batch) == size or (batch and num_pixels + pixels > MAX_BATCH_PIXELS):
            yield batch
            batch, num_pixels = [], 0
        batch.append(picture)
        num_pixels += pixels
    if batch:
        yield batch


_Encoded = tuple[Mapping[str, Any], bytes]


def _read_member(ingested: ShardSet, shard: str, tar: BinaryIO, row: Mapping[str, Any]) -> bytes:
    tar.seek(row["offset"])
    data = tar.read(row["bytes"])
    if len(data) != row["bytes"]:
        raise ShardError(
            f"{ingested.url}/{shard}.tar: must hold {row['bytes']} bytes at "
            f"{row['offset']}, got {len(data)}; run `curate run stage=ingest` again"
        )
    return data


def _count_pixels(encoded: _Encoded) -> int:
    row, _ = encoded
    return int(row["width"] * row["height"])


def _decode(encoded: _Encoded) -> Picture | _Damaged:
    row, data = encoded
    try:  # ingest has admitted its size
        image = decode_image(data, max_pixels=row["width"] * row["height"])
    except SampleError as error:
        return _Damaged(key=row["key"], error=error)
    return Picture(key=row["key"], caption=row["caption"], image=image)


def _open_tar(ingested: ShardSet, shard: str, *, whole: bool) -> BinaryIO:
    """Open a shard's tar; behind a URL it is copied once if all of it is wanted, else not."""
    if whole or ingested.store.is_local:
        return ingested.tar_path(shard).open("rb")
    return ingested.store.open(f"{shard}.tar")
