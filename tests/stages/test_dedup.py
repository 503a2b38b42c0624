"""Clusters join exact, pixel and verified near duplicates; the largest picture stays."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.core.commit import Output, commit
from curate.core.manifest import Identity
from curate.core.schema import make_key
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.duplicates.clusters import cluster_rows
from curate.stages.duplicates.edges import (
    HASH_SCHEMA,
    HASHES,
    Bin,
    HashTables,
    find_equal,
    find_near,
)

Edge = tuple[str, str, str]


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def sample(name: str, **facts: Any) -> dict[str, Any]:
    key = make_key(name)
    defaults: dict[str, Any] = {
        "key": key,
        "status": "ok",
        "num_pixels": 10_000,
        "bytes": digest(name),
        "pixels": digest(name),
        "phash": int.from_bytes(digest(name)[:8], "little"),
        "thumbnail": bytes(192),
    }
    return defaults | facts


def write_tables(folder: Path, *shards: Sequence[dict[str, Any]]) -> HashTables:
    """Write finished `_hashes-` shards."""
    names = [f"{number:05d}" for number in range(len(shards))]
    for name, samples in zip(names, shards, strict=True):
        out = folder / "out"
        out.mkdir(parents=True)
        with ShardWriter(out, f"{HASHES}{name}", HASH_SCHEMA, with_tar=False) as writer:
            for row in sorted(samples, key=lambda row: row["key"]):
                writer.write(row)
        identity = Identity(
            stage="dedup", version=1, seed=0, config={}, models={}, inputs={}, params={"n": name}
        )
        commit(out, Output(store=LocalStore(folder)), f"{HASHES}{name}", identity, {})
        out.rmdir()
    return HashTables(ShardSet(folder), names)


def find_all(
    tables: HashTables, bins: int = 1, radius: int = 6, distance: float = 16
) -> list[dict[str, Any]]:
    """Go through all bins, as the stage's tasks do."""
    parts = [Bin(number=number, count=bins) for number in range(bins)]
    equal = [edge for part in parts for edge in find_equal(tables, part)]
    repeated = np.unique(np.array([edge["other_row"] for edge in equal], np.int64))
    near = [edge for part in parts for edge in find_near(tables, part, repeated, radius, distance)]
    return equal + near


def kinds(edges: Sequence[dict[str, Any]]) -> set[Edge]:
    return {(edge["key"], edge["other"], edge["kind"]) for edge in edges}


def pair(first: str, second: str, kind: str) -> Edge:
    one, other = sorted((make_key(first), make_key(second)))
    return (one, other, kind)


def test_equal_bytes_are_exact_duplicates_also_across_shards(tmp_path: Path) -> None:
    copy = sample("b", bytes=digest("a"), pixels=digest("a"))
    edges = find_all(write_tables(tmp_path, [sample("a"), sample("c")], [copy]))
    assert kinds(edges) == {pair("a", "b", "exact"), pair("a", "b", "pixels")}
    assert {edges[0]["shard"], edges[0]["other_shard"]} == {"00000", "00001"}


def test_equal_pixels_in_another_container_are_duplicates(tmp_path: Path) -> None:
    edges = find_all(write_tables(tmp_path, [sample("a"), sample("b", pixels=digest("a"))]))
    assert kinds(edges) == {pair("a", "b", "pixels")}


def test_digests_that_share_a_prefix_are_not_equal(tmp_path: Path) -> None:
    other = digest("a")[:8] + bytes(24)
    assert find_all(write_tables(tmp_path, [sample("a"), sample("b", bytes=other)])) == []


def test_a_near_hash_needs_a_near_thumbnail(tmp_path: Path) -> None:
    first = sample("a", phash=0)
    near = sample("b", phash=0b111)
    assert kinds(find_all(write_tables(tmp_path / "near", [first, near]))) == {
        pair("a", "b", "near")
    }
    other = near | {"thumbnail": bytes([200] + [0] * 191)}
    assert find_all(write_tables(tmp_path / "other", [first, other])) == []


def test_the_radius_is_inclusive(tmp_path: Path) -> None:
    tables = write_tables(tmp_path, [sample("a", phash=0), sample("b", phash=0b1111)])
    assert kinds(find_all(tables, radius=4)) == {pair("a", "b", "near")}
    assert find_all(tables, radius=3) == []


def test_the_thumbnails_may_differ_by_the_distance_and_no_more(tmp_path: Path) -> None:
    thumbnail = bytes([16] + [0] * 191)
    tables = write_tables(tmp_path, [sample("a", phash=0), sample("b", phash=0)])
    assert len(find_all(tables, distance=0)) == 1
    tables = write_tables(
        tmp_path / "2", [sample("a", phash=0), sample("b", phash=0, thumbnail=thumbnail)]
    )
    assert len(find_all(tables, distance=16)) == 1
    assert find_all(tables, distance=15) == []


