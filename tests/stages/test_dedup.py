"""Clusters join exact, pixel and verified near duplicates; the largest picture stays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.core.schema import make_key
from curate.stages.dedup import DedupConfig, cluster_rows, find_edges


def sample(name: str, **facts: object) -> dict[str, object]:
    defaults: dict[str, object] = {
        "key": make_key(name),
        "sha256": name,
        "hashes.sha256_pixels": name,
        "phash.phash": int.from_bytes(make_key(name)[:8].encode(), "little"),
        "phash.thumbnail": bytes(192),
        "pixels.width": 100,
        "pixels.height": 100,
    }
    return defaults | facts


def table(*samples: dict[str, object]) -> pa.Table:
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("sha256", pa.string()),
            ("hashes.sha256_pixels", pa.string()),
            ("phash.phash", pa.uint64()),
            ("phash.thumbnail", pa.binary(192)),
            ("pixels.width", pa.int32()),
            ("pixels.height", pa.int32()),
        ]
    )
    return pa.Table.from_pylist(list(samples), schema=schema)


def kinds(samples: pa.Table, config: DedupConfig | None = None) -> list[tuple[int, int, str]]:
    edges = find_edges(samples, config or DedupConfig())
    return [(edge.first, edge.second, edge.kind) for edge in edges]


def test_equal_bytes_are_exact_duplicates() -> None:
    samples = table(sample("a"), sample("b", sha256="a", **{"hashes.sha256_pixels": "a"}))
    assert (0, 1, "exact") in kinds(samples)


def test_equal_pixels_in_another_container_are_duplicates() -> None:
    assert kinds(table(sample("a"), sample("b", **{"hashes.sha256_pixels": "a"}))) == [
        (0, 1, "pixels")
    ]


def test_a_near_hash_needs_a_near_thumbnail() -> None:
    near = {"phash.phash": 0b111}
    colour = bytes([200] + [0] * 191)
    first = sample("a", **{"phash.phash": 0})
    assert kinds(table(first, sample("b", **near))) == [(0, 1, "near")]
    assert kinds(table(first, sample("b", **near, **{"phash.thumbnail": colour}))) == []


def test_the_radius_is_inclusive() -> None:
    first, second = sample("a", **{"phash.phash": 0}), sample("b", **{"phash.phash": 0b1111})
    assert kinds(table(first, second), DedupConfig(phash_radius=4)) == [(0, 1, "near")]
    assert kinds(table(first, second), DedupConfig(phash_radius=3)) == []


def test_an_unmeasured_hash_joins_nothing() -> None:
    samples = table(sample("a", **{"phash.phash": None}), sample("b", **{"phash.phash": None}))
    assert kinds(samples) == []


def test_the_largest_picture_is_kept_whatever_the_order() -> None:
    small = sample("a", sha256="x")
    large = sample("b", sha256="x", **{"pixels.width": 300})
    for samples in (table(small, large), table(large, small)):
        rows = cluster_rows(samples, find_edges(samples, DedupConfig()))
        assert {row["keeper"] for row in rows} == {make_key("b")}
        assert {row["key"] for row in rows} == {make_key("a"), make_key("b")}


def test_chains_become_one_cluster() -> None:
    hashes = [0, 0b1111, 0b11111111]
    samples = table(*(sample(str(i), **{"phash.phash": value}) for i, value in enumerate(hashes)))
    rows = cluster_rows(samples, find_edges(samples, DedupConfig(phash_radius=4)))
    assert len({row["cluster"] for row in rows}) == 1
    assert len(rows) == 3


def test_no_duplicates_make_no_clusters() -> None:
    samples = table(sample("a"), sample("b"))
    assert cluster_rows(samples, find_edges(samples, DedupConfig(phash_radius=0))) == []
    assert np.array(kinds(samples)).size == 0
