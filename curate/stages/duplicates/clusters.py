"""Join verified edges of all kinds into clusters around keepers.

    edges -> rows of samples with an edge -> facts of them -> order by the keeper policy
          -> equalities contracted -> stars of the rest -> a row for every sample of a cluster

A cluster is a star: each member equals its keeper, or has a verified edge to it (the equal ones of
a group share their edges). A chain of near pictures is therefore cut where its ends are strangers;
what then has no partner left is in no cluster and stays.

Memory at the peak, with the edges: the larger of 70 bytes an edge and 25 a sample that has one, and
of 25 bytes an edge and 130 a sample; samples without duplicates cost nothing. The facts come on
top, and the captions twice where alternates are asked for. Measured with 5 million edges, one core
of a busy machine, rules resolution and similarity:

    samples with an edge   bytes an edge, beside edges and facts   CPU seconds
          499,744                        49                              2.5
        3,660,696                        82                             10
       10,000,000 (pairs)               228                             24
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.core.schema import KEY
from curate.stages.duplicates.alternates import gather_alternates
from curate.stages.duplicates.keepers import KeeperPolicy, rank_samples
from curate.stages.duplicates.pairs import Pairs
from curate.stages.duplicates.stars import choose_keepers, find_distinct

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

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


class Kind(IntEnum):
    """Number the kinds of evidence, the strongest first; up to LOOK they are equalities."""

    EXACT = 0  # equal bytes
    PIXELS = 1  # equal canonical pixels
    LOOK = 2  # equal perceptual hash, thumbnail near that of the group's one leader
    NEAR = 3  # pHashes within the radius
    PDQ = 4  # PDQ hashes within the radius
    SEMANTIC = 5  # embeddings of at least the cosine


_EQUALITIES = (Kind.EXACT, Kind.PIXELS, Kind.LOOK)
KIND_NAMES = ("exact", "pixels", "near", "near", "pdq", "semantic")
"""How tables spell a `Kind`: equal hashes are near ones at a distance of 0 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Hold verified edges between samples, in any order; repeats do no harm.

    Args:
        left: [E], int64, row numbers of samples.
        right: [E], int64, others than `left` at the same place.
        kind: [E], int8, of Kind. Equalities (up to LOOK) may be a star around any one of the equal
            samples, and other edges may then end at that one alone.
        distance: [E], float32, >= 0: bits, or 1 - cosine; 0 for equalities.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)

    def rows(self) -> NDArray[np.int64]:
        """List the samples that have an edge: [N], sorted, without repeats."""
        return find_distinct(np.concatenate([self.left, self.right]))


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


def label_pairs(pairs: Pairs, kind: Kind) -> Edges:
    """Make edges of one kind from pairs."""
    kinds = np.full(len(pairs), kind, np.int8)
    return Edges(left=pairs.left, right=pairs.right, kind=kinds, distance=pairs.distance)


def join_edges(parts: Sequence[Edges]) -> Edges:
    """Join lists of edges into one."""
    return Edges(
        left=np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)]),
        right=np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)]),
        kind=np.concatenate([np.empty(0, np.int8), *(part.kind for part in parts)]),
        distance=np.concatenate([np.empty(0, np.float32), *(part.distance for part in parts)]),
    )


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
    stars = _find_stars(_rank_edges(edges, rank), len(order))
    has_partner = np.bincount(stars.keeper, minlength=len(order))[stars.keeper] > 1
    by_shard = pc.sort_indices(facts, sort_keys=[("shard", "ascending"), (KEY, "ascending")])
    member = rank[by_shard.to_numpy()]
    member = member[has_partner[member]]
    alternates = pa.nulls(len(member), pa.list_(pa.string()))
    if max_alternates:
        alternates = _find_alternates(stars, member, facts["caption"], order, max_alternates)
    keys = facts[KEY].cast(pa.large_string())  # `take` joins chunks: texts may pass 2 GB
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """Hold edges between samples that are numbered from the best (0) to the worst."""

    better: NDArray[np.int32]
    worse: NDArray[np.int32]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stars:
    """Hold for each of [N] samples, from the best to the worst, its keeper and the edge to it."""

    keeper: NDArray[np.int32]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]
    num_components: int
    num_split: int


