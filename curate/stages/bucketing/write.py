"""Write one output shard: read its samples by offset, resize, cut, encode, with all captions.

    rows of the plan -> picture and captions of each, source by source -> resized window
                     -> KEY.webp, KEY.json, and KEY.txt if asked for, in the order of the plan

Every sample has the same members and its JSON the same fields, as `datasets` wants them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.core.errors import ShardError
from curate.core.image import encode_image, resize_box
from curate.core.placement import Placement
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from curate.core.smart_crop import place_picture
from curate.stages.bucketing.config import FORMATS, BucketConfig
from curate.stages.bucketing.sizes import SIZES
from curate.stages.pictures import Picture, read_rows
from curate.stages.recaptioning.rows import ALT

BUCKET_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(STATUS, pa.string(), nullable=False),
        ("bucket", pa.string()),
        ("resolution", pa.int32()),  # S: the bucket's area is near S^2
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("original_height", pa.int32()),  # as ingest has the picture
        ("original_width", pa.int32()),
        ("scaled_height", pa.int32()),  # after the resize, before the cut
        ("scaled_width", pa.int32()),
        ("crop_top", pa.int32()),  # in the resized picture: SDXL's ids
        ("crop_left", pa.int32()),
        ("box_top", pa.float32()),  # the window in the original
        ("box_left", pa.float32()),
        ("box_height", pa.float32()),
        ("box_width", pa.float32()),
        ("home_shard", pa.string()),  # the sample's row at its smallest resolution
        ("home_row", pa.int32()),
        ("captions.source", pa.list_(pa.string())),
        ("captions.text", pa.list_(pa.string())),
        ("captions.attempt", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Hold one sample of an output shard: its row and its members."""

    row: Mapping[str, Any]
    members: Mapping[str, bytes]


def make_samples(
    rows: Sequence[Mapping[str, Any]],
    ingested: ShardSet,
    own: ShardSet,
    config: BucketConfig,
    seed: int,
) -> dict[str, Written]:
    """Read, resize and encode the samples of one output shard.

    Args:
        rows: of PLAN_SCHEMA, one shard's.
        ingested: has the pictures.
        own: has the captions, beside the sizes.
        config: of the stage.
        seed: the run's seed.

    Returns:
        Samples by key.

    Raises:
        ShardError: a picture has not the size that it was planned with.
        SampleError: a picture does not decode.
    """
    made: dict[str, Written] = {}
    by_key = {row[KEY]: row for row in rows}
    for source in sorted({row["source_shard"] for row in rows}):
        wanted = [row for row in rows if row["source_shard"] == source]
        wanted.sort(key=lambda row: row["offset"])
        captions = _read_captions(own, source, wanted)
        asked = [{**row, "caption": captions[row[KEY]][0]["text"]} for row in wanted]
        for picture in read_rows(ingested, source, asked):
            planned = by_key[picture.key]
            placement = _place(picture, planned, config, seed)
            made[picture.key] = _make(picture, placement, planned, captions[picture.key], config)
    return made


def _place(
    picture: Picture, planned: Mapping[str, Any], config: BucketConfig, seed: int
) -> Placement:
    image = picture.image
    placement = place_picture(picture.key, image, config.geometry, planned["resolution"], seed)
    if (placement.status, placement.bucket.name) != (OK, planned["bucket"]):
        raise ShardError(
            f"{planned['source_shard']}: {picture.key} must be {planned['height']} x "
            f"{planned['width']} pixels, got {image.height} x {image.width}; "
            "run `curate run stage=ingest` again"
        )
    return placement


def _make(
    picture: Picture,
    placement: Placement,
    planned: Mapping[str, Any],
    captions: Sequence[Mapping[str, str]],
    config: BucketConfig,
) -> Written:
    row = {KEY: picture.key, STATUS: OK, **_describe(placement)}
    row |= {name: planned[name] for name in ("home_shard", "home_row")}
    meta = {name: value for name, value in row.items() if name != STATUS}
    members = {
        config.image_format: _encode(picture, placement, config),
        "json": json.dumps({**meta, "captions": captions}, ensure_ascii=False).encode(),
    }
    if config.txt:
        members["txt"] = _choose_text(captions, config.txt).encode()
    lists = {
        f"captions.{name}": [caption[name] for caption in captions]
        for name in ("source", "text", "attempt")
    }
    return Written(row={**row, **lists}, members=members)


def _describe(placement: Placement) -> dict[str, Any]:
    return {
        "bucket": placement.bucket.name,
        "resolution": placement.resolution,
        "height": placement.bucket.height,
        "width": placement.bucket.width,
        "original_height": placement.original_height,
        "original_width": placement.original_width,
        "scaled_height": placement.scaled_height,
        "scaled_width": placement.scaled_width,
        "crop_top": placement.crop_top,
        "crop_left": placement.crop_left,
        "box_top": placement.box_top,
        "box_left": placement.box_left,
        "box_height": placement.box_height,
        "box_width": placement.box_width,
    }


def _encode(picture: Picture, placement: Placement, config: BucketConfig) -> bytes:
    bucket = placement.bucket
    box = (placement.box_top, placement.box_left, placement.box_height, placement.box_width)
    pixels = resize_box(picture.image, box, bucket.height, bucket.width, config.filter)
    return encode_image(pixels, FORMATS[config.image_format], config.quality)


def _choose_text(captions: Sequence[Mapping[str, str]], source: str) -> str:
    """Give the caption of a source, or the alt text, so that every sample has one."""
    texts = {caption["source"]: caption["text"] for caption in captions}
    return texts.get(source, texts[ALT])


def _read_captions(
    own: ShardSet, source: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, list[dict[str, str]]]:
    with own.store.open(f"{SIZES}{source}.jsonl") as stream:
        return dict(_read_lines(stream, rows))


def _read_lines(
    stream: Any, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for row in rows:
        stream.seek(row["captions_offset"])
        yield row[KEY], json.loads(stream.read(row["captions_bytes"]))
