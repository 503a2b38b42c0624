"""Bring pictures and captions into shards: original bytes, checked, hashed, a row for every sample.

    input -> sources (URL tables, folders, tars, crawls) -> RawSample -> admit -> tar + parquet
    an earlier version of the shard -> rows that still hold -------------^

A retry (`retry_failed`) fetches the failed rows of a finished shard again and merges them; a
takedown writes it again without some samples. Both take every other row from the earlier version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from curate.core.manifest import Task
from curate.core.schema import INGEST_SCHEMA, OK
from curate.core.shard import MEMBERS, ShardWriter
from curate.core.stage import Place, Stage, identify
from curate.core.store import open_store
from curate.core.tombstones import TAKEN_DOWN, Tombstones, read_tombstones
from curate.sources.config import IngestConfig
from curate.sources.source import Source, StagedSource
from curate.sources.statuses import is_transient
from curate.sources.table import make_source
from curate.stages.admit import Admitted, admit
from curate.stages.earlier import TAKEDOWN_INPUT, EarlierShard, put_aside, read_members_of


class IngestStage(Stage[IngestConfig]):
    """Write original bytes and a row for every sample, failed ones too."""

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 4
    source: Source
    tombstones: Tombstones

    def waves(self) -> Iterator[Sequence[Task]]:
        tombstones = _read_tombstones(self.config)
        source = make_source(self.config, self.own)
        if isinstance(source, StagedSource):
            yield [_with_takedown(task, tombstones) for task in source.plan_helpers()]
        yield [_with_takedown(task, tombstones) for task in source.plan()]

    def gains_by_retry(self, counts: Mapping[str, int]) -> bool:
        return any(is_transient(name.removeprefix("failed.")) for name in counts)

    def setup(self) -> None:
        self.source = make_source(self.config, self.own)
        self.tombstones = _read_tombstones(self.config)

    def run(self, task: Task, place: Place) -> Counter[str]:
        if isinstance(self.source, StagedSource) and task.shard.startswith("_"):
            return self.source.run_helper(task, place, self.tombstones.keys)
        counts: Counter[str] = Counter()
        earlier = put_aside(self.own, task.shard, next(identify(self, [task])), place.scratch)
        samples = self._renew(task, place, earlier) if earlier else self._read(task, place)
        with ShardWriter(place.out, task.shard, INGEST_SCHEMA, with_tar=True) as writer:
            for item in samples:
                sample = _take_down(item) if item.row["key"] in self.tombstones.keys else item
                positions = writer.write(sample.row, sample.members)
                status = sample.row["status"]
                if status == OK:
                    sample.row["offset"] = positions[sample.row["format"]][0]
                counts["in"] += 1
                counts["kept" if status == OK else f"failed.{status}"] += 1
        return counts

    def _read(self, task: Task, place: Place) -> Iterator[Admitted]:
        for sample in self.source.read(task, place.scratch):
            yield admit(sample, self.config)

    def _renew(self, task: Task, place: Place, earlier: EarlierShard) -> Iterator[Admitted]:
        """Take an earlier version's rows; on a retry those that may do better are read again."""
        rows = earlier.rows()
        again = {row["row"] for row in rows if earlier.is_retried and is_transient(row["status"])}
        fetched = self.source.read(task, place.scratch, again) if again else iter(())
        with earlier.open_tar() as tar:
            for row in rows:
                if row["row"] in again:
                    yield admit(next(fetched), self.config)
                else:
                    members = dict(read_members_of(row, tar))
                    yield Admitted(row=_without_members(row), members=members)


def _read_tombstones(config: IngestConfig) -> Tombstones:
    if not config.takedowns:
        return Tombstones(keys=frozenset(), shards={})
    return read_tombstones(open_store(config.takedowns))


def _with_takedown(task: Task, tombstones: Tombstones) -> Task:
    digest = tombstones.digest(task.shard)
    return replace(task, inputs={**task.inputs, TAKEDOWN_INPUT: digest}) if digest else task


def _take_down(sample: Admitted) -> Admitted:
    """Keep a sample's key and position, nothing that it held or said."""
    row = {name: sample.row[name] for name in ("key", "row")}
    return Admitted(row=row | {"status": TAKEN_DOWN, "error": "taken down on request"}, members={})


def _without_members(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != MEMBERS}