def test_an_unmeasured_hash_joins_nothing(tmp_path: Path) -> None:
    unknown = {"phash": None, "thumbnail": None, "pixels": None}
    tables = write_tables(tmp_path, [sample("a", **unknown), sample("b", **unknown)])
    assert find_all(tables) == []


def test_a_copy_is_not_compared_again(tmp_path: Path) -> None:
    copies = [sample(str(n), pixels=digest("x"), phash=0) for n in range(5)]
    edges = find_all(write_tables(tmp_path, copies))
    assert [edge["kind"] for edge in edges] == ["pixels"] * 4  # a star, and nothing near


def crowd(num: int) -> list[dict[str, Any]]:
    """Draw samples with planted copies of all kinds."""
    rng = make_rng(0, "test_dedup")
    samples = [sample(f"n{n}", num_pixels=int(rng.integers(1, 1000))) for n in range(num)]
    for n in range(0, num - 3, 4):
        samples[n + 1]["bytes"] = samples[n]["bytes"]
        samples[n + 1]["phash"] = samples[n]["phash"]
        flip = sum(1 << int(bit) for bit in rng.choice(64, size=n % 8, replace=False))
        samples[n + 2]["phash"] = samples[n]["phash"] ^ flip
    return samples


@pytest.mark.parametrize("bins", [2, 7, 64])
def test_any_number_of_bins_finds_the_same_edges(tmp_path: Path, bins: int) -> None:
    samples = crowd(120)
    tables = write_tables(tmp_path, samples[:50], samples[50:51], samples[51:])
    whole = kinds(find_all(tables))
    assert kinds(find_all(tables, bins=bins)) == whole
    assert {kind for _, _, kind in whole} == {"exact", "near"}
    assert len(whole) >= 50


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_every_value_lies_in_exactly_one_bin_and_bins_are_about_equal(count: int) -> None:
    values = make_rng(0, "bins").integers(0, 2**64, 20_000, dtype=np.uint64)
    values[:10_000] &= np.uint64(0xFF00FF)  # as masked hashes are: most bits zero
    values = np.unique(values)
    for band in (0, 27):
        held = [int(Bin(number=n, count=count).holds(values, band).sum()) for n in range(count)]
        assert sum(held) == len(values)
        assert max(held) < 1.5 * len(values) / count + 50


def test_clusters_depend_on_neither_shards_nor_bins_nor_order(tmp_path: Path) -> None:
    samples = crowd(60)
    one = cluster_rows(find_all(write_tables(tmp_path / "one", samples)))
    random.Random(0).shuffle(samples)
    edges = find_all(write_tables(tmp_path / "two", samples[:20], samples[20:]), bins=3)
    random.Random(1).shuffle(edges)
    plain = [
        sorted(tuple(v for k, v in row.items() if k != "shard") for row in rows)
        for rows in (one, cluster_rows(edges))
    ]
    assert plain[0] == plain[1]


def test_the_largest_picture_is_kept_and_the_smaller_key_among_equals(tmp_path: Path) -> None:
    small = [sample(name, bytes=digest("x")) for name in "abc"]
    large = sample("d", bytes=digest("x"), num_pixels=20_000)
    rows = cluster_rows(find_all(write_tables(tmp_path / "one", [*small, large])))
    assert {row["keeper"] for row in rows} == {make_key("d")}
    rows = cluster_rows(find_all(write_tables(tmp_path / "two", small)))
    assert {row["keeper"] for row in rows} == {min(row["key"] for row in rows)}


def test_chains_become_one_cluster_whose_members_tell_their_own_evidence(tmp_path: Path) -> None:
    hashes = [0, 0b1111, 0b11111111]
    chain = [sample(str(i), phash=value) for i, value in enumerate(hashes)]
    copy = sample("copy", pixels=digest("0"), phash=0)
    rows = cluster_rows(find_all(write_tables(tmp_path, [*chain, copy]), radius=4))
    assert len({row["cluster"] for row in rows}) == 1
    evidence = {row["key"]: (row["edge"], row["distance"]) for row in rows}
    assert evidence[make_key("copy")] == ("pixels", 0)
    assert evidence[make_key("2")] == ("near", 4)


def test_no_duplicates_make_no_clusters(tmp_path: Path) -> None:
    assert cluster_rows(find_all(write_tables(tmp_path, [sample("a"), sample("b")]))) == []
    assert cluster_rows([]) == []
