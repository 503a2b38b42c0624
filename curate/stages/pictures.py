"""Read decoded pictures of ingested shards, by their offsets, for the stages that open pixels."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from curate.core.errors import ShardError
from curate.core.image import decode_image
from curate.core.schema import OK
from curate.core.shard import ShardSet

_COLUMNS = ("key", "status", "caption", "offset", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Hold one decoded sample: RGB, upright, sRGB."""

    key: str
    caption: str
    image: Image.Image


def read_pictures(
    ingested: ShardSet, shard: str, keys: Collection[str] | None = None
) -> Iterator[Picture]:
    """Yield the good samples of a shard in table order, or only those among `keys`.

    Raises:
        ShardError: the tar is shorter than its table says.
        SampleError: a picture no longer decodes, though ingest decoded it.
    """
    rows = [
        row
        for row in ingested.table(shard, _COLUMNS).to_pylist()
        if row["status"] == OK and (keys is None or row["key"] in keys)
    ]
    with _open_tar(ingested, shard, whole=keys is None) as tar:
        for row in rows:
            tar.seek(row["offset"])
            data = tar.read(row["bytes"])
            if len(data) != row["bytes"]:
                raise ShardError(
                    f"{ingested.url}/{shard}.tar: must hold {row['bytes']} bytes at "
                    f"{row['offset']}, got {len(data)}; run `curate run stage=ingest` again"
                )
            yield Picture(key=row["key"], caption=row["caption"], image=decode_image(data))


def _open_tar(ingested: ShardSet, shard: str, *, whole: bool) -> BinaryIO:
    """Open a shard's tar; behind a URL it is copied once if all of it is wanted, else not."""
    if whole or ingested.store.is_local:
        return ingested.tar_path(shard).open("rb")
    return ingested.store.open(f"{shard}.tar")
