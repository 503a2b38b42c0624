"""Resize every kept picture once into its aspect bucket: the recaptioned WebDataset shards.

    wave 1: sizes and verdicts of a shard -> bucket and draw of each kept sample: `_sizes-NNNNN`
    wave 2: all `_sizes` merged by (bucket, draw) and cut into output shards: `_plan`
    wave 3: one task per output shard: read originals by offset, resize, write picture + captions

One bucket per shard; samples are shuffled once, globally, by a draw that belongs to their key. The
merge streams: its memory is 4096 rows of 100 bytes for each of at most 256 shards at a time, and
one output shard. `_plan` has one row group per output shard, so a task reads its own rows only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from curate.core.bucket import crop_loss, nearest_bucket, parse_bucket
from curate.core.bucket_rules import area_buckets
from curate.core.errors import ConfigError, StageError
from curate.core.image import cover_box, encode_image, resize_cover
from curate.core.manifest import Task
from curate.core.merge import cut_by, merge_sorted, read_pieces
from curate.core.schema import OK, VERDICTS, shard_name
from curate.core.seed import derive_seed
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.pictures import Picture, read_pictures

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
SIZES, PLAN = "_sizes-", "_plan"
_ORDER = ("bucket", "draw", "key")

SIZES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("bucket", pa.string()),
        ("draw", pa.uint64()),
        ("source_shard", pa.string()),
    ]
)
PLAN_SCHEMA = SIZES_SCHEMA.append(pa.field("shard", pa.string()))
BUCKET_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("bucket", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("original_height", pa.int32()),
        ("original_width", pa.int32()),
        ("crop_top", pa.float32()),
        ("crop_left", pa.float32()),
        ("crop_height", pa.float32()),
        ("crop_width", pa.float32()),
        ("captions.source", pa.list_(pa.string())),
        ("captions.text", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """Set the training sizes and the picture format.

    Args:
        area_px: pixels of a bucket, at most (4096 = 64 x 64).
        step_px: sides are multiples of it; the VAE's 8 times the backbone's patch size.
        max_aspect: longest over shortest side of a bucket.
        max_crop_frac: pictures that would lose more of their area are dropped as "crop_loss".
        shard_size: samples per output shard.
        image_format: "png" (lossless) or "webp"; likewise quality, 1..100.
    """

    area_px: int = 4096
    step_px: int = 8
    max_aspect: float = 2.0
    max_crop_frac: float = 0.35
    shard_size: int = 512
    image_format: str = "webp"
    quality: int = field(default=95)

    def __post_init__(self) -> None:
        if self.step_px < 8 or self.step_px % 8 or self.area_px < self.step_px**2:
            raise ConfigError(
                "bucket.step_px: must be a multiple of 8 and its square at most area_px, "
                f"got {self.step_px} and area_px {self.area_px}; change one"
            )
        if self.image_format not in ("png", "webp") or not 1 <= self.quality <= 100:
            raise ConfigError(
                "bucket.image_format: must be png or webp with quality 1..100, "
                f"got {self.image_format} and {self.quality}; change them"
            )
        if self.max_aspect < 1 or not 0 <= self.max_crop_frac < 1 or self.shard_size < 1:
            raise ConfigError(
                "bucket: max_aspect >= 1, 0 <= max_crop_frac < 1 and shard_size >= 1, "
                f"got {self.max_aspect}, {self.max_crop_frac} and {self.shard_size}; change them"
            )


class BucketStage(Stage[BucketConfig]):
    """Write resized pictures with all their captions, one aspect bucket per shard."""

    name: ClassVar[str] = "bucket"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = (VERDICTS, "kept")

    def waves(self) -> Iterator[Sequence[Task]]:
        captioned = set(self.inputs["recaption"].shards())  # a quarantined shard is left out
        verdicts = {
            shard: digests
            for shard, digests in self.inputs[VERDICTS].all_digests(".parquet").items()
            if shard in captioned
        }
        ingested = self.inputs["ingest"].all_digests(".parquet")
        yield [
            Task(shard=f"{SIZES}{shard}", inputs={**digests, **ingested[shard]})
            for shard, digests in verdicts.items()
        ]
        inputs: dict[str, str] = {}
        for shard in verdicts:
            inputs |= self.own.digests(f"{SIZES}{shard}", ".parquet")
        params = {"sources": list(verdicts)}
        yield [Task(shard=PLAN, inputs={"all sizes": _digest_of(inputs)}, params=params)]
        yield list(self._shard_tasks())

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == PLAN:
            return self._write_plan(task, place)
        if task.shard.startswith(SIZES):
            return self._write_sizes(task.shard, place)
        return self._write_shard(task, place)

    def _write_sizes(self, name: str, place: Place) -> Counter[str]:
        """Choose the bucket of a shard's kept samples; count those that would lose too much."""
        shard = name.removeprefix(SIZES)
        buckets = area_buckets(
            math.isqrt(self.config.area_px), self.config.step_px, self.config.max_aspect
        )
        verdicts = self.inputs[VERDICTS].table(shard, ["key", "keep"])
        sizes = self.inputs["ingest"].table(shard, ["key", "height", "width"])
        kept = verdicts.filter(verdicts["keep"]).join(sizes, "key")
        counts: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []
        for row in kept.to_pylist():
            bucket = nearest_bucket(row["height"], row["width"], buckets)
            lost = crop_loss(row["height"], row["width"], bucket)
            status = OK if lost <= self.config.max_crop_frac else "crop_loss"
            if status != OK:
                counts.update(["in", "dropped.crop_loss"])
            rows.append(
                {
                    "key": row["key"],
                    "status": status,
                    "bucket": bucket.name,
                    "draw": derive_seed(self.seed, "bucket-order", row["key"]),
                    "source_shard": shard,
                }
            )
        rows.sort(key=lambda row: [row[name] for name in _ORDER])
        with ShardWriter(place.out, name, SIZES_SCHEMA, with_tar=False) as writer:
            for row in rows:
                writer.write(row)
        return counts

    def _write_plan(self, task: Task, place: Place) -> Counter[str]:
        """Merge the sizes of all shards and cut the stream; one row group per output shard."""
        paths = [self.own.table_path(f"{SIZES}{shard}") for shard in task.params["sources"]]
        merged = merge_sorted([partial(read_pieces, path) for path in paths], _ORDER, place.scratch)
        number = 0
        with pq.ParquetWriter(
            place.out / f"{PLAN}.parquet", PLAN_SCHEMA, compression="zstd"
        ) as writer:
            for rows in cut_by(_good(merged), "bucket", self.config.shard_size):
                name = pa.array([shard_name(number)] * len(rows), pa.string())
                writer.write_table(rows.append_column("shard", name).cast(PLAN_SCHEMA))
                number += 1
        if not number:
            raise StageError(
                "bucket: needs kept samples, got none; loosen the thresholds of filter"
            )
        return Counter()

    def _shard_tasks(self) -> Iterator[Task]:
        ingested = self.inputs["ingest"].all_digests()
        captions = self.inputs["recaption"].all_digests(".parquet")
        with pq.ParquetFile(self.own.table_path(PLAN)) as plan:
            for group in range(plan.num_row_groups):
                rows = plan.read_row_group(group).to_pylist()
                keys = json.dumps([(row["key"], row["source_shard"]) for row in rows])
                shard = rows[0]["shard"]
                sources = sorted({row["source_shard"] for row in rows})
                read = [(ingested[source], captions[source]) for source in sources]
                inputs = {
                    f"plan/{shard}": hashlib.sha256(keys.encode()).hexdigest(),
                    f"pictures and captions of {len(sources)} shards": _digest_of(read),
                }
                params = {"bucket": rows[0]["bucket"], "group": group}
                yield Task(shard=shard, inputs=inputs, params=params)

    def _write_shard(self, task: Task, place: Place) -> Counter[str]:
        with pq.ParquetFile(self.own.table_path(PLAN)) as plan:
            rows = plan.read_row_group(task.params["group"]).to_pylist()
        bucket = parse_bucket(task.params["bucket"])
        pictures: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {}
        for source, wanted in _group(rows, "source_shard").items():
            keys = {row["key"] for row in wanted}
            captions = _captions(self.inputs["recaption"], source, keys)
            for picture in read_pictures(self.inputs["ingest"], source, keys):
                texts = {"alt": picture.caption, **captions.get(picture.key, {})}
                pictures[picture.key] = self._resize(picture, bucket.height, bucket.width, texts)
        with ShardWriter(place.out, task.shard, BUCKET_SCHEMA, with_tar=True) as writer:
            for row in rows:
                record, members = pictures[row["key"]]
                writer.write({**record, "bucket": bucket.name}, members)
        return Counter({"in": len(rows), "kept": len(rows)})

    def _resize(
        self, picture: Picture, height: int, width: int, captions: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        image = picture.image
        top, left, crop_height, crop_width = cover_box(image.height, image.width, height, width)
        row = {
            "key": picture.key,
            "status": OK,
            "height": height,
            "width": width,
            "original_height": image.height,
            "original_width": image.width,
            "crop_top": top,
            "crop_left": left,
            "crop_height": crop_height,
            "crop_width": crop_width,
        }
        meta = {
            **{k: v for k, v in row.items() if k not in ("key", "status")},
            "captions": captions,
        }
        row |= {"captions.source": list(captions), "captions.text": list(captions.values())}
        format_ = "png" if self.config.image_format == "png" else "webp"
        pixels = encode_image(resize_cover(image, height, width), format_, self.config.quality)
        text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
        return row, {format_: pixels, "json": text.encode()}


def _good(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for piece in pieces:
        yield piece.filter(pc.equal(piece["status"], OK))


def _captions(recaptioned: ShardSet, shard: str, keys: set[str]) -> dict[str, dict[str, str]]:
    """Collect the accepted captions of some samples: key -> source -> text."""
    captions: dict[str, dict[str, str]] = {}
    table = recaptioned.table(shard, ["key", "status", "source", "text"])
    for row in table.to_pylist():
        if row["status"] == OK and row["key"] in keys:
            captions.setdefault(row["key"], {})[row["source"]] = row["text"]
    return captions


def _digest_of(parts: Any) -> str:
    """Give one digest for many: an output shard may draw from hundreds of source shards."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _group(rows: Sequence[dict[str, Any]], column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups
