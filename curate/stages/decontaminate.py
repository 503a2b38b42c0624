"""Find samples that are copies of the user's evaluation sets, by picture and by prompt.

    wave 1: a part of a benchmark's pictures, hashed: `_benchmark-NAME-NNNNN`;
            its prompts, read: `_prompts-NAME`
    wave 2: a shard's kept samples against all of them -> one verdict table per shard
    wave 3: all verdicts -> which items of a benchmark were met, and how often: `_items-NAME`

No picture of a sample is opened: its hashes and embeddings are columns of annotate. A task of wave
2 holds all benchmarks: 9 KB a picture at most, and 2 bytes a number of its embeddings. Each task
carries the parts of the config that decide its bytes, so another threshold hashes nothing again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute

from curate.core.manifest import Task
from curate.core.schema import OK, shard_name
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.matching.benchmark_config import (
    Actions,
    DecontaminateConfig,
    require_benchmarks,
)
from curate.stages.matching.benchmark_files import open_pictures
from curate.stages.matching.benchmark_index import PICTURES, PROMPTS, BenchmarkIndex, read_items
from curate.stages.matching.benchmark_pictures import (
    BENCHMARK_SCHEMA,
    UNREADABLE,
    Embed,
    check_readable,
    hash_items,
)
from curate.stages.matching.benchmark_prompts import PROMPT_SCHEMA, digest_prompts, prompt_rows
from curate.stages.matching.embedders import find_limits, load_embedders
from curate.stages.matching.hits import (
    ALTERNATES,
    CONTAMINATION_SCHEMA,
    REASONS,
    decide,
    keep_strongest,
)
from curate.stages.matching.items import ITEM_SCHEMA, sum_up
from curate.stages.matching.picture_index import Limits
from curate.stages.matching.prompts import PromptRules
from curate.stages.matching.sample_columns import read_samples
from curate.stages.matching.sift_captions import sift_captions

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
ITEMS = "_items-"
LEFT_OUT = "left_out.alternates"  # counts captions of duplicates that are prompts
_READ = ("dedup", "annotate", "ingest")


class DecontaminateStage(Stage[DecontaminateConfig]):
    """Drop or flag what matches an evaluation set, and say which of its items were met."""

    name: ClassVar[str] = "decontaminate"
    takes: ClassVar[tuple[str, str] | None] = ("dedup", "kept")
    _index: tuple[str, BenchmarkIndex] | None = None  # opened by the first task of wave 2
    _embedders: dict[str, Embed] | None = None  # loaded by the first task of wave 1

    def waves(self) -> Iterator[Sequence[Task]]:
        config = self.config
        require_benchmarks(config)
        limits = find_limits(config, self.models)
        tasks = {name: list(self._plan(name, limits)) for name in config.benchmarks}
        yield [task for some in tasks.values() for task in some]
        parts = {name: [task.shard for task in some] for name, some in tasks.items()}
        for name, shards in parts.items():
            pictures = [shard for shard in shards if shard.startswith(PICTURES)]
            check_readable(self.own, pictures, name, config.max_unreadable)
        action = dataclasses.asdict(config.action)
        yield self._verdict_tasks(
            self._digest_of(shard for shards in parts.values() for shard in shards),
            {
                "parts": parts,
                "limits": dataclasses.asdict(limits),
                "texts": dataclasses.asdict(config.texts),
                "action": action,
            },
        )
        verdicts = self._digest_of(self._judged())
        yield [
            Task(
                shard=f"{ITEMS}{name}",
                inputs={"benchmark": self._digest_of(shards), "verdicts": verdicts},
                params={"benchmark": name, "parts": shards, "action": action},
            )
            for name, shards in parts.items()
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        for prefix, write in (
            (PICTURES, self._write_pictures),
            (PROMPTS, self._write_prompts),
            (ITEMS, self._write_items),
        ):
            if task.shard.startswith(prefix):
                return write(task, place)
        return self._write_verdicts(task, place)

    def _plan(self, name: str, limits: Limits) -> Iterator[Task]:
        """Yield the tasks that read a benchmark: its pictures in parts, its prompts at once."""
        benchmark = self.config.benchmarks[name]
        if benchmark.pictures:
            files = open_pictures(name, benchmark.pictures, self.config.shard_size)
            embedders = sorted(limits.min_cosine)
            for number, part in enumerate(files.plan()):
                yield Task(
                    shard=f"{PICTURES}{name}-{shard_name(number)}",
                    inputs={"pictures": part.digest},
                    params={"benchmark": name, "part": part.params, "embedders": embedders},
                )
        if benchmark.prompts:
            yield Task(
                shard=f"{PROMPTS}{name}",
                inputs={"prompts": digest_prompts(name, Path(benchmark.prompts))},
                params={"benchmark": name, "format": benchmark.format},
            )

    def _verdict_tasks(self, benchmarks: str, params: Mapping[str, Any]) -> list[Task]:
        found = [self.inputs[name].all_digests(".parquet") for name in _READ]
        return [
            Task(
                shard=shard,
                inputs={k: v for one in found for k, v in one[shard].items()}
                | {"benchmarks": benchmarks},
                params=params,
            )
            for shard in found[0]
            if all(shard in one for one in found)  # a quarantined shard is left out
        ]

    def _judged(self) -> list[str]:
        """List the verdict tables; one that was given up is left out."""
        shards = [set(self.inputs[name].shards()) for name in _READ]
        return sorted(set(self.own.shards()).intersection(*shards))

    def _digest_of(self, shards: Iterable[str]) -> str:
        """Give one digest for the tables of many own shards."""
        digests = [self.own.digests(shard, ".parquet") for shard in shards]
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    def _write_pictures(self, task: Task, place: Place) -> Counter[str]:
        name = task.params["benchmark"]
        files = open_pictures(name, self.config.benchmarks[name].pictures, self.config.shard_size)
        items = files.read(task.params["part"], place.scratch)
        if self._embedders is None:
            self._embedders = load_embedders(task.params["embedders"], self.models)
        rows = hash_items(task.shard, items, self._embedders)
        _write_rows(task, place, BENCHMARK_SCHEMA, rows)
        return +Counter({UNREADABLE: sum(row["status"] != OK for row in rows)})  # no zeros

    def _write_prompts(self, task: Task, place: Place) -> Counter[str]:
        path = Path(self.config.benchmarks[task.params["benchmark"]].prompts)
        rows = prompt_rows(task.shard, path, task.params["format"])
        _write_rows(task, place, PROMPT_SCHEMA, rows)
        return Counter()

    def _write_verdicts(self, task: Task, place: Place) -> Counter[str]:
        verdicts = self._read_verdicts(task.shard)
        kept = verdicts.filter(verdicts["keep"])["key"].combine_chunks()
        index, actions = self._open_index(task), Actions(**task.params["action"])
        samples = read_samples(self.inputs, task.shard, kept, index.limits, self.models)
        found = keep_strongest(index.match(samples))
        judged = {kept[row].as_py(): decide(hits, actions) for row, hits in found.items()}
        reached = verdicts.to_pylist()
        sifted = sift_captions(
            [row.get(ALTERNATES) for row in reached], index.match_captions, actions
        )
        rows = [
            row | judged.get(row["key"], {}) | {ALTERNATES: captions}
            for row, captions in zip(reached, sifted.captions, strict=True)
        ]
        _write_rows(task, place, CONTAMINATION_SCHEMA, rows)
        pairs = zip(reached, rows, strict=True)
        counts = Counter(name for before, row in pairs if before["keep"] for name in _count(row))
        return counts + Counter({LEFT_OUT: sifted.num_dropped})

    def _read_verdicts(self, shard: str) -> pa.Table:
        """Read what dedup said of a shard, and the captions that keepers took over if it did."""
        columns = ["key", "status", "keep", "reason"]
        known = self.inputs["dedup"].schema(shard).names
        columns += [ALTERNATES] if ALTERNATES in known else []
        return self.inputs["dedup"].table(shard, columns)

    def _open_index(self, task: Task) -> BenchmarkIndex:
        """Give the index of the task's benchmarks; a worker's tasks share it."""
        params = task.params
        name = json.dumps([task.inputs["benchmarks"], params], sort_keys=True)
        if self._index is None or self._index[0] != name:
            index = BenchmarkIndex(
                self.own,
                params["parts"],
                Limits(**params["limits"]),
                PromptRules(**params["texts"]),
            )
            self._index = name, index
        return self._index[1]

    def _write_items(self, task: Task, place: Place) -> Counter[str]:
        """Write a row for each item of a benchmark, and beside the table a summary as JSON."""
        items = read_items(self.own, task.params["parts"])
        rows, summary = sum_up(
            task.params["benchmark"], items, self._samples_met(), Actions(**task.params["action"])
        )
        _write_rows(task, place, ITEM_SCHEMA, rows)
        text = json.dumps(dataclasses.asdict(summary), indent=1) + "\n"
        (place.out / f"{task.shard}.json").write_text(text, encoding="utf-8")
        return Counter()

    def _samples_met(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield key and hits of the samples that have any."""
        for shard in self._judged():
            table = self.own.table(shard, ["key", "hits"])
            for row in table.filter(pc.is_valid(table["hits"])).to_pylist():
                yield row["key"], row["hits"]


def _write_rows(
    task: Task, place: Place, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]
) -> None:
    with ShardWriter(place.out, task.shard, schema, with_tar=False) as writer:
        for row in rows:
            writer.write(row)


def _count(row: Mapping[str, Any]) -> Iterator[str]:
    """Count a sample that dedup kept, and how it was flagged if it stays."""
    yield "in"
    if row["keep"]:
        yield "kept"
        if row.get("kind"):
            yield f"flagged.{REASONS[row['kind']]}"
    else:
        yield f"dropped.{row['reason']}"
