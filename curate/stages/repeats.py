"""Count over all shards how often a picture and a caption come: placeholders, repeated texts.

    wave 1: hashes of a shard's pictures, captions and hosts: `_facts-NNNNN`
    wave 2: one task per bin of hash values: counts of those that repeat: `_counts-NNNNN`
    wave 3: a shard's rows and its own counts -> columns `repeats.*`

A picture that stands for many others ("image no longer available") comes with the same bytes, or
the same look, under many different captions; a picture that is merely popular keeps its caption.
Nothing is decided here: filter has the rules `placeholder` and `caption_repeats`.

No task holds all samples: a bin holds at most `bin_entries` entries of about 100 bytes; a file of
wave 2 has one row group per shard, so that wave 3 reads its own rows only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ConfigError, StageError
from curate.core.manifest import Task, find_markers
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.duplicates.edges import Bin

FACTS, COUNTS = "_facts-", "_counts-"
KINDS = ("bytes", "look", "text")
"""What may repeat: the file's sha256, the picture's pHash, the caption."""

FACTS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        *((kind, pa.uint64()) for kind in KINDS),
        ("host", pa.uint64()),
    ]
)
COUNTS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # number among the stage's shards
        ("row", pa.int32()),  # of its `_facts` table
        ("kind", pa.int8()),
        ("samples", pa.int32()),
        ("captions", pa.int32()),
        ("hosts", pa.int32()),
    ]
)
REPEATS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("repeats.pictures", pa.int32()),
        ("repeats.captions", pa.int32()),
        ("repeats.hosts", pa.int32()),
        ("repeats.texts", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsConfig:
    """Bound the memory.

    Args:
        bin_entries: hash values a task holds at once, about 100 bytes each; chosen by us: 2 GB.
    """

    bin_entries: int = 20_000_000

    def __post_init__(self) -> None:
        if self.bin_entries < 1:
            raise ConfigError(
                f"repeats.bin_entries: must be >= 1, got {self.bin_entries}; raise it"
            )


class RepeatsStage(Stage[RepeatsConfig]):
    """Write how many samples share a sample's picture or caption, and under how many captions.

    Columns:
        repeats.pictures: samples with the same bytes or the same pHash, itself included.
        repeats.captions: different captions among them (case and white space do not count).
        repeats.hosts: different hosts among them.
        repeats.texts: samples with the same caption, itself included; 0 without a caption.
    """

    name: ClassVar[str] = "repeats"
    takes: ClassVar[tuple[str, str] | None] = ("ingest", "in")

    def waves(self) -> Iterator[Sequence[Task]]:
        measured = self.inputs["annotate"].all_digests(".parquet")
        ingested = self.inputs["ingest"].all_digests(".parquet")
        shards = sorted(measured.keys() & ingested.keys())
        digests = {shard: {**measured[shard], **ingested[shard]} for shard in shards}
        yield [Task(shard=f"{FACTS}{shard}", inputs=digests[shard]) for shard in shards]
        bins = self._bins(shards)
        yield bins
        own = self._count_digests([task.shard for task in bins])
        yield [
            Task(
                shard=shard,
                inputs={**digests[shard], "repeats": own.get(number, "")},
                params={"number": number, "counts": [task.shard for task in bins]},
            )
            for number, shard in enumerate(shards)
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard.startswith(FACTS):
            self._write_facts(task, place)
            return Counter()
        if task.shard.startswith(COUNTS):
            self._write_counts(task, place)
            return Counter()
        return self._write_columns(task, place)

    def _bins(self, shards: Sequence[str]) -> list[Task]:
        """Cut the hash values into as many tasks as keep each within its memory."""
        markers = find_markers(self.inputs["ingest"].store, shards)
        num_samples = sum(marker.counts.get("kept", 0) for _, marker in markers if marker)
        count = max(1, -(-len(KINDS) * num_samples // self.config.bin_entries))
        facts = [self.own.digests(f"{FACTS}{shard}", ".parquet") for shard in shards]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return [
            Task(
                shard=f"{COUNTS}{number:05d}",
                inputs={f"facts of {len(shards)} shards": digest},
                params={"bin": number, "bins": count, "shards": list(shards)},
            )
            for number in range(count)
        ]

    def _count_digests(self, names: Sequence[str]) -> dict[int, str]:
        """Give a digest of the rows that each shard has in the files of wave 2."""
        digests: dict[int, Any] = {}
        for name in names:
            for number, table in _row_groups(self.own, name):
                text = json.dumps(table.to_pydict(), sort_keys=True).encode()
                digests.setdefault(number, hashlib.sha256()).update(text)
        return {number: digest.hexdigest() for number, digest in digests.items()}

    def _write_facts(self, task: Task, place: Place) -> None:
        shard = task.shard.removeprefix(FACTS)
        if "phash.phash" not in self.inputs["annotate"].schema(shard).names:
            raise StageError(
                "repeats: needs column phash.phash, which was not measured; "
                "add phash to annotate.annotators"
            )
        looks = self.inputs["annotate"].table(shard, [KEY, "phash.phash"])
        rows = self.inputs["ingest"].table(shard, [KEY, STATUS, "sha256", "caption", "url"])
        joined = rows.join(looks, KEY).sort_by(KEY)
        with ShardWriter(place.out, task.shard, FACTS_SCHEMA, with_tar=False) as writer:
            for row in joined.to_pylist():
                if row[STATUS] == OK:
                    writer.write(_facts_of(row))

    def _write_counts(self, task: Task, place: Place) -> None:
        part = Bin(number=task.params["bin"], count=task.params["bins"])
        counts = _count_repeats(self.own, task.params["shards"], part)
        path = place.out / f"{task.shard}.parquet"
        with pq.ParquetWriter(path, COUNTS_SCHEMA, compression="zstd") as writer:
            for number in np.unique(counts["shard"].to_numpy()):
                here = pa.array(counts["shard"].to_numpy() == number)
                writer.write_table(counts.filter(here))

    def _write_columns(self, task: Task, place: Place) -> Counter[str]:
        keys = self.own.table(f"{FACTS}{task.shard}", [KEY, "text"])
        found = _columns_of(self.own, task, keys["text"].is_valid().to_numpy())
        values = {
            key: {name: int(column[row]) for name, column in found.items()}
            for row, key in enumerate(keys[KEY].to_pylist())
        }
        counts: Counter[str] = Counter()
        with ShardWriter(place.out, task.shard, REPEATS_SCHEMA, with_tar=False) as writer:
            for row in self.inputs["ingest"].table(task.shard, [KEY, STATUS]).to_pylist():
                writer.write(row | values.get(row[KEY], {}))
                counts["in"] += 1
                counts["kept" if row[STATUS] == OK else f"failed.{row[STATUS]}"] += 1
        return counts


def _facts_of(row: Mapping[str, Any]) -> dict[str, Any]:
    caption = " ".join((row["caption"] or "").casefold().split())
    host = urlsplit(row["url"] or "").hostname or ""
    return {
        KEY: row[KEY],
        STATUS: OK,
        "bytes": int(row["sha256"][:16], 16),
        "look": row["phash.phash"],
        "text": xxhash.xxh3_64_intdigest(caption.encode()) if caption else None,
        "host": xxhash.xxh3_64_intdigest(host.encode()),
    }


def _count_repeats(own: ShardSet, shards: Sequence[str], part: Bin) -> pa.Table:
    """Count the values of a bin that come more than once, sorted by shard, row and kind."""
    found: list[NDArray[np.int64]] = [np.empty((0, len(COUNTS_SCHEMA)), np.int64)]
    for kind, name in enumerate(KINDS):
        entries = _read_entries(own, shards, name, part, kind)
        counted = _count_values(entries["value"], entries["text"], entries["host"])
        repeated = counted["samples"] > 1
        columns = [
            entries["shard"],
            entries["row"],
            np.full(len(repeated), kind),
            *counted.values(),
        ]
        found.append(np.stack([column[repeated] for column in columns], axis=1).astype(np.int64))
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    return pa.table(
        [pa.array(rows[:, place]).cast(field.type) for place, field in enumerate(COUNTS_SCHEMA)],
        schema=COUNTS_SCHEMA,
    )


def _read_entries(
    own: ShardSet, shards: Sequence[str], name: str, part: Bin, kind: int
) -> dict[str, NDArray[Any]]:
    """Collect value, caption, host and position of the samples whose value lies in a bin: [N]."""
    parts: dict[str, list[NDArray[Any]]] = {
        k: [] for k in ("value", "text", "host", "shard", "row")
    }
    for number, shard in enumerate(shards):
        table = own.table(f"{FACTS}{shard}", list(dict.fromkeys([name, "text", "host"])))
        known = np.flatnonzero(table[name].is_valid().to_numpy())
        columns = {k: table[k].fill_null(0).to_numpy()[known] for k in (name, "text", "host")}
        here = part.holds(columns[name], kind)
        parts["value"].append(columns[name][here])
        parts["text"].append(columns["text"][here])
        parts["host"].append(columns["host"][here])
        parts["row"].append(known[here])
        parts["shard"].append(np.full(int(here.sum()), number))
    empty = np.empty(0, np.uint64)
    return {k: np.concatenate(arrays) if arrays else empty for k, arrays in parts.items()}


def _count_values(
    values: NDArray[np.uint64], texts: NDArray[np.uint64], hosts: NDArray[np.uint64]
) -> dict[str, NDArray[np.int64]]:
    """Give for each of [N] values its samples, different texts and different hosts: [N] each."""
    _, group, samples = np.unique(values, return_inverse=True, return_counts=True)
    return {
        "samples": samples[group],
        "captions": _distinct(group, texts)[group],
        "hosts": _distinct(group, hosts)[group],
    }


def _distinct(group: NDArray[np.int64], values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count different values of each group: [N], [N] -> [G]."""
    order = np.lexsort((values, group))
    groups, ordered = group[order], values[order]
    is_new = np.r_[True, (groups[1:] != groups[:-1]) | (ordered[1:] != ordered[:-1])][: len(group)]
    return np.bincount(groups[is_new], minlength=int(group.max(initial=-1)) + 1)


