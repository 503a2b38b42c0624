"""Find duplicate clusters among the kept samples and choose a keeper for each.

    wave 1: which shards came together, and what they were measured with: `_generation-NNNN`
    wave 2: facts and hashes of some shards' kept samples, in bins: `_group-GGG-NNNNN`
    wave 3: a bin of equal bytes, pixels, hashes and miniatures: `_same-GGG-NNNNN`
    wave 4: some bands of a bin of near hashes, pairs verified: `_near-GGG-NNNNN`
    3 waves: embeddings, if asked: cells, rows of each cell, pairs (`duplicates/semantic.py`)
    wave 5: all edges -> stars around keepers, one row group per shard: `_clusters`
    wave 6: a shard's verdicts and its own row group -> one verdict table per shard

No task holds all samples or reads all hashes: a task reads its own bin of what the wave before
wrote (`duplicates/shuffle.py`); wave 5 holds the edges, so samples without duplicates cost nothing.
Added shards are compared with old ones by tasks of their own (`duplicates/generations.py`). The
memory of every task and a projection to a billion samples: docs/dedup.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.manifest import Task, find_markers
from curate.core.schema import VERDICT_FIELDS
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage
from curate.stages.duplicates.chains import CHAIN, CHAINED, write_chain, write_chained
from curate.stages.duplicates.cluster_file import (
    read_cluster_group,
    read_cluster_groups,
    write_clusters,
)
from curate.stages.duplicates.clusters import (
    CLUSTER_FIELDS,
    CLUSTER_SCHEMA,
    Clusters,
    find_clusters,
)
from curate.stages.duplicates.dedup_config import STAR, DedupConfig
from curate.stages.duplicates.edge_table import count_heavy, read_edges, read_heavy
from curate.stages.duplicates.edges import Edges
from curate.stages.duplicates.generations import GENERATION, digest_of, plan_generations
from curate.stages.duplicates.groups import Sources, take_facts, write_group
from curate.stages.duplicates.layout import GROUP, NEAR, SAME, Layout
from curate.stages.duplicates.measured import write_generation
from curate.stages.duplicates.near import write_near
from curate.stages.duplicates.same import write_same
from curate.stages.duplicates.semantic import (
    CELLS,
    SEMANTIC,
    SPREAD,
    vector_bytes,
    write_semantic,
    write_spread,
)
from curate.stages.duplicates.semantic_cells import write_cells
from curate.stages.duplicates.semantic_layout import SemanticLayout

__all__ = ["DedupConfig", "DedupStage"]

CLUSTERS, HEAVY = "_clusters", "_heavy"
DEDUP_SCHEMA = pa.schema([*VERDICT_FIELDS, *CLUSTER_FIELDS])
_NONE = (-1, "")  # a shard without duplicates has no row group


class DedupStage(Stage[DedupConfig]):
    """Cluster duplicates over all shards; keep one sample of each cluster."""

    name: ClassVar[str] = "dedup"
    version: ClassVar[int] = 4
    takes: ClassVar[tuple[str, str] | None] = ("filter", "kept")

    def waves(self) -> Iterator[Sequence[Task]]:
        inputs = self._find_inputs()
        generations = plan_generations(self, inputs)
        yield [task for _, task in generations]
        num_kept = dict(count_kept(self.inputs["filter"], list(inputs)))
        layout = Layout([one for one, _ in generations], num_kept, self.config)
        groups = layout.group_tasks(inputs)
        yield groups
        found = yield from self._hash_waves(layout, groups)
        chains: list[Task] = []
        if self.config.semantic_min_cosine and inputs:
            semantic = SemanticLayout(layout, self.config, self._vector_bytes(inputs))
            spread = yield from self._spread_waves(semantic, inputs)
            digests = self._digests(_flat(spread))
            if self.config.semantic_rule == STAR:
                compared = semantic.semantic_tasks(spread, digests)
                yield _flat(compared)
                found = [[*some, *others] for some, others in zip(found, compared, strict=True)]
            else:
                chains = semantic.chain_tasks(spread, digests)
        clusters = self._cluster_task(layout, found, groups)
        yield [clusters]
        decided = {CLUSTERS: read_cluster_groups(self.own, CLUSTERS)}
        if chains:
            yield from self._chain_waves(layout, clusters, chains)
            decided[CHAINED] = read_cluster_groups(self.own, CHAINED)
        yield [self._verdict_task(shard, inputs[shard], decided) for shard in inputs]

    def _hash_waves(
        self, layout: Layout, groups: Sequence[Task]
    ) -> Generator[Sequence[Task], None, list[list[Task]]]:
        """Yield the waves of equal and near hashes; give the tasks with edges by generation."""
        same = layout.same_tasks(self._digests(groups))
        yield _flat(same)
        near = layout.near_tasks(same, self._digests([*groups, *_flat(same)]))
        yield _flat(near)
        return [[*some, *others] for some, others in zip(same, near, strict=True)]

    def _spread_waves(
        self, semantic: SemanticLayout, inputs: Mapping[str, Mapping[str, str]]
    ) -> Generator[Sequence[Task], None, list[list[Task]]]:
        """Yield the waves that bring embeddings to their cells; give the last one's tasks."""
        cells = semantic.cells_task(inputs)
        yield [cells]
        spread = semantic.spread_tasks(inputs, self._digests([cells]))
        yield _flat(spread)
        return spread

    def _chain_waves(
        self, layout: Layout, clusters: Task, chains: Sequence[Task]
    ) -> Iterator[Sequence[Task]]:
        """Yield the waves of a chain rule, over what the clusters have kept."""
        digests = self._digests([clusters])
        tasks = [replace(task, inputs={**task.inputs, **digests}) for task in chains]
        yield tasks
        yield [
            Task(
                shard=CHAINED,
                inputs={"rows": digest_of([self._digests(tasks)])},
                params={"names": [task.shard for task in tasks], "groups": _rows_of(layout)},
            )
        ]

    def _verdict_task(
        self,
        shard: str,
        inputs: Mapping[str, str],
        decided: Mapping[str, Mapping[str, tuple[int, str]]],
    ) -> Task:
        name = f"{self.inputs['filter'].store.name}/{shard}.parquet"
        read = {name: inputs[name]}
        groups: dict[str, int] = {}
        for helper, places in decided.items():
            groups[helper], read[f"{helper}/{shard}"] = places.get(shard, _NONE)
        return Task(shard=shard, inputs=read, params={"groups": groups})

    def run(self, task: Task, place: Place) -> Counter[str]:
        for prefix, write in (
            (GENERATION, self._write_generation),
            (GROUP, self._write_group),
            (SAME, self._write_same),
            (NEAR, self._write_near),
            (CELLS, self._write_cells),
            (SPREAD, self._write_spread),
            (SEMANTIC, self._write_semantic),
            (CHAINED, self._write_chained),
            (CHAIN, self._write_chain),
            (CLUSTERS, self._write_clusters),
        ):
            if task.shard.startswith(prefix):
                return write(task, place)
        return self._write_verdicts(task, place)

    def _find_inputs(self) -> dict[str, dict[str, str]]:
        """Give the digests of all shards that every input has."""
        names = ("filter", "annotate", "ingest")
        digests = [self.inputs[name].all_digests(".parquet") for name in names]
        return {
            shard: {name: value for one in digests for name, value in one[shard].items()}
            for shard in digests[0]
            if all(shard in one for one in digests)
        }

    def _vector_bytes(self, inputs: Mapping[str, Mapping[str, str]]) -> int:
        return vector_bytes(self.inputs["annotate"], min(inputs), self.config)

    def _digests(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Give a digest of what each task wrote."""
        found: dict[str, str] = {}
        for shard, marker in find_markers(self.own.store, [task.shard for task in tasks]):
            files = {name: file.sha256 for name, file in marker.files.items()} if marker else {}
            found[shard] = digest_of([files])
        return found

    def _cluster_task(
        self, layout: Layout, found: Sequence[Sequence[Task]], groups: Sequence[Task]
    ) -> Task:
        written = self._digests([*groups, *_flat(found)])
        return Task(
            shard=CLUSTERS,
            inputs={f"edges and facts of {len(groups)} groups": digest_of([written])},
            params={
                "edges": [[task.shard for task in tasks] for tasks in found],
                "groups": _rows_of(layout),
            },
        )

    def _write_generation(self, task: Task, place: Place) -> Counter[str]:
        write_generation(self.inputs["annotate"], self.own, self.config, task, place)
        return Counter()

    @property
    def _sources(self) -> Sources:
        return Sources(
            verdicts=self.inputs["filter"],
            measured=self.inputs["annotate"],
            ingested=self.inputs["ingest"],
        )

    def _write_group(self, task: Task, place: Place) -> Counter[str]:
        write_group(self._sources, self.config, task, place)
        return Counter()

    def _write_same(self, task: Task, place: Place) -> Counter[str]:
        write_same(self.own, self.config, task, place)
        return Counter()

    def _write_near(self, task: Task, place: Place) -> Counter[str]:
        write_near(self.own, self.config, task, place)
        return Counter()

    def _write_cells(self, task: Task, place: Place) -> Counter[str]:
        write_cells(self._sources, self.config, self.seed, task, place)
        return Counter()

    def _write_spread(self, task: Task, place: Place) -> Counter[str]:
        write_spread(self.own, self._sources, self.config, task, place)
        return Counter()

    def _write_semantic(self, task: Task, place: Place) -> Counter[str]:
        write_semantic(self.own, self.config, task, place)
        return Counter()

    def _write_clusters(self, task: Task, place: Place) -> Counter[str]:
        """Write one row group for each shard that has duplicates, and the list of heavy hashes."""
        names = task.params["edges"]
        clusters = self._find_clusters(read_edges(self.own, names), task.params["groups"])
        write_clusters(clusters.rows, place.out / f"{CLUSTERS}.parquet")
        heavy = read_heavy(self.own, [name for some in names for name in some])
        pq.write_table(heavy, place.out / f"{HEAVY}.parquet", compression="zstd")
        counts = Counter(clusters_split=clusters.num_split) + count_heavy(heavy)
        counts["clusters"] = len(clusters.rows["keeper"].unique())
        return +counts

    def _write_chain(self, task: Task, place: Place) -> Counter[str]:
        write_chain(self.own, self.config, CLUSTERS, task, place)
        return Counter()

    def _write_chained(self, task: Task, place: Place) -> Counter[str]:
        write_chained(self.own, task.params["names"], task.params["groups"], place)
        return Counter()

    def _find_clusters(self, edges: Edges, groups: Sequence[tuple[str, int]]) -> Clusters:
        if not len(edges):
            return Clusters(rows=CLUSTER_SCHEMA.empty_table(), num_components=0, num_split=0)
        facts = take_facts(self.own, groups, edges.rows())
        policy, limit = self.config.policy(), self.config.keep_captions
        return find_clusters(edges, facts, policy, max_alternates=limit)

    def _write_verdicts(self, task: Task, place: Place) -> Counter[str]:
        found: dict[str, dict[str, Any]] = {}
        for name, number in task.params["groups"].items():
            for row in read_cluster_group(self.own, name, number):
                known = found.get(row["key"])
                found[row["key"]] = _drop(known, row) if name == CHAINED else row
        counts: Counter[str] = Counter()
        verdicts = self.inputs["filter"].table(task.shard, ["key", "status", "keep", "reason"])
        with ShardWriter(place.out, task.shard, DEDUP_SCHEMA, with_tar=False) as writer:
            for row in verdicts.to_pylist():
                row |= _judge(row, found.get(row["key"]))
                writer.write(row)
                counts.update(_count(row))
        return counts


def count_kept(verdicts: ShardSet, shards: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield how many samples of each shard were kept, from the markers."""
    for shard, marker in find_markers(verdicts.store, shards):
        yield shard, marker.counts.get("kept", 0) if marker else 0


def _flat(tasks: Sequence[Sequence[Task]]) -> list[Task]:
    return [task for some in tasks for task in some]


def _rows_of(layout: Layout) -> list[tuple[str, int]]:
    """Give the name and the first row of each group."""
    return [(group.name, group.first_row) for group in layout.groups]


def _drop(known: Mapping[str, Any] | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """Drop a sample by a chain rule; a keeper stays its cluster's name."""
    return {**(known or row), "edge": row["edge"], "keeper": None}


def _judge(row: Mapping[str, Any], cluster: Mapping[str, Any] | None) -> dict[str, Any]:
    if not row["keep"] or cluster is None:
        return {}
    facts = {name: cluster[name] for name, _ in CLUSTER_FIELDS}
    if cluster["keeper"] == row["key"]:
        return facts
    return {**facts, "keep": False, "reason": f"duplicate_{cluster['edge']}"}


def _count(row: Mapping[str, Any]) -> list[str]:
    """Count only what reached this stage: the samples that filter kept."""
    if row["keep"]:
        return ["in", "kept"]
    return ["in", f"dropped.{row['reason']}"] if row["reason"].startswith("duplicate_") else []
