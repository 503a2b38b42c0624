"""Unsafe pictures have no thumbnail; the frame says so."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eval.gallery import find_hidden, open_gallery


def test_a_picture_above_the_threshold_is_not_shown(make_shards: Any, toy: Any):
    scores = {"safe": 0.1, "edge": 0.5, "unsafe": 0.51, "unmeasured": None}
    keys = {name: toy.key(name) for name in scores}
    ingest = make_shards(
        "ingest",
        [{"key": key, "caption": name} for name, key in keys.items()],
        [("caption", pa.string())],
        members={key: {"png": toy.picture("red")} for key in keys.values()},
    )
    rows = [{"key": keys[name], "nsfw.score": score} for name, score in scores.items()]
    annotate = make_shards("annotate", rows, [("nsfw.score", pa.float32())])
    gallery = open_gallery(ingest, annotate, list(keys.values()), 16)
    views = {name: gallery.view(key) for name, key in keys.items()}
    assert {name for name, view in views.items() if not view.uri} == {"unsafe"}
    assert views["unsafe"].absence == "not shown: nsfw"
    assert views["unsafe"].caption == "unsafe"


def test_without_the_measurement_nothing_is_hidden(make_shards: Any, toy: Any):
    annotate = make_shards("annotate", [{"key": toy.key("a")}])
    assert find_hidden(annotate, [toy.key("a")]) == set()
    assert find_hidden(None, [toy.key("a")]) == set()
