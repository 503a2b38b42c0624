from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from eval.thumbnails import load_thumbnails, make_thumbnail


def decode(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_large_pictures_shrink_and_small_ones_keep_their_size(toy: Any):
    assert decode(make_thumbnail(toy.picture("red", 90), 30)).size == (30, 30)
    assert decode(make_thumbnail(toy.picture("red", 20), 30)).size == (20, 20)


def test_aspect_is_kept_and_never_empty():
    stream = io.BytesIO()
    Image.new("RGB", (400, 2)).save(stream, "PNG")
    assert decode(make_thumbnail(stream.getvalue(), 50)).size == (50, 1)


def test_what_does_not_decode_has_no_thumbnail(make_shards: Any, toy: Any):
    good, bad, unknown = (toy.key(name) for name in ("good", "bad", "unknown"))
    members = {good: {"jpg": toy.picture("red")}, bad: {"jpg": b"<html>"}}
    shards = make_shards("ingest", [{"key": good}, {"key": bad}], members=members)
    assert set(load_thumbnails(shards, {good, bad, unknown}, 16)) == {good}


def test_without_shards_or_tar_there_are_none(make_shards: Any, toy: Any):
    assert load_thumbnails(None, {"x"}, 16) == {}
    shards = make_shards("annotate", [{"key": toy.key("a")}])
    assert load_thumbnails(shards, {toy.key("a")}, 16) == {}
