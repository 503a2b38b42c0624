"""Hold every sample against lists of hashes: known harm, and pictures whose owners opted out.

    ingest (sha256, the files' bytes) + annotate (pdq) + lists -> status, keep, reason, hits

What is on a list has the status `blocked` or `opted_out_hash` from here on: filter and all that
reads it take it for a failed sample, so that it is never copied, captioned or shown. The bytes stay
in ingest's tar, which nobody is shown, until `curate takedown` removes them: what must be kept as
evidence, and for how long, is not for a pipeline to decide.

A file is found by its digest even where it failed before, for it may lie in the tar all the same. A
good sample that a list cannot be held against, since its hash was not measured, does not pass
either; nor does one whose PDQ hash says too little, where a list asks for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.core.errors import ShardError, StageError
from curate.core.manifest import Task
from curate.core.schema import KEY, OK, STATUS, VERDICT_FIELDS
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.core.withheld import BLOCKED, HELD, HITS, OPTED_OUT, UNMEASURED
from curate.stages.matching.blocklist_config import HARM, HOLD, BlocklistConfig, ListConfig
from curate.stages.matching.hash_lists import HashList, digest_list, load_list
from curate.stages.matching.list_hits import ListHit, ListMatcher
from curate.stages.matching.sample_hashes import (
    INGEST_COLUMNS,
    PDQ_DIHEDRAL,
    PDQ_HASH,
    PDQ_QUALITY,
    SampleHashes,
    collect_hashes,
)

_HIT_FIELDS = (
    ("list", pa.string()),
    ("purpose", pa.string()),
    ("kind", pa.string()),
    ("distance", pa.int32()),  # bits that differ; 0 for digests
    ("list_sha256", pa.string()),
)
BLOCKLIST_SCHEMA = pa.schema([*VERDICT_FIELDS, (HITS, pa.list_(pa.struct(_HIT_FIELDS)))])


class BlocklistStage(Stage[BlocklistConfig]):
    """Write a verdict for every sample; without a list all good ones pass."""

    name: ClassVar[str] = "blocklist"
    version: ClassVar[int] = 1
    takes: ClassVar[tuple[str, str] | None] = ("ingest", "in")
    lists: Sequence[HashList]
    matcher: ListMatcher

    def waves(self) -> Iterator[Sequence[Task]]:
        digests = [shards.all_digests(".parquet") for shards in self.inputs.values()]
        lists = self.config.lists
        listed = {_input_of(name): digest_list(item) for name, item in lists.items()}
        rules = {name: _rules_of(item) for name, item in lists.items()}
        yield [
            Task(
                shard=shard,
                inputs={**{k: v for one in digests for k, v in one[shard].items()}, **listed},
                params={"lists": rules},
            )
            for shard in digests[0]
            if all(shard in one for one in digests)  # a quarantined shard is left out
        ]

    def setup(self) -> None:
        self.lists = [load_list(name, item) for name, item in sorted(self.config.lists.items())]
        self.matcher = ListMatcher(self.lists)

    def run(self, task: Task, place: Place) -> Counter[str]:
        self._check_lists(task)
        table = self._read(task.shard)
        kinds = {kind for item in self.lists for kind in item.digests}
        samples = collect_hashes(self.inputs["ingest"], task.shard, table, kinds)
        hits: dict[int, list[ListHit]] = {}
        for hit in self.matcher.match(samples):
            hits.setdefault(hit.row, []).append(hit)
        before = table[STATUS].to_pylist()
        reasons = self._find_held(samples, before)
        reasons |= {row: self._decide(own) for row, own in hits.items()}
        counts = Counter({"in": len(before)})
        with ShardWriter(place.out, task.shard, BLOCKLIST_SCHEMA, with_tar=False) as writer:
            for row, key in enumerate(table[KEY].to_pylist()):
                reason = reasons.get(row, "")
                found = [self._describe(hit) for hit in hits.get(row, ())]
                writer.write({KEY: key, HITS: found, **_verdict(reason or before[row])})
                counts[_count_as(before[row], reason)] += 1
        return counts

    def _check_lists(self, task: Task) -> None:
        for item in self.lists:
            if task.inputs[_input_of(item.name)] != item.sha256:
                raise StageError(
                    f"{item.config.path}: must not change during a run, got other bytes than at "
                    "its start; run the same line again"
                )

    def _read(self, shard: str) -> pa.Table:
        """Read what hashes are made from; the status is that of the last stage before."""
        table = self.inputs["ingest"].table(shard, INGEST_COLUMNS)
        if "annotate" not in self.inputs:
            self._need_pdq(())
            return table
        there = self.inputs["annotate"].schema(shard).names
        self._need_pdq(there)
        names = [name for name in (PDQ_HASH, PDQ_QUALITY, PDQ_DIHEDRAL) if name in there]
        measured = self.inputs["annotate"].table(shard, [KEY, STATUS, *names])
        if not measured[KEY].equals(table[KEY]):
            raise ShardError(
                f"{self.inputs['annotate'].url}: must have the keys of ingest, got others in "
                f"shard {shard}; run `curate run stage=annotate`"
            )
        table = table.set_column(table.column_names.index(STATUS), STATUS, measured[STATUS])
        for name in names:
            table = table.append_column(name, measured[name])
        return table

    def _need_pdq(self, there: Sequence[str]) -> None:
        missing = [name for name in (PDQ_HASH, PDQ_QUALITY) if name not in there]
        asking = [item.name for item in self.lists if "pdq" in item.digests]
        if missing and asking:
            raise StageError(
                f"blocklist.lists.{asking[0]}: needs column {missing[0]}, which was not measured; "
                "add pdq to annotate.annotators"
            )

    def _find_held(self, samples: SampleHashes, before: Sequence[str]) -> dict[int, str]:
        """Give the good rows that a list cannot be held against, and why they do not pass."""
        is_ok = np.array([status == OK for status in before], bool)
        near = [item for item in self.lists if "pdq" in item.digests]
        measured = list(samples.known.values()) + ([samples.is_hashed] if near else [])
        held: dict[int, str] = {}
        if any(item.config.low_quality == HOLD for item in near):
            held |= dict.fromkeys(np.flatnonzero(is_ok & ~samples.is_sharp).tolist(), HELD)
        for known in measured:
            held |= dict.fromkeys(np.flatnonzero(is_ok & ~known).tolist(), UNMEASURED)
        return held

    def _decide(self, hits: Sequence[ListHit]) -> str:
        purposes = {self.lists[hit.place].config.purpose for hit in hits}
        return BLOCKED if HARM in purposes else OPTED_OUT

    def _describe(self, hit: ListHit) -> dict[str, Any]:
        item = self.lists[hit.place]
        return {
            "list": item.name,
            "purpose": item.config.purpose,
            "kind": hit.kind,
            "distance": hit.distance,
            "list_sha256": item.sha256,
        }


def _input_of(name: str) -> str:
    return f"list {name}"


def _rules_of(item: ListConfig) -> dict[str, Any]:
    """Give what of a list's config decides verdicts; its path does not."""
    names = ("purpose", "format", "kind", "pdq_radius", "low_quality")
    return {name: getattr(item, name) for name in names}


def _verdict(status: str) -> dict[str, Any]:
    return {STATUS: status, "keep": status == OK, "reason": "" if status == OK else status}


def _count_as(before: str, reason: str) -> str:
    if reason:
        return f"dropped.{reason}"
    return "kept" if before == OK else f"failed.{before}"
