"""Resize every kept picture once into its aspect bucket: the recaptioned WebDataset shards.

    wave 1: sizes, verdicts, captions of a shard -> bucket and draw of each sample: `_sizes-NNNNN`
    wave 2: all `_sizes` merged by draw, dealt to output shards: `_plan`
    wave 3: one task per output shard: read originals by offset, resize, write picture + captions

One bucket per shard; samples are shuffled once, globally, by a draw that belongs to their key. The
merge streams: its memory is 4096 rows of 150 bytes for each of at most 256 shards at a time, and
two output shards for each bucket. `_plan` has one row group per output shard, so a task reads its
own rows only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import pyarrow.parquet as pq

from curate.core.errors import StageError
from curate.core.manifest import Task
from curate.core.merge import merge_sorted
from curate.core.schema import KEY, STATUS, VERDICTS
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.bucketing.captions import JUDGE
from curate.stages.bucketing.config import BucketConfig
from curate.stages.bucketing.plan import PLAN_SCHEMA, count_places, deal, read_placed
from curate.stages.bucketing.sizes import ORDER, SIZES, SIZES_SCHEMA, read_sizes
from curate.stages.bucketing.write import BUCKET_SCHEMA, make_samples

PLAN = "_plan"


class BucketStage(Stage[BucketConfig]):
    """Write resized pictures with all their captions, one aspect bucket per shard.

    With several resolutions a sample is in one shard for each that it qualifies for; it counts as
    kept once, at its home, and as a copy elsewhere.
    """

    name: ClassVar[str] = "bucket"
    version: ClassVar[int] = 3
    takes: ClassVar[tuple[str, str] | None] = (VERDICTS, "kept")

    def waves(self) -> Iterator[Sequence[Task]]:
        names = [name for name in (VERDICTS, "ingest", JUDGE) if name in self.inputs]
        digests = [self.inputs[name].all_digests(".parquet") for name in names]
        sources = [shard for shard in digests[0] if all(shard in one for one in digests)]
        yield [
            Task(
                shard=f"{SIZES}{shard}",
                inputs={name: digest for one in digests for name, digest in one[shard].items()},
            )
            for shard in sources  # a quarantined shard is left out
        ]
        inputs = [self.own.digests(f"{SIZES}{shard}", ".parquet") for shard in sources]
        params = {"sources": sources}
        yield [Task(shard=PLAN, inputs={"all sizes": _digest_of(inputs)}, params=params)]
        yield list(self._shard_tasks(sources))

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == PLAN:
            return self._write_plan(task, place)
        if task.shard.startswith(SIZES):
            return self._write_sizes(task.shard, place)
        return self._write_shard(task, place)

    def _write_sizes(self, name: str, place: Place) -> Counter[str]:
        shard = name.removeprefix(SIZES)
        sizes = read_sizes(self.inputs, shard, self.config.geometry, self.seed)
        with ShardWriter(place.out, name, SIZES_SCHEMA, with_tar=False) as writer:
            writer.write_table(sizes.rows)
        (place.out / f"{name}.jsonl").write_bytes(sizes.captions)
        return sizes.counts

    def _write_plan(self, task: Task, place: Place) -> Counter[str]:
        """Merge the sizes of all shards and deal them out; one row group per output shard."""
        shards = [f"{SIZES}{shard}" for shard in task.params["sources"]]
        geometry = self.config.geometry
        places = count_places((self.own.table(name, ["buckets"]) for name in shards), geometry)
        if not places:
            raise StageError(self._explain_emptiness(shards))
        readers = [partial(read_placed, self.own.table_path(name)) for name in shards]
        merged = merge_sorted(readers, ORDER, place.scratch)
        path = place.out / f"{PLAN}.parquet"
        with pq.ParquetWriter(path, PLAN_SCHEMA, compression="zstd") as writer:
            for rows in deal(merged, places, geometry, self.config.shard_size):
                writer.write_table(rows)
        return Counter()

    def _explain_emptiness(self, shards: Sequence[str]) -> str:
        reasons: Counter[str] = Counter()
        for name in shards:
            reasons.update(self.own.table(name, [STATUS])[STATUS].to_pylist())
        if not reasons:
            return "bucket: needs kept samples, got none; loosen the thresholds of filter"
        told = ", ".join(f"{count} {status}" for status, count in sorted(reasons.items()))
        return (
            f"bucket: needs pictures that fit a bucket, got none of {reasons.total()} ({told}); "
            "choose smaller bucket.resolutions, or raise bucket.max_upscale or max_crop_frac"
        )

    def _shard_tasks(self, sources: Sequence[str]) -> Iterator[Task]:
        pictures = self.inputs["ingest"].all_digests()
        captions = {name: self.own.digests(f"{SIZES}{name}", ".jsonl") for name in sources}
        with pq.ParquetFile(self.own.table_path(PLAN)) as plan:
            for shard, group in sorted(_name_groups(plan)):
                rows = plan.read_row_group(group).to_pydict()
                used = sorted(set(rows["source_shard"]))
                read = [(pictures[source], captions[source]) for source in used]
                inputs = {
                    f"plan/{shard}": _digest_of(rows),
                    f"pictures and captions of {len(used)} shards": _digest_of(read),
                }
                yield Task(shard=shard, inputs=inputs, params={"group": group})

    def _write_shard(self, task: Task, place: Place) -> Counter[str]:
        with pq.ParquetFile(self.own.table_path(PLAN)) as plan:
            rows = plan.read_row_group(task.params["group"]).to_pylist()
        made = make_samples(rows, self.inputs["ingest"], self.own, self.config, self.seed)
        with ShardWriter(place.out, task.shard, BUCKET_SCHEMA, with_tar=True) as writer:
            for row in rows:
                writer.write(made[row[KEY]].row, made[row[KEY]].members)
        if rows[0]["home_shard"] != task.shard:
            return Counter({"copies": len(rows)})
        return Counter({"in": len(rows), "kept": len(rows)})


def _name_groups(plan: pq.ParquetFile) -> Iterator[tuple[str, int]]:
    """Yield the output shard of each row group."""
    for group in range(plan.num_row_groups):
        yield plan.read_row_group(group, columns=["shard"])["shard"][0].as_py(), group


def _digest_of(parts: Any) -> str:
    """Give one digest for many: an output shard may draw from hundreds of source shards."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
