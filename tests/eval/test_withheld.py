"""Of what blocklist did not let pass, the report shows neither picture nor caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.core.shard import ShardSet
from curate.core.withheld import UNJUDGED, find_withheld, find_withheld_texts, may_be_shown
from eval.funnel import measure_funnel
from eval.gallery import open_gallery
from eval.report_repeats import find_repeats

STATUSES = {
    "fine": "ok", "failed": "timeout", "harm": "blocked", "owned": "opted_out_hash",
    "plain": "held_low_quality", "blind": "held_unmeasured",
}  # fmt: skip
HIDDEN = {"harm", "owned", "plain", "blind"}


@pytest.fixture
def blocklist(make_shards: Any, toy: Any) -> ShardSet:
    rows = [{"key": toy.key(name), "status": status} for name, status in STATUSES.items()]
    counts = {"in": 6, "kept": 1, "failed.timeout": 1, "dropped.blocked": 1,
              "dropped.opted_out_hash": 1, "dropped.held_low_quality": 1,
              "dropped.held_unmeasured": 1}  # fmt: skip
    return make_shards("blocklist", rows, counts=counts)


@pytest.fixture
def ingest(make_shards: Any, toy: Any) -> ShardSet:
    names = (*STATUSES, "unjudged")
    return make_shards(
        "ingest",
        [{"key": toy.key(n), "caption": f"words of {n}", "url": f"http://a/{n}"} for n in names],
        [("caption", pa.string()), ("url", pa.string())],
        members={toy.key(name): {"png": toy.picture("red")} for name in names},
    )


def test_hits_held_and_unjudged_samples_have_neither_thumbnail_nor_caption(
    ingest: ShardSet, blocklist: ShardSet, toy: Any
) -> None:
    keys = {name: toy.key(name) for name in (*STATUSES, "unjudged")}
    gallery = open_gallery(ingest, None, list(keys.values()), 16, blocklist)
    views = {name: gallery.view(key) for name, key in keys.items()}
    assert {name for name, view in views.items() if view.uri} == {"fine", "failed"}
    assert {name for name, view in views.items() if view.caption} == {"fine", "failed"}
    assert views["harm"].absence == "not shown: blocked"
    assert views["unjudged"].absence == f"not shown: {UNJUDGED}"
    assert open_gallery(ingest, None, [keys["harm"]], 16).uris  # a pipeline without the stage


def test_only_judged_and_passed_rows_may_be_shown(
    ingest: ShardSet, blocklist: ShardSet, toy: Any
) -> None:
    table = ingest.table("00000", ["key"])
    shown = set(may_be_shown(table, blocklist, "00000")["key"].to_pylist())
    assert shown == {toy.key("fine"), toy.key("failed")}
    assert may_be_shown(table, blocklist, "00001").num_rows == 0
    assert may_be_shown(table, None, "00001").num_rows == len(STATUSES) + 1


def test_withheld_keys_urls_and_captions_are_those_of_the_verdicts(
    ingest: ShardSet, blocklist: ShardSet, toy: Any
) -> None:
    keys = {toy.key(name): name for name in STATUSES}
    assert {keys[key] for key in find_withheld(blocklist, keys)} == HIDDEN
    assert find_withheld(None, keys) == {}
    urls = find_withheld_texts(blocklist, ingest, "url")
    assert urls == {f"http://a/{name}" for name in (*HIDDEN, "unjudged")}
    captions = find_withheld_texts(blocklist, ingest, "caption")
    assert captions == {f"words of {name}" for name in (*HIDDEN, "unjudged")}
    assert find_withheld_texts(None, ingest, "url") == set()


def test_a_sample_that_passed_elsewhere_stays_withheld(make_shards: Any, toy: Any) -> None:
    harm, fine = toy.key("harm"), toy.key("fine")
    rows = [{"key": harm, "status": status} for status in ("ok", "blocked", "ok")]
    rows += [{"key": fine, "status": "ok"}] * 2
    judged = make_shards("blocklist", rows, unique_keys=False)
    assert find_withheld(judged, {harm, fine}) == {harm: "blocked"}


@pytest.mark.parametrize("reason", [status for name, status in STATUSES.items() if name in HIDDEN])
def test_one_sample_of_any_reason_withholds_its_caption(
    make_shards: Any, ingest: ShardSet, toy: Any, reason: str
) -> None:
    rows = [{"key": toy.key(name), "status": "ok"} for name in (*STATUSES, "unjudged")]
    rows[0]["status"] = reason
    counts = {"in": 7, "kept": 6, f"dropped.{reason}": 1}
    judged = make_shards("blocklist", rows, counts=counts)
    assert find_withheld_texts(judged, ingest, "caption") == {"words of fine"}


def test_white_space_around_a_caption_does_not_hide_it_from_being_withheld(
    make_shards: Any, toy: Any
) -> None:
    rows = [
        {"key": toy.key("harm"), "caption": " its words\n"},
        {"key": toy.key("o"), "caption": " "},
    ]
    ingest = make_shards("ingest", rows, [("caption", pa.string())])
    hit = [{"key": toy.key("harm"), "status": "blocked"}]
    judged = make_shards("blocklist", hit, counts={"in": 1, "dropped.blocked": 1})
    assert find_withheld_texts(judged, ingest, "caption") == {"its words"}


def test_the_captions_of_a_shard_that_was_not_judged_are_withheld(
    ingest: ShardSet, tmp_path: Path
) -> None:
    judged = ShardSet(tmp_path / "blocklist")  # has not begun
    assert len(find_withheld_texts(judged, ingest, "caption")) == len(STATUSES) + 1


def test_a_repeated_caption_of_a_hit_is_not_shown(
    make_shards: Any, blocklist: ShardSet, ingest: ShardSet, toy: Any
) -> None:
    names = [f"repeats.{name}" for name in ("pictures", "captions", "hosts", "texts")]
    columns = [(name, pa.int32()) for name in names]
    rows = [{"key": toy.key(name), **dict.fromkeys(names, 5)} for name in STATUSES]
    looks = [{"key": toy.key(n), "phash.phash": i} for i, n in enumerate(STATUSES)]
    inputs = {
        "ingest": ingest,
        "annotate": make_shards("annotate", looks, [("phash.phash", pa.uint64())]),
        "repeats": make_shards("repeats", rows, columns),
    }
    found = find_repeats({**inputs, "blocklist": blocklist}, 10, 10)
    assert {caption.text for caption in found.captions} == {"words of fine", "words of failed"}
    assert {picture.key for picture in found.pictures} == {toy.key("fine"), toy.key("failed")}
    assert len(find_repeats(inputs, 10, 10).captions) == len(STATUSES)


def test_the_funnel_counts_a_hit_where_it_was_dropped_and_once(
    make_shards: Any, blocklist: ShardSet
) -> None:
    filtered = make_shards(
        "filter",
        [],
        counts={"in": 6, "kept": 1, "failed.timeout": 1, "failed.blocked": 1,
                "failed.opted_out_hash": 1, "failed.held_low_quality": 1,
                "failed.held_unmeasured": 1},
    )  # fmt: skip
    first, second = measure_funnel({"blocklist": blocklist, "filter": filtered})
    assert (first.num_in, first.num_kept, sum(first.dropped.values())) == (6, 1, 4)
    assert (second.num_in, second.num_kept, second.dropped, second.failed) == (1, 1, {}, {})
