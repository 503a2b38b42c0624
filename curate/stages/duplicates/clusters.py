"""Join edges between duplicates into clusters and choose a keeper for each.

Memory: about 1 KB for each edge, 3 KB at the peak; samples without duplicates cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

CLUSTER_FIELDS = [
    ("cluster", pa.string()),
    ("keeper", pa.string()),
    ("edge", pa.string()),
    ("distance", pa.float32()),
]
CLUSTER_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), ("shard", pa.string()), *CLUSTER_FIELDS]
)
_STRENGTH = {"exact": 0, "pixels": 1, "near": 2}


def cluster_rows(edges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn edges into connected components and name each one's keeper.

    The keeper is the sample with most pixels; ties go to the smaller key, so the outcome does not
    depend on the order of edges or shards.

    Args:
        edges: rows of `edges.EDGE_SCHEMA`, in any order; repeats do no harm.

    Returns:
        One row for each sample that has an edge, sorted by shard and key: key, shard, cluster
        (smallest key), keeper, edge (strongest kind at the sample) and its distance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = _nodes(edges)
    if not nodes:
        return []
    keys = sorted(nodes)
    position = {key: index for index, key in enumerate(keys)}
    ends = np.array([[position[edge["key"]], position[edge["other"]]] for edge in edges])
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(keys), len(keys)))
    _, labels = connected_components(graph, directed=False)
    members: dict[int, list[str]] = {}
    for key, label in zip(keys, labels.tolist(), strict=True):
        members.setdefault(label, []).append(key)
    evidence = _strongest(edges)
    rows: list[dict[str, Any]] = []
    for some in members.values():
        keeper = min(some, key=lambda key: (-nodes[key][0], key))
        for key in some:
            kind, distance = evidence[key]
            facts = {"cluster": some[0], "keeper": keeper, "edge": kind, "distance": distance}
            rows.append({"key": key, "shard": nodes[key][1], **facts})
    return sorted(rows, key=lambda row: (row["shard"], row["key"]))


def _nodes(edges: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, str]]:
    """Collect pixels and shard of every sample that has an edge."""
    nodes: dict[str, tuple[int, str]] = {}
    for edge in edges:
        nodes[edge["key"]] = (edge["num_pixels"], edge["shard"])
        nodes[edge["other"]] = (edge["other_num_pixels"], edge["other_shard"])
    return nodes


def _strongest(edges: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Give each sample's best evidence: kind first, then distance."""
    best: dict[str, tuple[int, float, str]] = {}
    for edge in edges:
        found = (_STRENGTH[edge["kind"]], edge["distance"], edge["kind"])
        for key in (edge["key"], edge["other"]):
            best[key] = min(best.get(key, found), found)
    return {key: (kind, distance) for key, (_, distance, kind) in best.items()}
