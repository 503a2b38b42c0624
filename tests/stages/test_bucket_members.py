"""A bucket shard's members are what its config asks for, and other readers see the same in them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.core.image import resize_box
from tests.stages.bucket_run import (
    TEXTS,
    Sample,
    draw_picture,
    make_inputs,
    read_rows,
    run_bucket,
)


def test_a_caption_member_falls_back_to_the_alt_text(tmp_path: Path) -> None:
    samples = [
        Sample(name="a", size=(80, 80), judged=[("short", "a short one", "ok")]),
        Sample(name="b", size=(80, 80), alt="its alt", judged=[("short", "no", "refusal")]),
    ]
    inputs = make_inputs(tmp_path, [samples])
    bucketed, _ = run_bucket(inputs, tmp_path / "bucket", txt="short", image_format="jpg")
    found = dict(bucketed.members("00000"))
    assert {key: members["txt"] for key, members in found.items()} == {
        samples[0].key: b"a short one",
        samples[1].key: b"its alt",
    }
    assert {tuple(members) for members in found.values()} == {("jpg", "json", "txt")}


@pytest.mark.parametrize("name", ["lanczos", "bicubic", "area", "hamming", "bilinear"])
def test_each_named_filter_is_pils(name: str, tmp_path: Path) -> None:
    sample = Sample(name="a", size=(150, 210))
    inputs = make_inputs(tmp_path, [[sample]])
    bucketed, _ = run_bucket(inputs, tmp_path / "bucket", image_format="png", filter=name)
    row = read_rows(bucketed)[0]
    image = Image.open(io.BytesIO(dict(bucketed.members("00000"))[sample.key]["png"]))
    box = (row["box_left"], row["box_top"], row["box_left"] + row["box_width"],
           row["box_top"] + row["box_height"])  # fmt: skip
    filters = {"area": Image.Resampling.BOX}
    chosen = filters.get(name) or Image.Resampling[name.upper()]
    expected = draw_picture(sample).resize((row["width"], row["height"]), chosen, box=box)
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_a_window_may_end_on_the_edge_whatever_rounding_says() -> None:
    image = Image.new("RGB", (101, 77))
    assert resize_box(image, (0.0, 1e-13, 77.0, 101.0), 64, 64).size == (64, 64)


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
def test_formats_differ_in_bytes_and_not_in_what_they_show(
    image_format: str, tmp_path: Path
) -> None:
    sample = Sample(name="a", size=(90, 120))
    inputs = make_inputs(tmp_path, [[sample]])
    bucketed, _ = run_bucket(inputs, tmp_path / "bucket", image_format=image_format, quality=100)
    members = dict(bucketed.members("00000"))[sample.key]
    shown = np.asarray(Image.open(io.BytesIO(members[image_format])).convert("RGB"), int)
    lossless, _ = run_bucket(inputs, tmp_path / "png", image_format="png")
    exact = dict(lossless.members("00000"))[sample.key]["png"]
    difference = np.abs(shown - np.asarray(Image.open(io.BytesIO(exact)), int))
    assert difference.max() <= (0 if image_format != "jpg" else 6)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open tars of both
def test_webdataset_and_datasets_read_the_same_samples(tmp_path: Path) -> None:
    """Keys, JSON fields and pixels; the shard is read as its users would read it."""
    import datasets
    import webdataset

    samples = [
        Sample(name=str(n), size=(64 + 3 * n, 90), alt=None if n == 3 else f"alt {n}",
               judged=[("short", text, "ok")] if n % 2 else [])
        for n, text in enumerate(TEXTS.values())
    ]  # fmt: skip
    inputs = make_inputs(tmp_path / "inputs", [samples])
    bucketed, _ = run_bucket(
        inputs, tmp_path / "bucket", resolutions=[64], txt="short", image_format="webp"
    )
    datasets.disable_progress_bars()
    for shard in bucketed.shards():
        path = str(bucketed.tar_path(shard))
        reader = webdataset.WebDataset(path, shardshuffle=False, empty_check=False)
        by_web = {one["__key__"]: one for one in reader.decode("rgb8")}
        loaded: Any = datasets.load_dataset(
            "webdataset", data_files={"train": path}, split="train", cache_dir=str(tmp_path / "hf")
        )
        assert {one["__key__"] for one in loaded} == by_web.keys()
        assert set(loaded.column_names) == {"__key__", "__url__", "webp", "json", "txt"}
        for one in loaded:
            web = by_web[one["__key__"]]
            assert set(web) - {"__local_path__"} == set(one)
            assert one["json"] == web["json"] == json.loads(json.dumps(web["json"]))
            assert one["txt"] == web["txt"]
            assert np.array_equal(np.asarray(one["webp"].convert("RGB")), web["webp"])
