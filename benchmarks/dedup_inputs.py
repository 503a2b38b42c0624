"""Write what dedup reads, without any picture: verdicts, measurements and rows of drawn samples.

draw_samples -> Samples (arrays) -> write_inputs -> filter/, annotate/, ingest/, finished shards
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.commit import Output, commit
from curate.core.manifest import Identity
from curate.core.schema import OK
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.duplicates.windows import sample_span

_HEX = np.array([f"{value:02x}" for value in range(256)], dtype="S2")
INPUTS = ("filter", "annotate", "ingest")


@dataclass(slots=True, kw_only=True)
class Samples:
    """Hold the facts of [N] samples.

    Args:
        keys: [N, 10] bytes.
        files: [N, 32], sha256 of the file.
        pixels: [N, 32], sha256 of the pixels.
        phashes: [N], uint64.
        thumbnails: [N, 192].
        widths: [N]; a height is 100.
        kept: [N], what filter said.
        more: further columns of annotate.
        facts: metadata of annotate's tables.
    """

    keys: NDArray[np.uint8]
    files: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    phashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    widths: NDArray[np.int64]
    kept: NDArray[np.bool_]
    more: Mapping[str, pa.Array]
    facts: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.keys)

    def names(self) -> list[str]:
        """Give the keys as text."""
        return hex_column(self.keys).to_pylist()


def draw_samples(count: int, *names: str | int) -> Samples:
    """Draw samples that have nothing in common."""
    rng = make_rng(0, "dedup", *names)
    return Samples(
        keys=rng.integers(0, 256, (count, 10), np.uint8),
        files=rng.integers(0, 256, (count, 32), np.uint8),
        pixels=rng.integers(0, 256, (count, 32), np.uint8),
        phashes=rng.integers(0, 2**64, count, np.uint64),
        thumbnails=rng.integers(0, 256, (count, 192), np.uint8),
        widths=rng.integers(100, 1000, count),
        kept=np.ones(count, bool),
        more={},
        facts={},
    )


def plant_copies(samples: Samples, *names: str | int, share: float = 0.01) -> int:
    """Make pairs of samples copies of each other: equal files, equal pixels, near looks in turn.

    Returns:
        The number of pairs.
    """
    rng = make_rng(0, "copies", *names)
    num_pairs = int(len(samples) * share)
    chosen = rng.choice(len(samples), 2 * num_pairs, replace=False)
    one, other = chosen[:num_pairs], chosen[num_pairs:]
    for name in ("phashes", "thumbnails"):
        getattr(samples, name)[other] = getattr(samples, name)[one]
    samples.files[other[::3]] = samples.files[one[::3]]
    equal = np.arange(num_pairs) % 3 < 2
    samples.pixels[other[equal]] = samples.pixels[one[equal]]
    near = other[~equal]
    for bits in range(4):
        flipped = rng.random(len(near)) < 0.5
        samples.phashes[near[flipped]] ^= np.uint64(1 << (bits * 13 + 5))
    change = rng.integers(-6, 7, (len(near), 192))
    changed = samples.thumbnails[near].astype(np.int64) + change
    samples.thumbnails[near] = np.clip(changed, 0, 255).astype(np.uint8)
    return num_pairs


def add_miniatures(samples: Samples, *names: str | int, share: float = 0.01) -> int:
    """Give every sample a miniature of soft blobs; some are cropped copies of others.

    Returns:
        The number of cropped copies.
    """
    rng = make_rng(0, "miniatures", *names)
    points = rng.integers(0, 256, (len(samples), 5, 5, 3), np.uint8).astype(np.float32)
    place = np.linspace(0, 4, 32)
    shares = np.maximum(1 - np.abs(place[:, None] - np.arange(5)), 0).astype(np.float32)
    miniatures = np.empty((len(samples), 32, 32, 3), np.uint8)
    for low in range(0, len(samples), 10_000):
        rows = np.einsum("ij,pjlc->pilc", shares, points[low : low + 10_000], optimize=True)
        miniatures[low : low + 10_000] = np.einsum("ij,pljc->plic", shares, rows, optimize=True)
    num_copies = int(len(samples) * share)
    cut = sample_span((0.03, 0.97)).astype(np.float32)
    copies = np.einsum("ij,pjlc->pilc", cut, miniatures[:num_copies], optimize=True)
    miniatures[len(samples) - num_copies :] = np.einsum("ij,pljc->plic", cut, copies, optimize=True)
    samples.more = {**samples.more, "phash.miniature": _fixed(miniatures.reshape(len(samples), -1))}
    return num_copies


def write_inputs(folder: Path, samples: Samples, shards: Mapping[str, NDArray[np.int64]]) -> None:
    """Write finished shards, each with some of the samples, for `open_inputs`."""
    for shard, rows in shards.items():
        table = pa.table({"key": hex_column(samples.keys[rows])})
        table = table.append_column("status", pa.array([OK] * len(rows)))
        kept = pa.array(samples.kept[rows])
        verdicts = table.append_column("keep", kept)
        reasons = np.where(samples.kept[rows], "", "min_side")
        verdicts = verdicts.append_column("reason", pa.array(reasons.tolist(), pa.string()))
        counts = {"in": len(rows), "kept": int(samples.kept[rows].sum())}
        counts["dropped.min_side"] = len(rows) - counts["kept"]
        _commit(folder / "filter", shard, verdicts, counts)
        measured = {
            "hashes.sha256_pixels": hex_column(samples.pixels[rows]),
            "phash.phash": pa.array(samples.phashes[rows]),
            "phash.thumbnail": _fixed(samples.thumbnails[rows]),
            **{name: column.take(pa.array(rows)) for name, column in samples.more.items()},
        }
        facts = _add(table, measured).replace_schema_metadata(dict(samples.facts))
        _commit(folder / "annotate", shard, facts, {"in": len(rows), "kept": len(rows)})
        told = {
            "sha256": hex_column(samples.files[rows]),
            "width": pa.array(samples.widths[rows].astype(np.int32)),
            "height": pa.array(np.full(len(rows), 100, np.int32)),
            "caption": pa.array([f"caption {row}" for row in rows.tolist()]),
            "license": pa.nulls(len(rows), pa.string()),
            "source": pa.nulls(len(rows), pa.string()),
        }
        _commit(folder / "ingest", shard, _add(table, told), {"in": len(rows), "kept": len(rows)})


def open_inputs(folder: Path) -> dict[str, ShardSet]:
    """Give the inputs as dedup takes them."""
    return {name: ShardSet(folder / name) for name in INPUTS}


def cut_shards(count: int, num_shards: int) -> dict[str, NDArray[np.int64]]:
    """Cut samples into consecutive shards of about equal size."""
    parts: Sequence[NDArray[np.int64]] = np.array_split(np.arange(count), num_shards)
    return {f"{number:05d}": rows for number, rows in enumerate(parts)}


def hex_column(data: NDArray[np.uint8]) -> pa.Array:
    """Spell bytes as hex text: [N, W] -> N strings."""
    text = _HEX[data].tobytes()
    offsets = np.arange(len(data) + 1, dtype=np.int32) * 2 * data.shape[1]
    return pa.StringArray.from_buffers(len(data), pa.py_buffer(offsets), pa.py_buffer(text))


def _fixed(data: NDArray[np.uint8]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(data))
    return pa.Array.from_buffers(pa.binary(data.shape[1]), len(data), [None, buffer])


def _add(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _commit(folder: Path, shard: str, table: pa.Table, counts: Mapping[str, int]) -> None:
    out = folder / ".new"
    out.mkdir(parents=True)
    pq.write_table(table, out / f"{shard}.parquet", compression="zstd")
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(out, Output(store=LocalStore(folder)), shard, identity, counts)
    out.rmdir()
