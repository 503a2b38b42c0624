"""Read decoded pictures of ingested shards, by their offsets, for the stages that open pixels."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

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
    path = ingested.tar_path(shard)
    with path.open("rb") as tar:
        for row in ingested.table(shard, _COLUMNS).to_pylist():
            if row["status"] != OK or (keys is not None and row["key"] not in keys):
                continue
            data = os.pread(tar.fileno(), row["bytes"], row["offset"])
            if len(data) != row["bytes"]:
                raise ShardError(
                    f"{path}: must hold {row['bytes']} bytes at {row['offset']}, "
                    f"got {len(data)}; run `curate run stage=ingest` again"
                )
            yield Picture(key=row["key"], caption=row["caption"], image=decode_image(data))
