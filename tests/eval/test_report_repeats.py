"""The most repeated pictures and captions are each shown once."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eval.gallery import Gallery
from eval.report_repeats import Repeats, find_repeats, view_repeats

COUNTS = [(f"repeats.{name}", pa.int32()) for name in ("pictures", "captions", "hosts", "texts")]


def make_inputs(make_shards: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    def part(*names: str) -> list[dict[str, Any]]:
        return [{name: row.get(name) for name in ("key", *names)} for row in rows]

    return {
        "ingest": make_shards("ingest", part("caption"), [("caption", pa.string())]),
        "annotate": make_shards("annotate", part("phash.phash"), [("phash.phash", pa.uint64())]),
        "repeats": make_shards("repeats", part(*(name for name, _ in COUNTS)), COUNTS),
    }


def row(toy: Any, name: str, look: int | None, caption: str, *counts: int) -> dict[str, Any]:
    values = dict(zip((name for name, _ in COUNTS), counts, strict=True))
    return {"key": toy.key(name), "phash.phash": look, "caption": caption, **values}


def test_placeholders_come_first_and_once(make_shards: Any, toy: Any):
    rows = [
        row(toy, "gone 1", 7, "a cat", 3, 3, 2, 1),
        row(toy, "gone 2", 7, "a dog", 3, 3, 2, 1),
        row(toy, "gone 3", 7, "a cow", 3, 3, 2, 1),
        *(row(toy, f"popular {i}", 9, "Big  Ben", 4, 1, 4, 4) for i in range(4)),
        row(toy, "lone", 11, "a tree", 1, 1, 1, 1),
    ]
    found = find_repeats(make_inputs(make_shards, rows), 10, 10)
    counts = [(p.num_samples, p.num_captions, p.num_hosts) for p in found.pictures]
    assert counts == [(3, 3, 2), (4, 1, 4)]
    assert found.pictures[0].key == min(toy.key(f"gone {i}") for i in (1, 2, 3))
    assert [(c.text, c.num_samples) for c in found.captions] == [("Big  Ben", 4)]


def test_captions_that_differ_in_case_and_space_are_one(make_shards: Any, toy: Any):
    texts = ("Stock Photo", "stock  photo", "stock photo ")
    rows = [row(toy, text, None, text, 1, 1, 1, 3) for text in texts]
    (caption,) = find_repeats(make_inputs(make_shards, rows), 10, 10).captions
    assert (caption.text, caption.num_samples) == ("Stock Photo", 3)


def test_only_so_many_are_found(make_shards: Any, toy: Any):
    rows = [
        row(toy, f"{look}", look, f"caption {look}", look + 2, look + 1, 1, look + 2)
        for look in range(9)
    ]
    found = find_repeats(make_inputs(make_shards, rows), 2, 3)
    assert [picture.num_captions for picture in found.pictures] == [9, 8]
    assert [caption.num_samples for caption in found.captions] == [10, 9, 8]


def test_without_the_stage_there_is_nothing(make_shards: Any, toy: Any):
    assert find_repeats({}, 5, 5) == Repeats()
    assert view_repeats(Repeats(), Gallery(uris={}, captions={})) is None
