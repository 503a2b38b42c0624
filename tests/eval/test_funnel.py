from __future__ import annotations

from typing import Any

from eval.funnel import measure_funnel


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
