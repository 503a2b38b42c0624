"""Count over all shards how often a picture and a caption come: placeholders, repeated texts.

    wave 1: hashes of a shard's pictures, captions and hosts: `_facts-NNNNN`; its captions' MinHash
            bands: `_facts-NNNNN.captions.arrow`
    wave 2: one task per bin of hash values: counts of those that repeat: `_counts-NNNNN`; one per
            bin of bands: counts of near captions: `_near-NNNNN`
    wave 3: a shard's rows and its own counts -> columns `repeats.*`

A picture that stands for many others ("image no longer available") comes with the same bytes, or
the same look, under many different captions; a picture that is merely popular keeps its caption.
Nothing is decided here: filter has the rules `placeholder`, `caption_repeats` (drops all samples of
a caption that comes too often, as COYO does), `caption_number` (keeps the first few of them) and
`caption_near_repeats`.

No task holds all samples: a bin holds at most `bin_entries` entries of about 100 bytes, or an
eighth as many of `duplicates/caption_files.py`; a file of wave 2 has one row group per shard, so
that wave 3 reads its own rows only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
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
from curate.core.seed import derive_seed
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.duplicates.caption_files import CAPTIONS, count_near_in_bin, write_captions
from curate.stages.duplicates.captions import collect_captions
from curate.stages.duplicates.repeat_counts import KINDS, count_repeats
from curate.stages.duplicates.shuffle import Bin, count_bins
from curate.stages.matching.minhash import algorithm

FACTS, COUNTS, NEAR = "_facts-", "_counts-", "_near-"
NEAR_ENTRY = 8  # times the memory of a hash value's entry, see `duplicates/caption_files.py`

FACTS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        *((kind, pa.uint64()) for kind in KINDS),
        ("host", pa.uint64()),
        ("draw", pa.uint64()),  # puts the samples of a caption in an order
        ("words", pa.uint64()),  # of the caption, normalised; null without any
    ]
)
NEAR_TEXTS = "repeats.near_texts"
REPEATS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("repeats.pictures", pa.int32()),
        ("repeats.captions", pa.int32()),
        ("repeats.hosts", pa.int32()),
        ("repeats.texts", pa.int32()),
        ("repeats.text_number", pa.int32()),
        (NEAR_TEXTS, pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsConfig:
    """Bound the memory, and say which captions are near.

    Args:
        bin_entries: hash values a task holds at once, about 100 bytes each; chosen by us: 2 GB.
        min_jaccard: of the words and neighbouring words of two captions, from which on they are
            near, [0.5, 1]; null measures none. Source: 0.8 as NeMo Curator and SlimPajama. Below
            0.7 the bands miss pairs: 5 % at 0.7, 27 % at 0.6, 60 % at 0.5.
    """

    bin_entries: int = 20_000_000
    min_jaccard: float | None = 0.8

    def __post_init__(self) -> None:
        if self.bin_entries < 1:
            raise ConfigError(
                f"repeats.bin_entries: must be >= 1, got {self.bin_entries}; raise it"
            )
        if self.min_jaccard is not None and not 0.5 <= self.min_jaccard <= 1:
            raise ConfigError(
                f"repeats.min_jaccard: must be in [0.5, 1] or null, "
                f"got {self.min_jaccard}; change it"
            )


class RepeatsStage(Stage[RepeatsConfig]):
    """Write how many samples share a sample's picture or caption, and under how many captions.

    Columns:
        repeats.pictures: samples with the same bytes or the same pHash, itself included.
        repeats.captions: different captions among them (case and white space do not count).
        repeats.hosts: different hosts among them.
        repeats.texts: samples with the same caption, itself included; 0 without a caption.
        repeats.text_number: which of these it is, from 1 on, in an order drawn by seed and key;
            0 without a caption.
        repeats.near_texts: samples whose captions have the same words or nearly, itself included;
            0 without words. Above `captions.WINDOW` it may be too low. Not there where
            `min_jaccard` is null.
    """

    name: ClassVar[str] = "repeats"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = ("ingest", "in")

    def waves(self) -> Iterator[Sequence[Task]]:
        measured = self.inputs["annotate"].all_digests(".parquet")
        ingested = self.inputs["ingest"].all_digests(".parquet")
        shards = sorted(measured.keys() & ingested.keys())
        digests = {shard: {**measured[shard], **ingested[shard]} for shard in shards}
        num_near_bins = self._num_near_bins(shards)
        yield [
            Task(shard=f"{FACTS}{shard}", inputs=digests[shard], params={"bins": num_near_bins})
            for shard in shards
        ]
        bins = self._bins(shards) + self._near_bins(shards, num_near_bins)
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
        if task.shard.startswith(NEAR):
            self._write_near(task, place)
            return Counter()
        return self._write_columns(task, place)

    def _bins(self, shards: Sequence[str]) -> list[Task]:
        """Cut the hash values into as many tasks as keep each within its memory."""
        num_samples = self._num_samples(shards)
        count = max(1, -(-len(KINDS) * num_samples // self.config.bin_entries))
        return self._tasks(COUNTS, shards, count, ".parquet")

    def _near_bins(self, shards: Sequence[str], count: int) -> list[Task]:
        """Cut the captions' bands into `count` tasks; none where none are measured."""
        if self.config.min_jaccard is None:
            return []
        version = {"minhash": algorithm()}
        tasks = self._tasks(NEAR, shards, count, CAPTIONS)
        return [replace(task, params={**task.params, **version}) for task in tasks]

    def _num_near_bins(self, shards: Sequence[str]) -> int:
        return count_bins(self._num_samples(shards), max(1, self.config.bin_entries // NEAR_ENTRY))

    def _num_samples(self, shards: Sequence[str]) -> int:
        markers = find_markers(self.inputs["ingest"].store, shards)
        return sum(marker.counts.get("kept", 0) for _, marker in markers if marker)

    def _tasks(self, name: str, shards: Sequence[str], count: int, suffix: str) -> list[Task]:
        """Plan a task for each bin of what wave 1 wrote."""
        facts = [self.own.digests(f"{FACTS}{shard}", suffix) for shard in shards]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return [
            Task(
                shard=f"{name}{number:05d}",
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
        joined = [
            row for row in rows.join(looks, KEY).sort_by(KEY).to_pylist() if row[STATUS] == OK
        ]
        collected = collect_captions([row["caption"] or "" for row in joined])
        with ShardWriter(place.out, task.shard, FACTS_SCHEMA, with_tar=False) as writer:
            for number, row in enumerate(joined):
                words = int(collected.texts[number]) if collected.has_words[number] else None
                draw = derive_seed(self.seed, "repeats.text_number", row[KEY])
                writer.write({**_facts_of(row), "draw": draw, "words": words})
        if self.config.min_jaccard is not None:
            path = place.out / f"{task.shard}{CAPTIONS}"
            write_captions(path, collected.captions, task.params["bins"])

    def _write_counts(self, task: Task, place: Place) -> None:
        part = Bin(number=task.params["bin"], count=task.params["bins"])
        names = [f"{FACTS}{shard}" for shard in task.params["shards"]]
        _write_groups(place.out / f"{task.shard}.parquet", count_repeats(self.own, names, part))

    def _write_near(self, task: Task, place: Place) -> None:
        assert self.config.min_jaccard is not None, "planned only where captions are compared"
        names = [f"{FACTS}{shard}" for shard in task.params["shards"]]
        number, count = task.params["bin"], task.params["bins"]
        near = count_near_in_bin(self.own, names, number, count, self.config.min_jaccard)
        _write_groups(place.out / f"{task.shard}.parquet", near)

    def _write_columns(self, task: Task, place: Place) -> Counter[str]:
        keys = self.own.table(f"{FACTS}{task.shard}", [KEY, "text", "words"])
        found = _columns_of(self.own, task, keys["text"].is_valid().to_numpy())
        schema = REPEATS_SCHEMA
        if self.config.min_jaccard is None:
            schema = schema.remove(schema.get_field_index(NEAR_TEXTS))
        else:
            found[NEAR_TEXTS] = _near_texts(self.own, task, keys["words"])
        values = {
            key: {name: int(column[row]) for name, column in found.items()}
            for row, key in enumerate(keys[KEY].to_pylist())
        }
        counts: Counter[str] = Counter()
        with ShardWriter(place.out, task.shard, schema, with_tar=False) as writer:
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


def _columns_of(
    own: ShardSet, task: Task, has_text: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Give the columns of a shard's good samples, in the order of its `_facts` table: [N] each."""
    ones = np.ones(len(has_text), np.int64)
    found = {f"repeats.{name}": ones.copy() for name in ("pictures", "captions", "hosts")}
    texts = {f"repeats.{name}": has_text.astype(np.int64) for name in ("texts", "text_number")}
    for table in _own_groups(own, task, COUNTS):
        rows, kinds = table["row"].to_numpy(), table["kind"].to_numpy()
        is_text = kinds == KINDS.index("text")
        for column, counted in (("texts", "samples"), ("text_number", "number")):
            texts[f"repeats.{column}"][rows[is_text]] = table[counted].to_numpy()[is_text]
        for column, counted in (("pictures", "samples"), ("captions",) * 2, ("hosts",) * 2):
            values = table[counted].to_numpy()[~is_text]
            np.maximum.at(found[f"repeats.{column}"], rows[~is_text], values)
    return {**found, **texts}


def _near_texts(own: ShardSet, task: Task, words: pa.ChunkedArray) -> NDArray[np.int64]:
    """Count for each of a shard's good samples those with near captions, itself included: [N]."""
    has_words = words.is_valid().to_numpy()
    known = words.drop_null().to_numpy()
    near = np.ones(len(known), np.int64)
    for table in _own_groups(own, task, NEAR):
        texts, counts = table["text"].to_numpy(), table["near"].to_numpy()
        places = np.minimum(np.searchsorted(texts, known), len(texts) - 1)
        near += np.where(texts[places] == known, counts[places], 0)
    found = np.zeros(len(has_words), np.int64)
    found[has_words] = near
    return found


def _own_groups(own: ShardSet, task: Task, prefix: str) -> Iterator[pa.Table]:
    """Yield what wave 2 found for a shard, from the files of one kind."""
    for name in task.params["counts"]:
        if name.startswith(prefix):
            for number, table in _row_groups(own, name, only=task.params["number"]):
                assert number == task.params["number"], f"{name} has rows of another shard"
                yield table


def _write_groups(path: Path, table: pa.Table) -> None:
    """Write a table that is sorted by shard as one row group for each."""
    shards = table["shard"].to_numpy()
    ends = np.flatnonzero(np.r_[shards[1:] != shards[:-1], np.ones(min(1, len(shards)), bool)]) + 1
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for start, end in pairwise([0, *ends.tolist()]):
            writer.write_table(table.slice(start, end - start))


def _row_groups(
    own: ShardSet, name: str, only: int | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (shard number, rows) of a file of wave 2, or one shard's rows by their statistics."""
    with pq.ParquetFile(own.table_path(name)) as file:
        for index in range(file.num_row_groups):
            number = file.metadata.row_group(index).column(0).statistics.min
            if only is None or number == only:
                yield number, file.read_row_group(index)
