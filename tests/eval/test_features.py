from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ShardError
from curate.core.shard import ShardSet
from eval.features import (
    choose_keys,
    embed_images,
    embed_texts,
    iterate_pictures,
    rank_keys,
    resize_to,
)
from tests.stages.bucket_run import make_bucket_run, read_rows


def test_pictures_come_decoded_and_only_those_asked_for(make_shards: Any, toy: Any):
    keys = [toy.key(name) for name in "abc"]
    shards = make_shards(
        "sample",
        [{"key": key} for key in keys],
        members={key: {"png": toy.picture("red", 8)} for key in keys},
    )
    found = list(iterate_pictures(shards, keys[1:]))
    assert [picture.key for picture in found] == keys[1:]
    assert found[0].image.size == (8, 8)
    assert found[0].extension == "png"


def test_a_sample_at_several_resolutions_is_read_once_at_the_largest(tmp_path: Path):
    shards = ShardSet(make_bucket_run(tmp_path) / "bucket")
    rows = read_rows(shards)
    keys = choose_keys(shards, 100, seed=0)
    assert sorted(keys) == sorted({row["key"] for row in rows})
    assert len(keys) < len(rows)
    largest = {row["key"]: (row["width"], row["height"]) for row in rows}  # the last one stays
    assert {one.key: one.image.size for one in iterate_pictures(shards, keys)} == largest


@pytest.mark.parametrize("members", [{}, {"txt": b"words"}, {"png": b"no picture"}])
def test_a_missing_or_broken_picture_is_an_error(
    make_shards: Any, toy: Any, members: dict[str, bytes]
):
    key = toy.key("a")
    shards = make_shards("sample", [{"key": key}], members={key: members})
    with pytest.raises(ShardError, match="picture"):
        list(iterate_pictures(shards, [key]))


def test_embeddings_do_not_depend_on_the_batch_size(color_model: Any):
    images = [Image.new("RGB", (4, 4), (index * 20, 90, 7)) for index in range(7)]
    whole = embed_images(images, color_model, 64)
    np.testing.assert_array_equal(embed_images(images, color_model, 2), whole)
    assert embed_images([], color_model, 2).shape == (0, 3)


def test_equal_texts_get_equal_embeddings_in_order(color_model: Any):
    found = embed_texts(["red", "blue", "red"], color_model, 1)
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0][0] > found[1][0]


def test_chosen_keys_depend_on_the_seed_and_leave_failures_out(make_shards: Any, toy: Any):
    rows = [{"key": toy.key(str(i)), "status": "ok" if i % 2 else "failed"} for i in range(40)]
    shards = make_shards("bucket", rows)
    chosen = choose_keys(shards, 5, seed=0)
    assert len(chosen) == 5
    assert set(chosen) <= {row["key"] for row in rows if row["status"] == "ok"}
    assert chosen == choose_keys(shards, 5, seed=0) != choose_keys(shards, 5, seed=1)


def test_rank_does_not_depend_on_the_order_given():
    keys = [str(i) for i in range(20)]
    assert rank_keys(keys, 0) == rank_keys(keys[::-1], 0)


def test_resize_takes_height_before_width():
    image = Image.new("RGB", (10, 20))
    assert resize_to(image, (8, 4)).size == (4, 8)
    assert resize_to(image, None) is image
