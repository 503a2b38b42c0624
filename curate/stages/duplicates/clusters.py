"""Join verified edges of all kinds into clusters around keepers.

    edges -> rows of samples with an edge -> facts of them -> order by the keeper policy
          -> equalities contracted -> stars of the rest -> a row for every sample of a cluster

A cluster is a star: each member equals its keeper, or has a verified edge to it (the equal ones of
a group share their edges). A chain of near pictures is therefore cut where its ends are strangers;
what then has no partner left is in no cluster and stays.

Memory at the peak, beside the edges (21 bytes each) and the facts: the larger of 55 bytes an edge,
and of 25 an edge and 110 a sample that has one; captions twice where alternates are asked for.
Samples without duplicates cost nothing. Measured with `benchmarks/dedup_clusters.py`, 5 million
edges, one core of a busy machine:

    samples with an edge    bytes an edge    CPU seconds
          500 thousand            54              3
          3.7 million            105              8
          10 million             231             15
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.schema import KEY
from curate.stages.duplicates.alternates import gather_alternates
from curate.stages.duplicates.contracted_stars import RankedEdges, Stars, find_stars
from curate.stages.duplicates.edges import KIND_NAMES, Edges
from curate.stages.duplicates.keepers import KeeperPolicy, rank_samples

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_WIDE_BYTES = 1 << 31  # from here on texts need 64-bit offsets
_ROWS_AT_ONCE = 1 << 22  # of a chunk of the outcome, 100 MB of keys; chosen by us

CLUSTER_FIELDS = [
    ("cluster", pa.string()),  # the keeper's key
    ("keeper", pa.string()),
    ("edge", pa.string()),  # of KIND_NAMES, to the keeper; null on the keeper's own row
    ("distance", pa.float32()),  # to the keeper: bits, or 1 - cosine
    ("alternates", pa.list_(pa.string())),  # on the keeper's row: captions of the others
]
CLUSTER_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), ("shard", pa.string()), *CLUSTER_FIELDS]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Hold the clusters of a set of samples.

    Args:
        rows: CLUSTER_SCHEMA, one row for every sample of a cluster of two or more, sorted by shard
            and key.
        num_components: connected components of the edges.
        num_split: components that were no star and were split.
    """

    rows: pa.Table
    num_components: int
    num_split: int


def find_clusters(
    edges: Edges, facts: pa.Table, policy: KeeperPolicy, *, max_alternates: int = 0
) -> Clusters:
    """Split the edges into clusters, each around the sample that the policy likes best.

    Neither the order of edges, rows or shards nor the numbers of rows have an effect on who is
    kept and why.

    Args:
        edges: of all kinds.
        facts: [N], the samples of `edges.rows()` in this order: `key`, `shard`, the columns of the
            policy, and `caption` if alternates are asked for.
        policy: who stays.
        max_alternates: captions of the dropped that the keeper's row gets at most; 0 for none.

    Raises:
        StageError: nobody measured a column of the policy.
    """
    order = rank_samples(facts, policy)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    stars = find_stars(_rank_edges(edges, rank), len(order))
    has_partner = np.bincount(stars.keeper, minlength=len(order))[stars.keeper] > 1
    by_shard = pc.sort_indices(facts, sort_keys=[("shard", "ascending"), (KEY, "ascending")])
    member = rank[by_shard.to_numpy()]
    member = member[has_partner[member]]
    alternates = pa.nulls(len(member), pa.list_(pa.string()))
    if max_alternates:
        alternates = _find_alternates(stars, member, facts["caption"], order, max_alternates)
    keys = _widen(facts[KEY])
    rows: list[pa.Table] = [CLUSTER_SCHEMA.empty_table()]
    for start in range(0, len(member), _ROWS_AT_ONCE):
        some = member[start : start + _ROWS_AT_ONCE]
        told = _tell_members(stars, some, order, keys, facts["shard"])
        told = told.append_column("alternates", alternates.slice(start, _ROWS_AT_ONCE))
        rows.append(told.cast(CLUSTER_SCHEMA))
    return Clusters(
        rows=pa.concat_tables(rows),
        num_components=stars.num_components,
        num_split=stars.num_split,
    )


def _rank_edges(edges: Edges, rank: NDArray[np.int32]) -> RankedEdges:
    """Number the samples of the edges by their rank, given in the order of `edges.rows()`."""
    ends = np.concatenate([edges.left, edges.right])
    sorting = np.argsort(ends)
    ends = ends[sorting]
    is_new = np.r_[False, ends[1:] != ends[:-1]][: len(ends)]
    nth = np.cumsum(is_new, dtype=np.int32)  # [2E], place among the samples
    del ends  # 16 bytes an edge
    num = int(nth[-1]) + 1 if len(nth) else 0
    assert num == len(rank), f"{num} samples have edges, facts are of {len(rank)}"
    number = np.empty(len(sorting), np.int32)
    number[sorting] = rank[nth]
    left, right = number[: len(edges)], number[len(edges) :]
    return RankedEdges(
        better=np.minimum(left, right),
        worse=np.maximum(left, right),
        kind=edges.kind,
        distance=edges.distance,
    )


def _tell_members(
    stars: Stars,
    member: NDArray[np.int32],
    order: NDArray[np.int64],
    keys: pa.ChunkedArray,
    shards: pa.ChunkedArray,
) -> pa.Table:
    """Spell the rows of some members, all columns but the alternates."""
    own, keeper = order[member], order[stars.keeper[member]]
    is_keeper = own == keeper
    keeper_key = keys.take(pa.array(keeper))
    return pa.table(
        {
            "key": keys.take(pa.array(own)),
            "shard": shards.take(pa.array(own)),
            "cluster": keeper_key,
            "keeper": keeper_key,
            "edge": pa.array(KIND_NAMES).take(pa.array(stars.kind[member], mask=is_keeper)),
            "distance": pa.array(stars.distance[member], mask=is_keeper),
        }
    )


def _find_alternates(
    stars: Stars,
    member: NDArray[np.int32],
    captions: pa.ChunkedArray,
    order: NDArray[np.int64],
    limit: int,
) -> pa.Array:
    """List the alternates of all members, null where one is no keeper."""
    ranked = np.sort(member)
    keepers = np.searchsorted(ranked, stars.keeper[ranked])
    texts = _widen(captions).take(pa.array(order[ranked]))
    return gather_alternates(texts, keepers, limit).take(pa.array(np.searchsorted(ranked, member)))


def _widen(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give texts 64-bit offsets if there are many: `take` joins all chunks of a column."""
    return texts.cast(pa.large_string()) if texts.nbytes >= _WIDE_BYTES else texts
