"""Place the kept samples of a shard by their sizes alone: no picture is opened.

    verdicts + sizes -> bucket at each resolution, or the reason for none -> `_sizes-NNNNN.parquet`
    captions of each -> one line of JSON, found by its offset            -> `_sizes-NNNNN.jsonl`

An output shard gathers samples of hundreds of source shards. All it must know of one is in its row
here, and two reads by offset, of picture and captions, bring the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.bucket import Bucket, crop_loss
from curate.core.geometry import Geometry, list_buckets
from curate.core.placement import CROP_LOSS, STATUSES, choose_buckets
from curate.core.schema import KEY, OK, STATUS, VERDICTS
from curate.core.seed import derive_seed
from curate.core.shard import ShardSet
from curate.stages.bucketing.captions import Captions, read_captions

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
SIZES = "_sizes-"
_PLACED = STATUSES.index(OK)
ORDER = ("draw", KEY)  # in which samples are dealt to output shards

SIZES_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(STATUS, pa.string(), nullable=False),
        ("score", pa.float64()),  # of a dropped sample: share cut off, or enlargement
        ("threshold", pa.string()),  # what it had to keep
        ("draw", pa.uint64()),
        ("buckets", pa.list_(pa.string())),  # at each resolution, "" for none
        ("source_shard", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("offset", pa.int64()),  # of the picture in ingest's tar
        ("bytes", pa.int64()),
        ("captions_offset", pa.int64()),  # in the .jsonl beside this table
        ("captions_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSizes:
    """Hold what is known of a shard's kept samples: rows of SIZES_SCHEMA, captions, counts."""

    rows: pa.Table
    captions: bytes
    counts: Counter[str]


def read_sizes(
    inputs: Mapping[str, ShardSet], shard: str, geometry: Geometry, seed: int
) -> ShardSizes:
    """Place the kept samples of one shard, in the order of their draws.

    Args:
        inputs: verdicts, ingest, and judge where there is one.
        shard: its name.
        geometry: sizes and limits.
        seed: the run's seed.

    Returns:
        Counts have only what ends here: dropped samples, and how many are missing at a resolution
        though they are kept at another ("absent.512").
    """
    kept = _read_kept(inputs, shard)
    draws = [derive_seed(seed, "bucket-order", key) for key in kept[KEY].to_pylist()]
    kept = kept.append_column("draw", pa.array(draws, pa.uint64()))
    kept = kept.sort_by([(name, "ascending") for name in ORDER])
    chosen, statuses = _place(kept, geometry)
    reasons = _name_reasons(kept, chosen, statuses, geometry)
    alts = zip(kept[KEY].to_pylist(), pc.fill_null(kept["caption"], "").to_pylist(), strict=True)
    lines = _to_lines(read_captions(inputs, shard, dict(alts)), kept, reasons.status)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    sizes = np.array([len(line) for line in lines], np.int64)
    columns = {
        KEY: kept[KEY],
        STATUS: pa.array(reasons.status, pa.string()),
        "score": pa.array(reasons.score, pa.float64()),
        "threshold": pa.array(reasons.threshold, pa.string()),
        "draw": kept["draw"],
        "buckets": _name_buckets(chosen, statuses, geometry),
        "source_shard": pa.repeat(pa.scalar(shard), len(kept)),
        **{name: kept[name] for name in ("height", "width", "offset", "bytes")},
        "captions_offset": pa.array(ends - sizes),
        "captions_bytes": pa.array(sizes),
    }
    rows = pa.table(columns).cast(SIZES_SCHEMA)
    counts = _count(reasons.status, statuses, geometry.resolutions)
    return ShardSizes(rows=rows, captions=b"".join(lines), counts=counts)


def _read_kept(inputs: Mapping[str, ShardSet], shard: str) -> pa.Table:
    verdicts = inputs[VERDICTS].table(shard, [KEY, "keep"])
    names = [KEY, "height", "width", "offset", "bytes", "caption"]
    ingested = inputs["ingest"].table(shard, names)
    kept = verdicts.filter(verdicts["keep"])[KEY].combine_chunks()
    return ingested.filter(pc.is_in(ingested[KEY], value_set=kept))


def _place(kept: pa.Table, geometry: Geometry) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose buckets at every resolution: places in their lists [N, R], and in STATUSES [N, R]."""
    heights = kept["height"].to_numpy().astype(np.int64)
    widths = kept["width"].to_numpy().astype(np.int64)
    found = [choose_buckets(heights, widths, geometry, side) for side in geometry.resolutions]
    chosen = np.stack([places for places, _ in found], axis=1)
    return chosen, np.stack([status for _, status in found], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reasons:
    status: Sequence[str]
    score: Sequence[float | None]
    threshold: Sequence[str]


def _name_reasons(
    kept: pa.Table, chosen: NDArray[np.int64], statuses: NDArray[np.int64], geometry: Geometry
) -> _Reasons:
    """Say of each sample why no resolution has it, by the first one's limits; "ok" if one has."""
    is_placed = (statuses == _PLACED).any(axis=1)
    first = list_buckets(geometry, geometry.resolutions[0])
    status: list[str] = [OK] * len(kept)
    score: list[float | None] = [None] * len(kept)
    threshold = [""] * len(kept)
    for row in np.flatnonzero(~is_placed).tolist():
        height, width = kept["height"][row].as_py(), kept["width"][row].as_py()
        status[row] = STATUSES[int(statuses[row, 0])]
        score[row], threshold[row] = _measure(
            height, width, first[int(chosen[row, 0])], status[row], geometry
        )
    return _Reasons(status=status, score=score, threshold=threshold)


def _measure(
    height: int, width: int, bucket: Bucket, status: str, geometry: Geometry
) -> tuple[float, str]:
    """Give the number that a sample was dropped for, and what it had to keep."""
    if status == CROP_LOSS:
        return crop_loss(height, width, bucket), f"<= {geometry.max_crop_frac:g}"
    return max(bucket.height / height, bucket.width / width), f"<= {geometry.max_upscale:g}"


def _name_buckets(
    chosen: NDArray[np.int64], statuses: NDArray[np.int64], geometry: Geometry
) -> pa.ListArray:
    """Spell the buckets, "" where a sample is not placed: list<string> [N], R names each."""
    names = np.full(chosen.shape, "", object)
    for column, side in enumerate(geometry.resolutions):
        known = np.array([bucket.name for bucket in list_buckets(geometry, side)], object)
        placed = statuses[:, column] == _PLACED
        names[placed, column] = known[chosen[placed, column]]
    num, sides = chosen.shape
    offsets = pa.array(np.arange(0, (num + 1) * sides, sides), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(names.ravel(), pa.string()))


def _to_lines(
    captions: Mapping[str, Captions], kept: pa.Table, statuses: Sequence[str]
) -> list[bytes]:
    """Spell the captions of every sample that goes on; b"" for the others."""
    return [
        (json.dumps(captions[key].entries, ensure_ascii=False) + "\n").encode()
        if status == OK
        else b""
        for key, status in zip(kept[KEY].to_pylist(), statuses, strict=True)
    ]


def _count(
    reasons: Sequence[str], statuses: NDArray[np.int64], resolutions: Sequence[int]
) -> Counter[str]:
    dropped = Counter(f"dropped.{reason}" for reason in reasons if reason != OK)
    counts = Counter({"in": dropped.total()}) + dropped
    placed = statuses == _PLACED  # [N, R]
    for column, side in enumerate(resolutions):
        counts += Counter({f"absent.{side}": int((placed.any(axis=1) & ~placed[:, column]).sum())})
    return counts
