"""Resize every kept picture once into its aspect bucket: the recaptioned WebDataset shards.

    wave 1: sizes and verdicts of all shards -> bucket and output shard of each kept sample: `_plan`
    wave 2: one task per output shard: read originals by offset, resize, write picture + captions

One bucket per shard; samples are shuffled once, globally, by a draw that belongs to their key.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from curate.core.bucket import crop_loss, make_buckets, nearest_bucket, parse_bucket
from curate.core.errors import ConfigError, StageError
from curate.core.image import cover_box, encode_image, resize_cover
from curate.core.manifest import Task
from curate.core.schema import OK, shard_name
from curate.core.seed import derive_seed
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.pictures import Picture, read_pictures

PLAN = "_plan"

PLAN_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("bucket", pa.string()),
        ("shard", pa.string()),
        ("source_shard", pa.string()),
    ]
)
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

    def waves(self) -> Iterator[Sequence[Task]]:
        verdicts = self.inputs["dedup"].all_digests(".parquet")
        ingested = self.inputs["ingest"].all_digests(".parquet")
        inputs: dict[str, str] = {}
        for shard, digests in verdicts.items():
            inputs |= {**digests, **ingested[shard]}
        yield [Task(shard=PLAN, inputs=inputs)]
        yield list(self._shard_tasks())

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == PLAN:
            return self._write_plan(place)
        return self._write_shard(task, place)

    def _shard_tasks(self) -> Iterator[Task]:
        ingested = self.inputs["ingest"].all_digests()
        captions = self.inputs["recaption"].all_digests(".parquet")
        for shard, rows in _group(self.own.table(PLAN).to_pylist(), "shard").items():
            if not shard:
                continue
            keys = json.dumps([(row["key"], row["source_shard"]) for row in rows])
            inputs = {f"plan/{shard}": hashlib.sha256(keys.encode()).hexdigest()}
            for source in sorted({row["source_shard"] for row in rows}):
                inputs |= {**ingested[source], **captions[source]}
            yield Task(shard=shard, inputs=inputs, params={"bucket": rows[0]["bucket"]})

    def _write_plan(self, place: Place) -> Counter[str]:
        rows = list(self._kept_sizes())
        if not rows:
            raise StageError(
                "bucket: needs kept samples, got none; loosen the thresholds of filter"
            )
        buckets = make_buckets(self.config.area_px, self.config.step_px, self.config.max_aspect)
        counts: Counter[str] = Counter()
        for row in rows:
            bucket = nearest_bucket(row["height"], row["width"], buckets)
            lost = crop_loss(row["height"], row["width"], bucket)
            row["status"] = OK if lost <= self.config.max_crop_frac else "crop_loss"
            row["bucket"] = bucket.name
            if row["status"] != OK:
                counts.update(["in", "dropped.crop_loss"])
        rows = self._assign_shards(rows)
        with ShardWriter(place.out, PLAN, PLAN_SCHEMA, with_tar=False) as writer:
            for row in rows:
                writer.write({name: row[name] for name in PLAN_SCHEMA.names})
        return counts

    def _kept_sizes(self) -> Iterator[dict[str, Any]]:
        for shard, verdicts in self.inputs["dedup"].tables(["key", "keep"]):
            sizes = self.inputs["ingest"].table(shard, ["key", "height", "width"])
            joined = verdicts.filter(verdicts["keep"]).join(sizes, "key")
            for row in joined.to_pylist():
                yield {**row, "source_shard": shard}

    def _assign_shards(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Shuffle once by a draw that belongs to the key, then cut each bucket into shards."""
        ordered = sorted(
            rows,
            key=lambda row: (row["bucket"], derive_seed(self.seed, "bucket-order", row["key"])),
        )
        position: Counter[str] = Counter()
        number: dict[tuple[str, int], str] = {}
        for row in ordered:
            if row["status"] != OK:
                row["shard"] = ""
                continue
            slot = (row["bucket"], position[row["bucket"]] // self.config.shard_size)
            position[row["bucket"]] += 1
            row["shard"] = number.setdefault(slot, shard_name(len(number)))
        return ordered

    def _write_shard(self, task: Task, place: Place) -> Counter[str]:
        plan = self.own.table(PLAN).to_pylist()
        rows = [row for row in plan if row["shard"] == task.shard]
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


def _captions(recaptioned: ShardSet, shard: str, keys: set[str]) -> dict[str, dict[str, str]]:
    """Collect the accepted captions of some samples: key -> source -> text."""
    captions: dict[str, dict[str, str]] = {}
    table = recaptioned.table(shard, ["key", "status", "source", "text"])
    for row in table.to_pylist():
        if row["status"] == OK and row["key"] in keys:
            captions.setdefault(row["key"], {})[row["source"]] = row["text"]
    return captions


def _group(rows: Sequence[dict[str, Any]], column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups
