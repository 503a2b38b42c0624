"""Admit one sample to a shard, or say why not: bytes, header, hash, pixels, members.

RawSample -> budgets (bytes, then the header's pixels and frames) -> sha256 -> all pixels read
          -> row of INGEST_SCHEMA + members; a refused sample has a status and no members
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.core.errors import SampleError
from curate.core.image import decode_reduced, encode_image, min_side_size, resize_min_side
from curate.core.image_header import Header, read_header, verify_pixels
from curate.core.image_structure import ends_whole
from curate.core.jpeg_shrink import shrink_jpeg
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Hold a sample's row of the side table and its members by extension; none when refused."""

    row: dict[str, Any]
    members: Mapping[str, bytes]


def admit(sample: RawSample, config: IngestConfig) -> Admitted:
    """Check a sample and give what the shard holds of it."""
    row = _source_columns(sample)
    data = sample.data
    if data is None:
        return Admitted(row=row, members={})
    row |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    try:
        header = _check(data, sample.expected_sha256, row["sha256"], config)
        stored = _reduce(data, header, config)
    except SampleError as error:
        return Admitted(row=row | {"status": error.status, "error": error.detail}, members={})
    row |= {
        "bytes": len(stored.data),
        "format": stored.format,
        "mode": header.mode,
        "frames": header.frames,
        "width": stored.width,
        "height": stored.height,
        "original_width": header.width,
        "original_height": header.height,
    }
    return Admitted(row=row, members=_members(sample, stored))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Hold the picture that goes into the tar: the original bytes, or a smaller JPEG."""

    data: bytes
    format: str
    width: int
    height: int


def _source_columns(sample: RawSample) -> dict[str, Any]:
    return {
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


def _check(data: bytes, expected: str, found: str, config: IngestConfig) -> Header:
    if len(data) > config.max_bytes:
        raise SampleError("too_many_bytes", f"{len(data)} bytes, at most {config.max_bytes}")
    if expected not in ("", found):
        raise SampleError("hash_mismatch", f"sha256 is {found}, the source says {expected}")
    header = read_header(data, config.max_pixels, config.max_frames)
    if _shrinks(header, config):  # which decodes all of it
        return header
    if config.verify == "pixels" or not ends_whole(data, header.format):
        verify_pixels(data, header)
    return header


def _shrinks(header: Header, config: IngestConfig) -> bool:
    return 0 < config.resize_px < min(header.width, header.height)


def _reduce(data: bytes, header: Header, config: IngestConfig) -> _Stored:
    if not _shrinks(header, config):
        return _Stored(data=data, format=header.format, width=header.width, height=header.height)
    width, height = min_side_size(config.resize_px, header.height, header.width)
    small = shrink_jpeg(data, header, config.resize_px, config.resize_quality)
    if small is None:
        picture = decode_reduced(data, config.resize_px, header.width * header.height)
        resized = resize_min_side(picture, config.resize_px, header.height, header.width)
        small = encode_image(resized, "jpeg", config.resize_quality, subsampling="4:2:0")
    return _Stored(data=small, format="jpg", width=width, height=height)


def _members(sample: RawSample, stored: _Stored) -> dict[str, bytes]:
    meta = {
        **sample.fields,
        "url": sample.url,
        "caption": sample.caption,
        "license": sample.license,
        "source_key": sample.source_key,
    }
    own = {
        stored.format: stored.data,
        "txt": sample.caption.encode(),
        "json": _to_json(meta).encode(),
    }
    # A further picture of the source may be called as this one's true format is.
    further = {f"source.{ext}" if ext in own else ext: d for ext, d in sample.members.items()}
    return further | own


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
