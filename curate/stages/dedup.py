"""Find duplicate clusters among the kept samples and choose a keeper for each.

    wave 1: hash columns of a shard's kept samples: `_hashes-NNNNN`
    wave 2: one task per bin of digests: equal bytes, equal pixels: `_equal-NNNNN`
    wave 3: one task per bin of pHash bands: near pictures, verified by thumbnails: `_near-NNNNN`
    wave 4: all edges -> connected components, one row group per shard: `_clusters`
    wave 5: a shard's verdicts and its own row group -> one verdict table per shard

No task holds all samples: a bin holds at most `bin_entries` entries of about 75 bytes, wave 4 only
the samples that have a duplicate (`duplicates/`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import ConfigError, StageError
from curate.core.manifest import Task, find_markers
from curate.core.schema import OK, VERDICT_FIELDS
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.duplicates.clusters import CLUSTER_FIELDS, CLUSTER_SCHEMA, cluster_rows
from curate.stages.duplicates.edges import (
    EDGE_SCHEMA,
    HASH_SCHEMA,
    HASHES,
    Bin,
    HashTables,
    find_equal,
    find_near,
)
from curate.stages.duplicates.masks import band_masks

EQUAL, NEARS, CLUSTERS = "_equal-", "_near-", "_clusters"
DEDUP_SCHEMA = pa.schema([*VERDICT_FIELDS, *CLUSTER_FIELDS])
_NONE = (-1, "")  # a shard without duplicates has no row group


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupConfig:
    """Say what counts as a duplicate.

    Args:
        phash_radius: bits in which two 64-bit pHashes may differ; 0..8. Source: reference
            curation.md sections 3 and 7: 10 is too loose and still misses.
        thumbnail_distance: largest difference of two 8x8 colour thumbnails that still verifies a
            pHash pair, in 8-bit steps (0..255), taken over the most different value.
        bin_entries: hash values a task holds at once, about 75 bytes each; chosen by us: 1.5 GB.

    Source of the first two: toy webs of 5,000 rows, hash spec lm1. The distance was chosen on
    seeds 0 and 11 (323 of 330 pairs found, 2 false); on seeds 12 and 13, which chose nothing, it
    finds 324 of 332 pairs (recall 0.976) at 2 false ones (precision 0.994); 16 finds 328 at 6.
    Before lm1 a radius of 8 with distance 24 gave precision 0.93, a pHash alone 0.46.
    """

    phash_radius: int = 6
    thumbnail_distance: float = 13.0
    bin_entries: int = 20_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.phash_radius <= 8:
            raise ConfigError(
                f"dedup.phash_radius: must be in [0, 8], got {self.phash_radius}; "
                "larger radii join strangers"
            )
        if not 0 <= self.thumbnail_distance <= 255:
            raise ConfigError(
                "dedup.thumbnail_distance: must be in [0, 255], "
                f"got {self.thumbnail_distance}; lower it"
            )
        if self.bin_entries < 1:
            raise ConfigError(f"dedup.bin_entries: must be >= 1, got {self.bin_entries}; raise it")


class DedupStage(Stage[DedupConfig]):
    """Cluster duplicates over all shards; keep the largest picture of each cluster."""

    name: ClassVar[str] = "dedup"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = ("filter", "kept")

    def waves(self) -> Iterator[Sequence[Task]]:
        verdicts = self.inputs["filter"].all_digests(".parquet")
        measured = self.inputs["annotate"].all_digests(".parquet")
        ingested = self.inputs["ingest"].all_digests(".parquet")
        verdicts = {s: d for s, d in verdicts.items() if s in measured and s in ingested}
        yield [
            Task(shard=f"{HASHES}{shard}", inputs={**digests, **measured[shard], **ingested[shard]})
            for shard, digests in verdicts.items()
        ]
        hashes = self._digest_of(f"{HASHES}{shard}" for shard in verdicts)
        sources = {"sources": list(verdicts)}
        num_kept = sum(count_kept(self.inputs["filter"]))
        equal = self._bins(EQUAL, 2 * num_kept, hashes, sources)
        yield equal
        equals = self._digest_of(task.shard for task in equal)
        num_entries = len(band_masks(self.config.phash_radius)) * num_kept
        found = {**sources, "equal": [task.shard for task in equal]}
        near = self._bins(NEARS, num_entries, hashes | equals, found)
        yield near
        edges = [task.shard for task in (*equal, *near)]
        yield [Task(shard=CLUSTERS, inputs=self._digest_of(edges), params={"edges": edges})]
        groups = self._cluster_groups()
        yield [
            Task(
                shard=shard,
                inputs={**digests, f"clusters/{shard}": groups.get(shard, _NONE)[1]},
                params={"group": groups.get(shard, _NONE)[0]},
            )
            for shard, digests in verdicts.items()
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        for prefix, write in (
            (HASHES, self._write_hashes),
            (EQUAL, self._write_equal),
            (NEARS, self._write_near),
            (CLUSTERS, self._write_clusters),
        ):
            if task.shard.startswith(prefix):
                write(task, place)
                return Counter()
        return self._write_verdicts(task, place)

    def _digest_of(self, shards: Iterable[str]) -> dict[str, str]:
        """Give one digest for many helper shards, named after the first."""
        names = list(shards)
        digests = [self.own.digests(name, ".parquet") for name in names]
        digest = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        return {f"{names[0]} and {len(names) - 1} more": digest} if names else {}

    def _bins(
        self, name: str, num_entries: int, inputs: Mapping[str, str], params: Mapping[str, Any]
    ) -> list[Task]:
        """Cut the entries into as many tasks as keep each within its memory."""
        count = max(1, -(-num_entries // self.config.bin_entries))
        return [
            Task(
                shard=f"{name}{number:05d}",
                inputs=inputs,
                params={**params, "bin": number, "bins": count},
            )
            for number in range(count)
        ]

    def _write_hashes(self, task: Task, place: Place) -> None:
        """Collect what clustering needs of a shard's kept samples, sorted by key."""
        shard = task.shard.removeprefix(HASHES)
        verdicts = self.inputs["filter"].table(shard, ["key", "keep"])
        columns = ["key", "phash.phash", "phash.thumbnail", "hashes.sha256_pixels"]
        missing = sorted(set(columns) - set(self.inputs["annotate"].schema(shard).names))
        if missing:
            raise StageError(
                f"dedup: needs column {missing[0]}, which was not measured; "
                "add phash and hashes to annotate.annotators"
            )
        measured = self.inputs["annotate"].table(shard, columns)
        ingested = self.inputs["ingest"].table(shard, ["key", "sha256", "width", "height"])
        kept = verdicts.filter(verdicts["keep"]).join(measured, "key").join(ingested, "key")
        with ShardWriter(place.out, task.shard, HASH_SCHEMA, with_tar=False) as writer:
            for row in kept.sort_by("key").to_pylist():
                writer.write(
                    {
                        "key": row["key"],
                        "status": OK,
                        "num_pixels": row["width"] * row["height"],
                        "bytes": _digest(row["sha256"]),
                        "pixels": _digest(row["hashes.sha256_pixels"]),
                        "phash": row["phash.phash"],
                        "thumbnail": row["phash.thumbnail"],
                    }
                )

    def _write_equal(self, task: Task, place: Place) -> None:
        tables = HashTables(self.own, task.params["sources"])
        part = Bin(number=task.params["bin"], count=task.params["bins"])
        self._write_edges(task, place, find_equal(tables, part))

    def _write_near(self, task: Task, place: Place) -> None:
        tables = HashTables(self.own, task.params["sources"])
        part = Bin(number=task.params["bin"], count=task.params["bins"])
        rows = [self.own.table(name, ["other_row"])["other_row"] for name in task.params["equal"]]
        repeated = np.unique(np.concatenate([column.to_numpy() for column in rows]))
        config = self.config
        edges = find_near(tables, part, repeated, config.phash_radius, config.thumbnail_distance)
        self._write_edges(task, place, edges)

    def _write_edges(self, task: Task, place: Place, edges: Iterator[dict[str, Any]]) -> None:
        with ShardWriter(
            place.out, task.shard, EDGE_SCHEMA, with_tar=False, unique_keys=False
        ) as writer:
            for edge in edges:
                writer.write(edge)

    def _write_clusters(self, task: Task, place: Place) -> None:
        """Write one row group for each shard that has duplicates."""
        edges = [row for name in task.params["edges"] for row in self.own.table(name).to_pylist()]
        rows = cluster_rows(edges)
        with pq.ParquetWriter(
            place.out / f"{CLUSTERS}.parquet", CLUSTER_SCHEMA, compression="zstd"
        ) as writer:
            for _, some in groupby(rows, key=lambda row: row["shard"]):
                writer.write_table(pa.Table.from_pylist(list(some), schema=CLUSTER_SCHEMA))

    def _cluster_groups(self) -> dict[str, tuple[int, str]]:
        """Give the row group of each shard with duplicates, and a digest of its rows."""
        groups: dict[str, tuple[int, str]] = {}
        with pq.ParquetFile(self.own.table_path(CLUSTERS)) as file:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number).to_pylist()
                text = json.dumps(rows, sort_keys=True)
                groups[rows[0]["shard"]] = (number, hashlib.sha256(text.encode()).hexdigest())
        return groups

    def _write_verdicts(self, task: Task, place: Place) -> Counter[str]:
        clusters: dict[str, dict[str, Any]] = {}
        if task.params["group"] >= 0:
            with pq.ParquetFile(self.own.table_path(CLUSTERS)) as file:
                rows = file.read_row_group(task.params["group"]).to_pylist()
            clusters = {row["key"]: row for row in rows}
        counts: Counter[str] = Counter()
        verdicts = self.inputs["filter"].table(task.shard, ["key", "status", "keep", "reason"])
        with ShardWriter(place.out, task.shard, DEDUP_SCHEMA, with_tar=False) as writer:
            for row in verdicts.to_pylist():
                row |= _judge(row, clusters.get(row["key"]))
                writer.write(row)
                counts.update(_count(row))
        return counts


def count_kept(verdicts: ShardSet) -> Iterator[int]:
    """Yield how many samples of each shard were kept, from the markers."""
    for _, marker in find_markers(verdicts.store, verdicts.shards()):
        yield marker.counts.get("kept", 0) if marker else 0


def _digest(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _judge(row: Mapping[str, Any], cluster: Mapping[str, Any] | None) -> dict[str, Any]:
    if not row["keep"] or cluster is None:
        return {}
    facts = {name: cluster[name] for name in ("cluster", "keeper", "edge", "distance")}
    if cluster["keeper"] == row["key"]:
        return facts
    return {**facts, "keep": False, "reason": f"duplicate_{cluster['edge']}"}


def _count(row: Mapping[str, Any]) -> list[str]:
    """Count only what reached this stage: the samples that filter kept."""
    if row["keep"]:
        return ["in", "kept"]
    return ["in", f"dropped.{row['reason']}"] if row["reason"].startswith("duplicate_") else []
