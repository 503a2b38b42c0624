"""Give every sample its keeper and the edge to it: equal ones become one node, nodes become stars.

    edges between ranked samples -> groups of equal ones, each named after its best sample
    other edges, between groups  -> stars of groups (`stars.py`) -> keeper, kind and distance

All numbers are ranks: the smaller, the better; the smallest of a component is its best sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.edges import EQUALITIES
from curate.stages.duplicates.stars import choose_keepers, find_distinct


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedEdges:
    """Hold edges between samples that are numbered from the best (0) to the worst.

    Args:
        better: [E], int32, the better sample.
        worse: [E], int32.
        kind: [E], int8, of Kind.
        distance: [E], float32.
    """

    better: NDArray[np.int32]
    worse: NDArray[np.int32]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """Hold for each of [N] samples, from the best to the worst, its keeper and the edge to it.

    Args:
        keeper: [N], int32; a keeper's is itself.
        kind: [N], int8, of Kind; says nothing of keepers.
        distance: [N], float32.
        num_components: connected components of the edges.
        num_split: components that became several stars, or lost a sample.
    """

    keeper: NDArray[np.int32]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]
    num_components: int
    num_split: int


def find_stars(edges: RankedEdges, num: int) -> Stars:
    """Split the graph into stars around the best samples.

    Args:
        edges: [E], of all kinds.
        num: N, samples.
    """
    equals = [_find_best(edges, edges.kind <= level, num) for level in EQUALITIES]
    group = equals[-1]  # [N], the best of a sample's equal ones stands for all of them
    star, strength = _join_groups(edges, group)
    keeper = star[group]
    kind, distance = _split_strength(strength[group])  # all of a group come by one edge
    for level, best in list(zip(EQUALITIES, equals, strict=True))[::-1]:
        is_equal = best == best[keeper]
        kind[is_equal], distance[is_equal] = level, 0
    component = _find_best(edges, np.ones(len(edges.kind), bool), num)
    return Stars(
        keeper=keeper,
        kind=kind,
        distance=distance,
        num_components=int((component == np.arange(num)).sum()),
        num_split=len(find_distinct(component[keeper != component])),
    )


def _find_best(edges: RankedEdges, chosen: NDArray[np.bool_], num: int) -> NDArray[np.int32]:
    """Give for each of [N] samples the best one of its connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not chosen.any():
        return np.arange(num, dtype=np.int32)
    ends = (edges.better[chosen], edges.worse[chosen])
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(num, num))
    count, label = connected_components(graph, directed=False)
    best = np.empty(count, np.int32)
    best[label[::-1]] = np.arange(num - 1, -1, -1)  # the last write, the smallest number, stays
    return best[label]


def _join_groups(
    edges: RankedEdges, group: NDArray[np.int32]
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
