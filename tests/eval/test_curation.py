from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from eval import curation
from eval.curation import (
    choose_clusters,
    choose_failing,
    choose_kept,
    list_measures,
    measure_distributions,
)

VERDICTS = [("keep", pa.bool_()), ("failed_rules", pa.list_(pa.string()))]
CLUSTERS = [("keeper", pa.string()), ("edge", pa.string())]


def test_measures_are_numbers_that_mean_something(make_shards: Any, toy: Any):
    columns = [
        ("clip.similarity", pa.float32()),
        ("pixels.width", pa.int32()),
        ("phash.phash", pa.uint64()),
        ("clip.image_embedding", pa.list_(pa.float16())),
        ("hashes.sha256_pixels", pa.string()),
    ]
    shards = make_shards("annotate", [{"key": toy.key("a")}], columns)
    assert list_measures(shards) == ["clip.similarity", "pixels.width"]
    assert list_measures(None) == []


def test_distributions_leave_out_judged_constant_and_unmeasured_values(make_shards: Any, toy: Any):
    rows = [
        {"key": toy.key("a"), "pixels.width": 64, "a.score": 1.0, "b.score": float("nan")},
        {"key": toy.key("b"), "pixels.width": 64, "a.score": 2.0, "b.score": 0.1},
        {"key": toy.key("c"), "pixels.width": 64, "a.score": None, "b.score": 0.4},
    ]
    columns = [(name, pa.float64()) for name in ("pixels.width", "a.score", "b.score")]
    shards = make_shards("annotate", rows, columns)
    found = {item.column: sorted(item.values.tolist()) for item in measure_distributions(shards)}
    assert found == {"a.score": [1.0, 2.0], "b.score": [0.1, 0.4]}
    assert [item.column for item in measure_distributions(shards, {"a.score"})] == ["b.score"]
    assert measure_distributions(None) == []


def test_distributions_of_many_samples_rest_on_a_fair_part(
    make_shards: Any, toy: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(curation, "_MAX_VALUES", 10)
    rows = [{"key": toy.key(str(i)), "a.score": float(i)} for i in range(100)]
    shards = make_shards("annotate", rows, [("a.score", pa.float64())])
    (found,) = measure_distributions(shards)
    smallest = sorted(rows, key=lambda row: row["key"])[:10]
    assert sorted(found.values) == sorted(row["a.score"] for row in smallest)


def test_kept_and_failing_are_told_apart_and_failed_samples_are_neither(make_shards: Any, toy: Any):
    rows = [
        {"key": toy.key("a"), "keep": True, "failed_rules": []},
        {"key": toy.key("b"), "keep": False, "failed_rules": ["language", "where"]},
        {"key": toy.key("c"), "keep": False, "failed_rules": ["unmeasured.where"]},
        {"key": toy.key("d"), "keep": False, "failed_rules": [], "status": "not_image"},
    ]
    shards = make_shards("filter", rows, VERDICTS)
    assert choose_kept(shards, 5) == [toy.key("a")]
    found = choose_failing(shards, ["language", "where", "uids"], 5)
    both = sorted([toy.key("b"), toy.key("c")])
    assert found == {"language": [toy.key("b")], "where": both, "uids": []}
    assert choose_kept(None, 5) == [] and choose_failing(None, ["where"], 5) == {"where": []}


def test_tables_without_verdicts_choose_nothing(make_shards: Any, toy: Any):
    shards = make_shards("filter", [{"key": toy.key("a")}])
    assert choose_kept(shards, 5) == []
    assert choose_failing(shards, ["where"], 5) == {"where": []}


def test_clusters_name_keeper_others_and_size(make_shards: Any, toy: Any):
    keeper, lone = toy.key("keeper"), toy.key("lone")
    others = sorted(toy.key(str(i)) for i in range(3))
    rows = [
        {"key": keeper, "keeper": keeper, "edge": "exact"},
        {"key": lone},
        *({"key": key, "keeper": keeper, "edge": "near"} for key in others),
    ]
    (cluster,) = choose_clusters(make_shards("dedup", rows, CLUSTERS), limit=5, max_members=2)
    assert cluster.keeper == keeper
    assert cluster.num_members == 4
    assert cluster.others == [(key, "near") for key in others[:2]]


def test_the_largest_clusters_come_first(make_shards: Any, toy: Any):
    rows = [
        {"key": toy.key(f"{size}-{i}"), "keeper": toy.key(f"keeper of {size}"), "edge": "near"}
        for size in (1, 2, 5, 3)
        for i in range(size)
    ]
    found = choose_clusters(make_shards("dedup", rows, CLUSTERS), limit=3, max_members=9)
    assert [item.num_members for item in found[:2]] == [6, 4]
    assert len(found) == 3 and found[2].num_members in (2, 3)
