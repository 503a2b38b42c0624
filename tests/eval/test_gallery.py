"""Unsafe and unmeasured pictures have no thumbnail; the frame says so."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from eval.gallery import find_hidden, open_gallery


def _annotate(make_shards: Any, toy: Any, **columns: dict[str, float | None]) -> Any:
    """Side tables with the scores: column (`_` for the dot) -> name of the picture -> score."""
    names = dict.fromkeys(name for scores in columns.values() for name in scores)
    dotted = {column.replace("_", "."): scores for column, scores in columns.items()}
    rows = [
        {"key": toy.key(name), **{column: scores[name] for column, scores in dotted.items()}}
        for name in names
    ]
    return make_shards("annotate", rows, [(column, pa.float32()) for column in dotted])


def test_a_picture_above_the_threshold_or_unmeasured_is_not_shown(make_shards: Any, toy: Any):
    scores = {"safe": 0.1, "edge": 0.5, "unsafe": 0.51, "null": None, "nan": math.nan}
    keys = {name: toy.key(name) for name in (*scores, "no row")}
    ingest = make_shards(
        "ingest",
        [{"key": key, "caption": name} for name, key in keys.items()],
        [("caption", pa.string())],
        members={key: {"png": toy.picture("red")} for key in keys.values()},
    )
    annotate = _annotate(make_shards, toy, nsfw_score=scores)
    gallery = open_gallery(ingest, annotate, list(keys.values()), 16)
    views = {name: gallery.view(key) for name, key in keys.items()}
    assert {name for name, view in views.items() if view.uri} == {"safe", "edge"}
    assert views["unsafe"].absence == "not shown: nsfw"
    assert {views[name].absence for name in ("null", "nan", "no row")} == {
        "not shown: not measured"
    }
    assert views["unsafe"].caption == "unsafe"


def test_nudenet_hides_what_it_finds_beside_the_other_score(make_shards: Any, toy: Any):
    annotate = _annotate(
        make_shards,
        toy,
        nsfw_score={"safe": 0.1, "seen by nudenet": 0.1, "unmeasured": 0.1, "both": None},
        nudenet_score={"safe": 0.25, "seen by nudenet": 0.26, "unmeasured": None, "both": 0.9},
    )
    names = ("safe", "seen by nudenet", "unmeasured", "both")
    hidden = find_hidden(annotate, [toy.key(name) for name in names])
    assert {name: hidden.get(toy.key(name)) for name in names} == {
        "safe": None,
        "seen by nudenet": "not shown: nsfw",
        "unmeasured": "not shown: not measured",
        "both": "not shown: nsfw",
    }


def test_without_the_measurement_nothing_is_hidden(make_shards: Any, toy: Any):
    annotate = make_shards("annotate", [{"key": toy.key("a")}])
    assert find_hidden(annotate, [toy.key("a")]) == {}
    assert find_hidden(None, [toy.key("a")]) == {}
