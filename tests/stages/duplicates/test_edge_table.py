"""What a later generation replaced is left out, and what was bounded is counted by its signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.manifest import Identity
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.core.store import LocalStore
from curate.stages.duplicates.edge_table import (
    HEAVY_SCHEMA,
    count_heavy,
    make_edges,
    read_edges,
    read_heavy,
    write_edges,
)
from curate.stages.duplicates.edges import Kind

Edge = tuple[int, int, int | None, int | None]
"""Left, right, and their pHashes."""


def make(edges: Sequence[Edge]) -> list[pa.Table]:
    """Make near edges where pHashes are known, exact ones where not."""
    parts: list[pa.Table] = []
    for left, right, one, other in edges:
        ends = np.array([left]), np.array([right])
        if one is None or other is None:
            parts.append(make_edges(*ends, Kind.EXACT))
        else:
            hashes = np.array([one], np.uint64), np.array([other], np.uint64)
            parts.append(make_edges(*ends, Kind.NEAR, np.array([2], np.float32), hashes))
    return parts


def bounded(*values: int) -> pa.Table:
    """Say that some pHashes came too often."""
    rows = [
        {"signal": "phash", "value": value, "samples": 9, "looks": 8, "leaders": 4, "skipped": 3}
        for value in values
    ]
    return pa.Table.from_pylist(rows, schema=HEAVY_SCHEMA)


def write(folder: Path, tasks: Mapping[str, tuple[Sequence[Edge], pa.Table]]) -> ShardSet:
    for name, (edges, heavy) in tasks.items():
        out = folder / f"new-{name}"
        out.mkdir()
        write_edges(Place(out=out, scratch=out), name, make(edges), heavy)
        identity = Identity(
            stage="dedup", version=1, seed=0, config={}, models={}, inputs={}, params={}
        )
        commit(out, Output(store=LocalStore(folder / "own")), name, identity, {})
    return ShardSet(folder / "own")


def pairs(own: ShardSet, generations: Sequence[Sequence[str]]) -> set[tuple[int, int]]:
    edges = read_edges(own, generations)
    return set(zip(edges.left.tolist(), edges.right.tolist(), strict=True))


OLD: Sequence[Edge] = [(1, 2, None, None), (3, 4, 7, 7), (5, 6, 7, 8), (7, 8, 9, 7), (9, 10, 5, 6)]


@pytest.mark.parametrize("is_left", [True, False])
def test_edges_of_a_hash_that_a_later_generation_gathered_anew_go(
    tmp_path: Path, is_left: bool
) -> None:
    late: Sequence[Edge] = [(3, 40, 7, 7), (5, 60, 7, 8) if is_left else (7, 80, 9, 7)]
    own = write(tmp_path, {"_a": (OLD, bounded()), "_b": (late, bounded(7))})
    kept = {(1, 2), (9, 10), (3, 40), late[1][:2]}
    assert pairs(own, [["_a"], ["_b"]]) == kept
    assert pairs(own, [["_b", "_a"]]) == kept | {(3, 4), (5, 6), (7, 8)}  # of one generation


def test_a_generation_replaces_no_later_edge(tmp_path: Path) -> None:
    own = write(tmp_path, {"_a": (OLD, bounded(7)), "_b": ([(3, 40, 7, 7)], bounded())})
    assert pairs(own, [["_a"], ["_b"]]) == {edge[:2] for edge in OLD} | {(3, 40)}


def test_all_later_generations_replace(tmp_path: Path) -> None:
    tasks = {
        "_a": (OLD, bounded()),
        "_b": ([(11, 12, 5, 5)], bounded(6)),
        "_c": ([(13, 14, 1, 1)], bounded(8, 9)),
    }
    own = write(tmp_path, tasks)
    assert pairs(own, [["_a"], ["_b"], ["_c"]]) == {(1, 2), (3, 4), (11, 12), (13, 14)}


def test_a_hash_of_zero_is_not_taken_for_none(tmp_path: Path) -> None:
    own = write(tmp_path, {"_a": ([*OLD, (15, 16, 0, 3)], bounded()), "_b": ([], bounded(0))})
    assert pairs(own, [["_a"], ["_b"]]) == {edge[:2] for edge in OLD}


def test_edges_come_in_one_order(tmp_path: Path) -> None:
    own = write(tmp_path, {"_a": (OLD, bounded()), "_b": (OLD[::-1], bounded())})
    assert own.table("_a").equals(own.table("_b"))
    assert own.table("_a")["kind"].to_pylist()[0] == Kind.EXACT
    assert own.table("_a")["distance"].to_pylist() == [0, 2, 2, 2, 2]


def test_no_generations_have_no_edges(tmp_path: Path) -> None:
    assert len(read_edges(ShardSet(tmp_path), [])) == 0


def test_what_was_bounded_is_counted_by_its_signal(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"signal": "phash", "looks": 5, "skipped": 70},
        {"signal": "pdq", "looks": 6, "skipped": 700},
        {"signal": "semantic", "samples": 11},
        {"signal": "semantic", "samples": 12},
    ]
    own = write(
        tmp_path,
        {
            "_a": ([], bounded(7, 9)),
            "_b": ([], bounded()),
            "_c": ([], pa.Table.from_pylist(rows, schema=HEAVY_SCHEMA)),
        },
    )
    heavy = read_heavy(own, ["_a", "_b", "_c"])
    assert len(heavy) == 6
    assert count_heavy(heavy) == {
        "heavy_hashes": 2,
        "skipped_looks": 6,
        "heavy_runs": 11,
        "skipped_comparisons": 770,
        "crowded_samples": 23,
    }
    assert not +count_heavy(HEAVY_SCHEMA.empty_table())
