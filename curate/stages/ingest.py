"""Bring pictures and captions into shards: original bytes, checked, hashed, a row for every sample.

input -> sources (URL table by img2dataset, folder, WebDataset) -> decode check -> tar + parquet
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from curate.core.errors import SampleError
from curate.core.image import FORMATS, decode_image, open_image
from curate.core.manifest import Task
from curate.core.schema import INGEST_SCHEMA, OK
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.sources.config import IngestConfig
from curate.sources.table import RawSample, make_source


class IngestStage(Stage[IngestConfig]):
    """Write original bytes and a row for every sample, failed ones too."""

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 3

    def waves(self) -> Iterator[Sequence[Task]]:
        yield make_source(self.config).plan()

    def run(self, task: Task, place: Place) -> Counter[str]:
        counts: Counter[str] = Counter()
        source = make_source(self.config)
        with ShardWriter(place.out, task.shard, INGEST_SCHEMA, with_tar=True) as writer:
            for sample in source.read(task, place.scratch):
                row, members = _check(sample, self.config.max_pixels)
                positions = writer.write(row, members)
                if row["status"] == OK:
                    row["offset"] = positions[row["format"]][0]
                counts["in"] += 1
                counts["kept" if row["status"] == OK else f"failed.{row['status']}"] += 1
        return counts


def _check(sample: RawSample, max_pixels: int) -> tuple[dict[str, Any], Mapping[str, bytes]]:
    """Decode once to be sure, and give the row and the members."""
    row: dict[str, Any] = {
        "key": sample.key,
        "status": sample.status,
        "error": sample.error,
        "url": sample.url,
        "caption": sample.caption,
        "source": sample.source,
        "license": sample.license,
        "source_key": sample.source_key,
        "fields": _to_json(sample.fields) if sample.fields else None,
        "row": sample.row,
    }
    if sample.data is None:
        return row, {}
    row["sha256"] = hashlib.sha256(sample.data).hexdigest()
    row["bytes"] = len(sample.data)
    if sample.expected_sha256 not in ("", row["sha256"]):
        detail = f"sha256 is {row['sha256']}, the source says {sample.expected_sha256}"
        return row | {"status": "hash_mismatch", "error": detail}, {}
    try:
        header = open_image(sample.data, max_pixels)
        ext = FORMATS.get(header.format or "")
        if ext is None:
            raise SampleError("unsupported_format", header.format or "unknown")
        picture = decode_image(sample.data, max_pixels)
    except SampleError as error:
        return row | {"status": error.status, "error": error.detail}, {}
    row |= {"format": ext, "width": picture.width, "height": picture.height}
    meta = {
        **sample.fields,
        "url": sample.url,
        "caption": sample.caption,
        "license": sample.license,
        "source_key": sample.source_key,
    }
    members = {
        **sample.members,
        ext: sample.data,
        "txt": sample.caption.encode(),
        "json": _to_json(meta).encode(),
    }
    return row, members


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
