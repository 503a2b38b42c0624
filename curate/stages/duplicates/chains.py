"""Drop samples by the rules of SemDeDup and NeMo Curator, for runs that must match theirs.

    bins of cells, a row in one cell -> samples that are no duplicates yet -> rows that the rule
    removes: `_chain-NNNNN` -> one row group per shard: `_chained`

A row goes if any earlier one of its cell is near, dropped or not (`chain_rules.py`), so it has no
keeper, and a new sample may change what becomes of old ones: these tasks are of no generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from curate.core.manifest import Task
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.chain_rules import nemo_removed, semdedup_removed
from curate.stages.duplicates.cluster_file import write_clusters
from curate.stages.duplicates.clusters import CLUSTER_SCHEMA
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.groups import take_facts
from curate.stages.duplicates.semantic import embeddings_of, read_cells, read_centroids

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
CHAIN, CHAINED = "_chain-", "_chained"
_RULES = {"semdedup": semdedup_removed, "nemo": nemo_removed}


def write_chain(
    own: ShardSet, config: DedupConfig, clusters: str, task: Task, place: Place
) -> None:
    """Write the numbers of the rows that the rule removes in a bin of cells.

    Args:
        own: dedup's shard set.
        config: dedup's.
        clusters: helper shard whose dropped samples are left out.
        task: names the files and the bin.
        place: where to write.
    """
    found = own.table(clusters, [KEY, "keeper"])
    dropped = found.filter(pc.not_equal(found[KEY], found["keeper"]))[KEY].combine_chunks()
    centroids = read_centroids(own)
    removed: list[np.ndarray[Any, np.dtype[np.int64]]] = [np.empty(0, np.int64)]
    params = task.params
    for cell, entries in read_cells(own, params["names"], params["bin"], params["bins"]):
        left = entries.filter(pc.invert(pc.is_in(entries[KEY], value_set=dropped)))
        left = left.take(pc.sort_indices(left[KEY]))  # as ids ascend
        if len(left):
            goes = _RULES[config.semantic_rule](
                embeddings_of(left), centroids[cell], config.semantic_min_cosine
            )
            removed.append(left["row"].to_numpy()[goes])
    table = pa.table({"row": np.concatenate(removed)})
    pq.write_table(table, place.out / f"{task.shard}.parquet", compression="zstd")


def write_chained(
    own: ShardSet,
    names: Sequence[str],
    groups: Sequence[tuple[str, int]],
    place: Place,
) -> int:
    """Put the removed rows of all bins together, by shard; give their number."""
    rows = np.concatenate([np.empty(0, np.int64), *(own.table(n)["row"].to_numpy() for n in names)])
    table = CLUSTER_SCHEMA.empty_table()
    if len(rows):
        facts = take_facts(own, groups, np.sort(rows))
        columns = {name: pa.nulls(len(facts), kind) for name, kind in _types().items()}
        columns |= {KEY: facts[KEY], "shard": facts["shard"]}
        columns["edge"] = pa.array(["semantic"] * len(facts), pa.string())
        table = pa.table(columns).select(CLUSTER_SCHEMA.names).cast(CLUSTER_SCHEMA)
        table = table.sort_by([("shard", "ascending"), (KEY, "ascending")])
    write_clusters(table, place.out / f"{CHAINED}.parquet")
    return len(rows)


def _types() -> dict[str, pa.DataType]:
    return {field.name: field.type for field in CLUSTER_SCHEMA}
