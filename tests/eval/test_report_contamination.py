"""The page says what of each benchmark was found, and shows samples that met a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.core.shard import ShardSet
from eval.gallery import Gallery
from eval.report_contamination import (
    ContaminationRow,
    FoundCopy,
    choose_copies,
    measure_contamination,
    view_copies,
)

SUMMARY = {
    "benchmark": "coco", "pictures": 40, "unreadable": 0, "prompts": 60, "wordless": 0,
    "pictures_met": 3, "prompts_met": 2, "samples": 9, "dropped": 5,
    "kinds": {"pdq": {"items": 3, "samples": 4, "dropped": 4},
              "ngram": {"items": 2, "samples": 5, "dropped": 1}},
}  # fmt: skip


def test_a_benchmark_has_a_row_of_its_own_and_one_for_each_kind(tmp_path: Path) -> None:
    (tmp_path / "_items-coco.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "_items-coco.done.json").write_text("{}")
    assert measure_contamination(ShardSet(tmp_path)) == [
        ContaminationRow(
            benchmark="coco", kind="", num_items=100, num_met=5, num_dropped=5, num_flagged=4
        ),
        ContaminationRow(
            benchmark="coco", kind="PDQ hash", num_items=None, num_met=3,
            num_dropped=4, num_flagged=0,
        ),
        ContaminationRow(
            benchmark="coco", kind="caption holds a prompt's words", num_items=None, num_met=2,
            num_dropped=1, num_flagged=4,
        ),
    ]  # fmt: skip
    assert measure_contamination(None) == []


def test_samples_that_met_a_picture_are_shown_with_what_they_met(make_shards: Any, toy: Any):
    facts = [("benchmark", pa.string()), ("item", pa.string()), ("kind", pa.string()),
             ("distance", pa.float32())]  # fmt: skip
    met = {"benchmark": "coco", "item": "7.jpg"}
    rows = [
        {"key": toy.key("near"), **met, "kind": "pdq", "distance": 12.0},
        {"key": toy.key("text"), **met, "kind": "exact", "distance": 0.0},
        {"key": toy.key("clean")},
    ]
    (copy,) = choose_copies(make_shards("decontaminate", rows, facts), 10)
    assert copy == FoundCopy(
        key=toy.key("near"), benchmark="coco", item="7.jpg", kind="pdq", distance=12.0
    )
    (view,) = view_copies([copy], Gallery(uris={copy.key: "data:x"}, captions={}))
    assert (view.uri, view.mark) == ("data:x", "coco: 7.jpg")
    assert view.detail == "PDQ hash, 12 away"
