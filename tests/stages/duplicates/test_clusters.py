"""Clusters: stars of verified edges around keepers, the same whatever the order of anything."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.schema import make_key
from curate.core.seed import make_rng
from curate.stages.duplicates import clusters
from curate.stages.duplicates.clusters import CLUSTER_SCHEMA, Clusters, find_clusters
from curate.stages.duplicates.edges import KIND_NAMES, Edges, Kind, join_edges, label_pairs
from curate.stages.duplicates.keepers import KeeperPolicy
from curate.stages.duplicates.pairs import Pairs

Given = tuple[int, int, Kind, float]


def make_edges(given: list[Given]) -> Edges:
    return Edges(
        left=np.array([edge[0] for edge in given], np.int64),
        right=np.array([edge[1] for edge in given], np.int64),
        kind=np.array([edge[2] for edge in given], np.int8),
        distance=np.array([edge[3] for edge in given], np.float32),
    )


def make_facts(num: int, **columns: list[Any]) -> pa.Table:
    """Describe samples whose keys and sizes say: the smaller the number, the better."""
    facts = {
        "key": [f"{n:020x}" for n in range(num)],
        "shard": [f"{n % 3:05d}" for n in range(num)],
        "num_pixels": [1000 - n for n in range(num)],
    }
    return pa.table({**facts, **columns})


def cluster(given: list[Given], facts: pa.Table, **more: Any) -> Clusters:
    edges = make_edges(given)
    return find_clusters(edges, facts.take(pa.array(edges.rows())), KeeperPolicy(), **more)


def tell(found: Clusters) -> dict[int, tuple[int, str | None, float | None]]:
    """Give number -> (number of the keeper, kind, distance)."""
    return {
        int(row["key"], 16): (int(row["keeper"], 16), row["edge"], row["distance"])
        for row in found.rows.to_pylist()
    }


def test_a_chain_is_split_where_its_ends_are_strangers() -> None:
    # Seven pictures, each 4 bits from the next: the ends differ in 24 of 64 bits.
    hashes = [(1 << 4 * n) - 1 for n in range(7)]
    radius = 4
    apart = {(a, b): (hashes[a] ^ hashes[b]).bit_count() for a, b in combinations(range(7), 2)}
    near = [(a, b, Kind.NEAR, bits) for (a, b), bits in apart.items() if bits <= radius]
    found = cluster(near, make_facts(7))

    assert found.num_components == 1  # without the split all seven would be one cluster,
    assert max(apart.values()) == 24 > 2 * radius  # though most of them are strangers
    keepers = {number: keeper for number, (keeper, _, _) in tell(found).items()}
    assert keepers == {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 4}  # the last one is left alone
    assert found.num_split == 1
    for a, b in combinations(sorted(keepers), 2):
        if keepers[a] == keepers[b]:
            assert apart[a, b] <= 2 * radius
    for member, keeper in keepers.items():
        assert member == keeper or apart[keeper, member] <= radius


def test_a_keeper_in_the_middle_holds_both_sides() -> None:
    facts = make_facts(3).set_column(2, "num_pixels", pa.array([1, 9, 1]))
    found = cluster([(0, 1, Kind.NEAR, 4), (1, 2, Kind.NEAR, 3)], facts)
    assert tell(found) == {0: (1, "near", 4), 1: (1, None, None), 2: (1, "near", 3)}
    assert (found.num_components, found.num_split) == (1, 0)


def test_equal_pictures_stay_together_whichever_of_them_has_the_edges() -> None:
    # 0..4 are equal to 3, which was compared for them; it is near 5, whose equal is 6.
    given = [(3, n, Kind.EXACT, 0.0) for n in (0, 1)] + [(3, 2, Kind.PIXELS, 0.0)]
    given += [(4, 3, Kind.LOOK, 0.0), (3, 5, Kind.NEAR, 5.0), (6, 5, Kind.EXACT, 0.0)]
    assert tell(cluster(given, make_facts(7))) == {
        0: (0, None, None),
        1: (0, "exact", 0),
        2: (0, "pixels", 0),
        3: (0, "exact", 0),
        4: (0, "near", 0),
        5: (0, "near", 5),
        6: (0, "near", 5),
    }


def test_the_edge_told_is_the_strongest_to_the_keeper() -> None:
    given = [
        (0, 1, Kind.SEMANTIC, 0.01), (0, 1, Kind.NEAR, 6), (0, 1, Kind.PDQ, 2),
        (0, 2, Kind.SEMANTIC, 0.04), (2, 0, Kind.SEMANTIC, 0.02), (1, 2, Kind.EXACT, 0),
    ]  # fmt: skip
    found = tell(cluster(given, make_facts(3)))
    assert found == {0: (0, None, None), 1: (0, "near", 6), 2: (0, "near", 6)}
    found = tell(cluster(given[:-1], make_facts(3)))
    assert found == {0: (0, None, None), 1: (0, "near", 6), 2: (0, "semantic", np.float32(0.02))}


def test_a_member_goes_to_the_best_keeper_that_it_is_near() -> None:
    given = [(0, 3, Kind.NEAR, 6.0), (1, 3, Kind.NEAR, 1.0), (1, 2, Kind.NEAR, 1.0)]
    assert tell(cluster(given, make_facts(4)))[3] == (0, "near", 6)


def test_a_sample_that_is_left_alone_is_in_no_cluster() -> None:
    given = [(0, 1, Kind.NEAR, 1.0), (1, 2, Kind.NEAR, 1.0)]
    assert tell(cluster(given, make_facts(3))).keys() == {0, 1}


def test_no_edges_make_no_clusters() -> None:
    found = cluster([], make_facts(3, caption=[""] * 3), max_alternates=4)
    assert (found.num_components, found.num_split) == (0, 0)
    assert found.rows.equals(CLUSTER_SCHEMA.empty_table())


def test_rows_follow_shard_and_key_and_name_the_cluster_after_its_keeper() -> None:
    given = [(n, n + 6, Kind.EXACT, 0.0) for n in range(6)]
    rows = cluster(given, make_facts(12)).rows
    assert rows.schema == CLUSTER_SCHEMA
    assert rows.sort_by([("shard", "ascending"), ("key", "ascending")]).equals(rows)
    assert rows["cluster"].equals(rows["keeper"])
    assert rows["alternates"].null_count == 12


def draw_world(seed: int, num: int = 90) -> tuple[list[Given], pa.Table]:
    """Draw groups of equal samples, edges of all kinds between them, and facts with many ties."""
    rng = make_rng(seed, "clusters")
    group = rng.integers(0, num * 2 // 3, num)
    strength = rng.integers(0, 3, num)  # how equal a sample is to its group's first
    given: list[Given] = []
    for n in range(num):
        first = int(np.flatnonzero(group == group[n])[0])
        if first != n:
            given.append((first, n, Kind(int(strength[n])), 0.0))
    for a, b in rng.integers(0, num, (num, 2)).tolist():
        if group[a] != group[b]:
            kind = Kind(int(rng.integers(Kind.NEAR, Kind.SEMANTIC + 1)))
            given.append((a, b, kind, float(rng.integers(1, 9))))
    facts = pa.table(
        {
            "key": [make_key(str(seed), str(n)) for n in range(num)],
            "shard": [f"{n % 4:05d}" for n in range(num)],
            "num_pixels": rng.integers(1, 5, num),
            "caption": [f"caption {n}" for n in rng.integers(0, 40, num)],
        }
    )
    return given, facts


@pytest.mark.parametrize("seed", range(6))
def test_every_member_has_an_edge_to_its_keeper_directly_or_through_equals(seed: int) -> None:
    given, facts = draw_world(seed)
    keys = facts["key"].to_pylist()
    equals = {n: {n} for n in range(len(keys))}
    for a, b, kind, _ in given:
        if kind <= Kind.LOOK:
            joined = equals[a] | equals[b]
            equals |= dict.fromkeys(joined, joined)
    edges: dict[tuple[int, int], list[tuple[Kind, float]]] = {}
    for a, b, kind, distance in given:
        edges.setdefault((a, b), []).append((kind, distance))
        edges.setdefault((b, a), []).append((kind, distance))
    rows = cluster(given, facts).rows.to_pylist()
    assert len(rows) > 30
    sizes = facts["num_pixels"].to_pylist()
    for row in rows:
        member, keeper = keys.index(row["key"]), keys.index(row["keeper"])
        if member == keeper:
            assert (row["edge"], row["distance"]) == (None, None)
            continue
        assert (-sizes[keeper], keys[keeper]) < (-sizes[member], keys[member])
        between = [
            edge for a in equals[member] for b in equals[keeper] for edge in edges.get((a, b), [])
        ]
        assert between, "a member without a verified edge"
        if keeper not in equals[member]:
            kind, distance = min(between)
            assert (row["edge"], row["distance"]) == (KIND_NAMES[kind], distance)


@pytest.mark.parametrize("seed", range(6))
def test_neither_edges_nor_rows_nor_shards_have_an_order(seed: int) -> None:
    given, facts = draw_world(seed)
    rng = make_rng(seed, "shuffles")
    whole = cluster(given, facts, max_alternates=3)
    for _ in range(4):
        place = rng.permutation(len(facts))  # old row -> new row
        turned = [
            (int(place[a]), int(place[b]), kind, distance)
            if rng.random() < 0.5
            else (int(place[b]), int(place[a]), kind, distance)
            for a, b, kind, distance in given
        ]
        order = rng.permutation(len(turned))
        turned = [turned[n] for n in order] + [turned[order[0]]]
        shards = pa.array(facts["shard"].to_pylist())
        moved = facts.set_column(1, "shard", shards).take(pa.array(np.argsort(place)))
        again = cluster(turned, moved, max_alternates=3)
        assert again.rows.equals(whole.rows)
        assert (again.num_components, again.num_split) == (
            whole.num_components,
            whole.num_split,
        )
        one_shard = moved.set_column(1, "shard", pa.array(["00000"] * len(moved)))
        flat = cluster(turned, one_shard, max_alternates=3).rows.drop_columns("shard")
        assert flat.equals(whole.rows.drop_columns("shard").sort_by("key"))


def test_captions_of_the_dropped_become_alternates_of_the_keeper() -> None:
    captions = ["a cat", "a cat ", "my cat", None, "", "my cat", "  old cat", "a dog", "a dog"]
    given = [(0, n, Kind.EXACT, 0.0) for n in range(1, 7)] + [(7, 8, Kind.EXACT, 0.0)]
    facts = make_facts(9, caption=captions)
    rows = cluster(given, facts, max_alternates=9).rows.sort_by("key").to_pylist()
    assert rows[0]["alternates"] == ["my cat", "old cat"]  # the better member's first
    assert rows[7]["alternates"] == []  # none but the keeper's own
    assert {n for n, row in enumerate(rows) if row["alternates"] is None} == {1, 2, 3, 4, 5, 6, 8}
    rows = cluster(given, facts, max_alternates=1).rows.sort_by("key").to_pylist()
    assert rows[0]["alternates"] == ["my cat"]


@pytest.mark.parametrize("limit", [3, 99])
def test_alternates_are_those_of_a_plain_reading(limit: int) -> None:
    rng = make_rng(7, "alternates")
    captions = [f"text {n} " for n in rng.integers(0, 30, 150)]
    captions[20:40:3] = [" "] * 7
    given = [(n % 3, n, Kind.EXACT, 0.0) for n in range(3, 150)]
    found = cluster(given, make_facts(150, caption=captions), max_alternates=limit)
    rows = found.rows.sort_by("key")["alternates"].to_pylist()
    for keeper in range(3):
        texts = dict.fromkeys(captions[n].strip() for n in range(keeper, 150, 3))
        assert rows[keeper] == [t for t in texts if t not in ("", captions[keeper].strip())][:limit]
    assert rows[3:] == [None] * 147


def test_captions_of_one_cluster_are_alternates_of_another_too() -> None:
    captions = ["p", "q", "z", "q"]
    given = [(0, 1, Kind.EXACT, 0.0), (2, 3, Kind.EXACT, 0.0)]
    rows = cluster(given, make_facts(4, caption=captions), max_alternates=9).rows.sort_by("key")
    assert rows["alternates"].to_pylist() == [["q"], None, ["q"], None]


@pytest.mark.parametrize("distance", [-0.0, -1e-7])
def test_a_distance_a_hair_below_0_is_0(distance: float) -> None:
    given = [(n, n + 9, Kind.SEMANTIC, more) for n in range(9) for more in (distance, 0.01)]
    found = tell(cluster(given, make_facts(18)))
    assert [found[n] for n in range(9, 18)] == [(n, "semantic", 0) for n in range(9)]


def test_many_rows_and_wide_texts_are_told_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    given, facts = draw_world(0)
    whole = cluster(given, facts, max_alternates=3).rows
    monkeypatch.setattr(clusters, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(clusters, "_WIDE_BYTES", 0)
    pieces = cluster(given, facts, max_alternates=3).rows
    assert pieces["key"].num_chunks > 7
    assert pieces.equals(whole)


def test_edges_are_joined_from_pairs_of_every_kind() -> None:
    pairs = Pairs(
        left=np.array([0, 1]), right=np.array([2, 3]), distance=np.array([3, 4], np.float32)
    )
    edges = join_edges([label_pairs(pairs, Kind.NEAR), label_pairs(pairs, Kind.SEMANTIC)])
    assert edges.kind.tolist() == [Kind.NEAR, Kind.NEAR, Kind.SEMANTIC, Kind.SEMANTIC]
    assert edges.right.tolist() == [2, 3, 2, 3]
    assert edges.rows().tolist() == [0, 1, 2, 3]
    assert len(join_edges([])) == 0