def _columns_of(
    own: ShardSet, task: Task, has_text: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Give the columns of a shard's good samples, in the order of its `_facts` table: [N] each."""
    ones = np.ones(len(has_text), np.int64)
    found = {f"repeats.{name}": ones.copy() for name in ("pictures", "captions", "hosts")}
    texts = has_text.astype(np.int64)
    for name in task.params["counts"]:
        for number, table in _row_groups(own, name, only=task.params["number"]):
            assert number == task.params["number"], f"{name} has rows of another shard"
            rows, kinds = table["row"].to_numpy(), table["kind"].to_numpy()
            is_text = kinds == KINDS.index("text")
            samples = table["samples"].to_numpy()
            texts[rows[is_text]] = samples[is_text]
            for column, counted in (("pictures", "samples"), ("captions",) * 2, ("hosts",) * 2):
                values = table[counted].to_numpy()[~is_text]
                np.maximum.at(found[f"repeats.{column}"], rows[~is_text], values)
    return {**found, "repeats.texts": texts}


def _row_groups(
    own: ShardSet, name: str, only: int | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (shard number, rows) of a file of wave 2, or one shard's rows by their statistics."""
    with pq.ParquetFile(own.table_path(name)) as file:
        for index in range(file.num_row_groups):
            number = file.metadata.row_group(index).column(0).statistics.min
            if only is None or number == only:
                yield number, file.read_row_group(index)