def _rank_edges(edges: Edges, rank: NDArray[np.int32]) -> _Ranked:
    """Number the samples of the edges by their rank, given in the order of `edges.rows()`."""
    ends = np.concatenate([edges.left, edges.right])
    sorting = np.argsort(ends)
    ends = ends[sorting]
    is_new = np.r_[False, ends[1:] != ends[:-1]][: len(ends)]
    del ends  # 16 bytes an edge
    number = np.empty(len(sorting), np.int32)
    number[sorting] = rank[np.cumsum(is_new, dtype=np.int32)]
    left, right = number[: len(edges)], number[len(edges) :]
    return _Ranked(
        better=np.minimum(left, right),
        worse=np.maximum(left, right),
        kind=edges.kind,
        distance=edges.distance,
    )


def _find_stars(edges: _Ranked, num: int) -> _Stars:
    equals = [_find_best(edges, edges.kind <= level, num) for level in _EQUALITIES]
    group = equals[-1]  # [N], the best of a sample's equal ones stands for all of them
    star, strength = _join_groups(edges, group)
    keeper = star[group]
    kind, distance = _split_strength(strength[group])  # all of a group come by one edge
    for level, best in list(zip(_EQUALITIES, equals, strict=True))[::-1]:
        is_equal = best == best[keeper]
        kind[is_equal], distance[is_equal] = level, 0
    component = _find_best(edges, np.ones(len(edges.kind), bool), num)
    return _Stars(
        keeper=keeper,
        kind=kind,
        distance=distance,
        num_components=int((component == np.arange(num)).sum()),
        num_split=len(find_distinct(component[keeper != component])),
    )


def _find_best(edges: _Ranked, chosen: NDArray[np.bool_], num: int) -> NDArray[np.int32]:
    """Give for each of [N] samples the best one of its connected component."""
    if not chosen.any():
        return np.arange(num, dtype=np.int32)
    ends = (edges.better[chosen], edges.worse[chosen])
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(num, num))
    count, label = connected_components(graph, directed=False)
    best = np.empty(count, np.int32)
    best[label[::-1]] = np.arange(num - 1, -1, -1)  # the last write, the smallest number, stays
    return best[label]


def _join_groups(
    edges: _Ranked, group: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give for each of [N] groups its keeper, and the strength of the strongest edge to it."""
    one, other = group[edges.better], group[edges.worse]
    loose = np.flatnonzero(one != other)
    one, other = one[loose], other[loose]
    better, worse = np.minimum(one, other), np.maximum(one, other)
    is_keeper = choose_keepers(better, worse, len(group))
    star = np.arange(len(group), dtype=np.int32)
    taking = is_keeper[better]
    np.minimum.at(star, worse[taking], better[taking])  # the best of several keepers
    used = star[worse] == better
    strength = np.full(len(group), np.iinfo(np.int64).max)
    found = _join_strength(edges.kind[loose[used]], edges.distance[loose[used]])
    np.minimum.at(strength, worse[used], found)
    return star, strength


def _join_strength(kind: NDArray[np.int8], distance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Pack kind and distance into numbers that sort as (kind, distance) do.

    The bits of floats >= 0 sort as the floats do; 1 - cosine may be a hair below, or -0.
    """
    bits = (np.maximum(distance, 0) + np.float32(0)).view(np.int32)
    return (kind.astype(np.int64) << 32) | bits


def _split_strength(
    strength: NDArray[np.int64],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Take kind and distance apart again."""
    distance = (strength & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    return (strength >> 32).astype(np.int8), distance


def _tell_members(
    stars: _Stars,
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
    stars: _Stars,
    member: NDArray[np.int32],
    captions: pa.ChunkedArray,
    order: NDArray[np.int64],
    limit: int,
) -> pa.Array:
    """List the alternates of all members, null where one is no keeper."""
    ranked = np.sort(member)
    keepers = np.searchsorted(ranked, stars.keeper[ranked])
    texts = captions.cast(pa.large_string()).take(pa.array(order[ranked]))
    return gather_alternates(texts, keepers, limit).take(pa.array(np.searchsorted(ranked, member)))
