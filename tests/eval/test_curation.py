from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from eval.curation import (
    Rule,
    choose_clusters,
    choose_examples,
    list_measures,
    mark_outside,
    measure_distributions,
    measure_funnel,
    read_columns,
    read_verdicts,
)

SIMILARITY = Rule(reason="similarity", column="clip.similarity", min=0.3)
VERDICTS = [("keep", pa.bool_()), ("reason", pa.string())]


def test_funnel_counts_a_failure_once_where_it_happened(make_shards: Any, toy: Any):
    inputs = {
        "ingest": make_shards("ingest", [], counts={"in": 10, "kept": 8, "failed.not_image": 2}),
        "filter": make_shards(
            "filter", [], counts={"in": 10, "kept": 5, "failed.not_image": 2, "dropped.aspect": 3}
        ),
        "recaption": make_shards(
            "recaption", [], counts={"in": 5, "kept": 5, "rejected.refusal": 4}
        ),
    }
    ingest, judged, captions = measure_funnel(inputs)
    assert (ingest.num_in, ingest.num_kept, ingest.failed) == (10, 8, {"not_image": 2})
    assert (judged.num_in, judged.num_kept, judged.failed) == (8, 5, {})
    assert judged.dropped == {"aspect": 3}
    assert captions.notes == {"rejected.refusal": 4}


def test_reasons_come_most_drops_first(make_shards: Any):
    counts = {"in": 9, "kept": 3, "dropped.a": 1, "dropped.b": 5}
    (row,) = measure_funnel({"filter": make_shards("filter", [], counts=counts)})
    assert list(row.dropped) == ["b", "a"]


def test_missing_columns_are_left_out(make_shards: Any, toy: Any):
    shards = make_shards("annotate", [{"key": toy.key("a")}])
    table = read_columns(shards, ["key", "clip.similarity"])
    assert table is not None and table.column_names == ["key"]
    assert read_columns(None, ["key"]) is None
    assert read_verdicts(shards).kept == frozenset()


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


def test_bounds_are_inclusive_as_in_filter():
    values = np.array([0.1, 0.3, 0.5])
    rule = Rule(reason="x", column="y", min=0.3, max=0.5)
    assert mark_outside(values, [rule]).tolist() == [True, False, False]


def test_distributions_put_judged_columns_first_and_leave_constant_ones_out():
    table = pa.table(
        {
            "pixels.width": pa.array([64, 64, 64], pa.int32()),
            "aesthetic.score": pa.array([1.0, 2.0, None]),
            "clip.similarity": pa.array([0.1, 0.4, float("nan")]),
        }
    )
    found = measure_distributions(table, table.column_names, [SIMILARITY])
    assert [item.column for item in found] == ["clip.similarity", "aesthetic.score"]
    assert found[0].num_outside == 1
    assert found[1].values.tolist() == [1.0, 2.0]


def test_examples_are_those_nearest_to_the_threshold(make_shards: Any, toy: Any):
    scores = {"far": 0.0, "near": 0.29, "just": 0.3, "safe": 0.9}
    annotate = make_shards(
        "annotate",
        [{"key": toy.key(name), "clip.similarity": score} for name, score in scores.items()],
        [("clip.similarity", pa.float64())],
    )
    rows = [
        {"key": toy.key(name), "keep": score >= 0.3, "reason": "" if score >= 0.3 else "similarity"}
        for name, score in scores.items()
    ]
    verdicts = read_verdicts(make_shards("filter", rows, VERDICTS))
    table = read_columns(annotate, ["key", "clip.similarity"])
    (group,) = choose_examples(verdicts, table, [SIMILARITY], limit=1)
    assert (group.reason, group.num_dropped) == ("similarity", 2)
    assert [item.key for item in group.dropped] == [toy.key("near")]
    assert [item.key for item in group.kept] == [toy.key("just")]
    assert group.kept[0].score == 0.3


def test_a_reason_without_a_rule_still_shows_what_it_dropped(make_shards: Any, toy: Any):
    rows = [{"key": toy.key("a"), "keep": False, "reason": "opt_out"}]
    verdicts = read_verdicts(make_shards("filter", rows, VERDICTS))
    (group,) = choose_examples(verdicts, None, [], limit=3)
    assert group.rule is None
    assert group.dropped[0].score is None and group.kept == []


def test_failed_samples_are_not_drops(make_shards: Any, toy: Any):
    row = {"key": toy.key("a"), "status": "not_image", "keep": False, "reason": "not_image"}
    assert read_verdicts(make_shards("filter", [row], VERDICTS)).reasons == {}


def test_clusters_name_keeper_others_and_size(make_shards: Any, toy: Any):
    keeper, lone = toy.key("keeper"), toy.key("lone")
    others = sorted(toy.key(str(i)) for i in range(3))
    rows = [
        {"key": keeper, "keeper": keeper, "edge": "exact"},
        {"key": lone},
        *({"key": key, "keeper": keeper, "edge": "near"} for key in others),
    ]
    shards = make_shards("dedup", rows, [("keeper", pa.string()), ("edge", pa.string())])
    (cluster,) = choose_clusters(shards, limit=5, max_members=2)
    assert cluster.keeper == keeper
    assert cluster.num_members == 4
    assert cluster.others == [(key, "near") for key in others[:2]]
