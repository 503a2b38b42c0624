"""Bucket resizes each picture once into one bucket per shard and keeps all its captions."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.kills import snapshot
from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.errors import ConfigError, StageError
from curate.core.executor import InlineExecutor
from curate.core.geometry import Geometry
from curate.core.placement import place
from curate.core.schema import shard_name
from curate.core.shard import ShardSet
from curate.core.stage import Job
from curate.stages.bucket import PLAN
from curate.stages.bucketing.config import BucketConfig
from curate.stages.bucketing.plan import count_places, deal
from curate.stages.bucketing.write import BUCKET_SCHEMA
from tests.stages.bucket_run import (
    TEXTS,
    Sample,
    draw_picture,
    make_inputs,
    read_jsons,
    read_rows,
    run_bucket,
)


def make_many(num: int, *, seed: int = 1) -> list[list[Sample]]:
    """Make samples of many sizes in three shards, with one caption each."""
    sizes = np.random.Generator(np.random.Philox(key=seed)).integers(40, 300, (num, 2)).tolist()
    samples = [
        Sample(name=f"s{n}", size=(h, w), alt=f"alt {n}", judged=[("short", f"short {n}", "ok")])
        for n, (h, w) in enumerate(sizes)
    ]
    return [samples[start::3] for start in range(3)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), make_many(60))


CURRICULUM: dict[str, Any] = {
    "resolutions": [64, 128], "shard_size": 6, "max_crop_frac": 0.4, "image_format": "png",
}  # fmt: skip


@pytest.fixture(scope="module")
def curriculum(
    inputs: dict[str, ShardSet], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ShardSet, Any]:
    return run_bucket(inputs, tmp_path_factory.mktemp("curriculum") / "bucket", **CURRICULUM)


def test_the_columns_are_those_of_the_contract(curriculum: tuple[ShardSet, Any]) -> None:
    names = BUCKET_SCHEMA.names
    assert curriculum[0].schema("00000").names == [*names, "members"]
    assert names == [
        "key", "status", "bucket", "resolution", "height", "width", "original_height",
        "original_width", "scaled_height", "scaled_width", "crop_top", "crop_left", "box_top",
        "box_left", "box_height", "box_width", "home_shard", "home_row", "captions.source",
        "captions.text", "captions.attempt",
    ]  # fmt: skip


def test_every_shard_has_one_bucket_and_small_pictures_come_first(
    curriculum: tuple[ShardSet, Any],
) -> None:
    places: list[tuple[int, int, int]] = []
    for _, table in curriculum[0].tables():
        found = {(row["resolution"], row["height"], row["width"]) for row in table.to_pylist()}
        assert len(found) == 1
        assert len(table) <= 6
        places += found
    assert places == sorted(places)
    assert len(set(places)) > 6
    rows = [(row["bucket"], row["shard"] == row["home_shard"]) for row in read_rows(curriculum[0])]
    assert len(places) == sum(-(-num // 6) for num in Counter(rows).values())


def test_each_sample_is_once_in_every_resolution_that_it_fills(
    curriculum: tuple[ShardSet, Any],
) -> None:
    geometry = Geometry(resolutions=(64, 128), max_crop_frac=0.4)
    expected = {
        (one.key, side)
        for shard in make_many(60)
        for one in shard
        for side in (64, 128)
        if place(one.key, *one.size, geometry, side, 0).status == "ok"
    }
    rows = read_rows(curriculum[0])
    assert {(row["key"], row["resolution"]) for row in rows} == expected
    assert len(rows) == len(expected)
    assert {side for _, side in expected} == {64, 128}


def test_home_is_the_row_of_the_smallest_resolution(curriculum: tuple[ShardSet, Any]) -> None:
    rows = read_rows(curriculum[0])
    at = {(row["shard"], row["row"]): row for row in rows}
    smallest: dict[str, int] = {}
    for row in rows:
        smallest[row["key"]] = min(row["resolution"], smallest.get(row["key"], row["resolution"]))
    for row in rows:
        home = at[row["home_shard"], row["home_row"]]
        assert (home["key"], home["resolution"]) == (row["key"], smallest[row["key"]])
    assert any(row["home_shard"] != row["shard"] for row in rows)


def test_a_sample_is_counted_once_where_it_is_at_home(curriculum: tuple[ShardSet, Any]) -> None:
    counts = curriculum[1].counts
    rows = read_rows(curriculum[0])
    keys = {row["key"] for row in rows}
    assert counts["in"] == 60
    assert counts["kept"] == len(keys)
    assert counts["copies"] == len(rows) - len(keys)
    assert counts["dropped.crop_loss"] + counts["dropped.upscale"] == 60 - len(keys)
    assert counts["absent.128"] == sum(row["resolution"] == 64 for row in rows) - counts["copies"]


def test_pictures_are_the_window_of_the_original_resized(curriculum: tuple[ShardSet, Any]) -> None:
    """In one pass; as good as resizing the whole and cutting at whole pixels after it."""
    by_key = {one.key: one for shard in make_many(60) for one in shard}
    bucketed = curriculum[0]
    for shard in bucketed.shards()[::3]:
        rows = {row["key"]: row for row in bucketed.table(shard).to_pylist()}
        for key, members in bucketed.members(shard):
            row = rows[key]
            made = np.asarray(Image.open(io.BytesIO(members["png"])), np.int16)
            assert made.shape == (row["height"], row["width"], 3)
            whole = draw_picture(by_key[key])
            size = (row["scaled_width"], row["scaled_height"])
            resized = np.asarray(whole.resize(size, Image.Resampling.LANCZOS), np.int16)
            top, left = row["crop_top"], row["crop_left"]
            cut = resized[top : top + row["height"], left : left + row["width"]]
            assert np.abs(made - cut).max() <= 2  # PIL rounds between its two passes
            assert np.abs(made - cut).mean() < 0.05


class Backwards(InlineExecutor):
    """Run the tasks of a wave from the last to the first, as several workers may."""

    def run(self, stage: Any, jobs: Sequence[Job], output: Output) -> Iterator[Outcome]:
        return super().run(stage, list(reversed(jobs)), output)


def test_shards_have_the_same_bytes_in_whatever_order_they_are_made(
    inputs: dict[str, ShardSet], curriculum: tuple[ShardSet, Any], tmp_path: Path
) -> None:
    again, _ = run_bucket(inputs, tmp_path / "bucket", Backwards(), **CURRICULUM)
    assert snapshot(Path(again.url)) == snapshot(Path(curriculum[0].url))


def test_the_order_of_a_shard_is_that_of_keys_not_of_ingest(
    inputs: dict[str, ShardSet], tmp_path: Path
) -> None:
    samples = [one for shard in make_many(60) for one in shard]
    moved = make_inputs(tmp_path / "moved", [samples[:5], samples[5:]])
    options: dict[str, Any] = {"resolutions": [64], "shard_size": 8}
    one, _ = run_bucket(inputs, tmp_path / "one", **options)
    other, _ = run_bucket(moved, tmp_path / "other", **options)
    tars = [[set_.tar_path(s).read_bytes() for s in set_.shards()] for set_ in (one, other)]
    assert tars[0] == tars[1]


def test_a_larger_resolution_changes_no_shard_of_the_smaller_ones(
    inputs: dict[str, ShardSet], curriculum: tuple[ShardSet, Any], tmp_path: Path
) -> None:
    """So encode need not run again for them when a curriculum grows."""
    options = {**CURRICULUM, "resolutions": [64]}
    small, _ = run_bucket(inputs, tmp_path / "bucket", **options)
    large = curriculum[0]
    assert len(small.shards()) < len(large.shards())
    for shard in small.shards():
        assert small.digests(shard) == large.digests(shard)


def test_planning_many_pieces_deals_as_one(curriculum: tuple[ShardSet, Any]) -> None:
    """The merge may hand over rows in any pieces; what waits for its shard does not matter."""
    import pyarrow as pa

    own = curriculum[0]
    sizes = [own.table(f"_sizes-{shard_name(n)}") for n in range(3)]
    rows = pa.concat_tables(sizes).sort_by([("draw", "ascending"), ("key", "ascending")])
    rows = rows.filter(pa.array(status == "ok" for status in rows["status"].to_pylist()))
    geometry = Geometry(resolutions=(64, 128), max_crop_frac=0.4)
    counts = count_places(sizes, geometry)
    assert counts.total() == len(read_rows(own))
    whole = {t["shard"][0].as_py(): t for t in deal([rows], counts, geometry, 6)}
    singles = [rows.slice(start, 7) for start in range(0, len(rows), 7)]
    singles[2:2] = [rows.slice(0, 0)]  # a piece whose samples were all dropped
    cut = {t["shard"][0].as_py(): t for t in deal(singles, counts, geometry, 6)}
    assert whole == cut
    assert sorted(whole) == own.shards()
    planned = pq.ParquetFile(own.table_path(PLAN))
    assert planned.num_row_groups == len(whole)


def test_captions_of_any_kind_reach_the_json_and_the_table_untouched(tmp_path: Path) -> None:
    samples = [
        Sample(name=name, size=(80, 80), alt=text, judged=[("short", text, "ok")])
        for name, text in TEXTS.items()
    ]
    bucketed, _ = run_bucket(
        make_inputs(tmp_path, [samples]), tmp_path / "bucket", image_format="png"
    )
    jsons = read_jsons(bucketed)
    rows = {row["key"]: row for row in read_rows(bucketed)}
    for sample in samples:
        captions = jsons[sample.key]["captions"]
        assert [(one["source"], one["text"]) for one in captions] == [
            ("alt", sample.alt),
            ("short", sample.alt),
        ]
        assert rows[sample.key]["captions.text"] == [sample.alt, sample.alt]
        assert rows[sample.key]["captions.attempt"] == [one["attempt"] for one in captions]
        assert captions[0]["attempt"] == ""
        assert len(captions[1]["attempt"]) == 20


def test_rejected_captions_stay_out_and_second_ones_get_a_name_of_their_own(
    tmp_path: Path,
) -> None:
    judged = [("short", "one", "ok"), ("short", "no", "refusal"), ("short", "two", "ok"),
              ("tags", "a, b", "too_short"), ("alternate_1", "of a copy", "ok")]  # fmt: skip
    samples = [
        Sample(name="full", size=(80, 80), judged=judged),
        Sample(name="bare", size=(80, 80), alt=None, judged=[("short", "no", "empty")]),
    ]
    bucketed, _ = run_bucket(make_inputs(tmp_path, [samples]), tmp_path / "bucket")
    texts = {
        row["key"]: dict(zip(row["captions.source"], row["captions.text"], strict=True))
        for row in read_rows(bucketed)
    }
    assert texts[samples[0].key] == {
        "alt": "an alt text", "short": "one", "short_2": "two", "alternate_1": "of a copy",
    }  # fmt: skip
    assert texts[samples[1].key] == {"alt": ""}


def test_without_a_judge_alt_texts_and_those_of_duplicates_are_the_captions(
    tmp_path: Path,
) -> None:
    samples = [
        Sample(name="a", size=(80, 80), alternates=["of a copy", "of another"]),
        Sample(name="b", size=(80, 80), judged=[("short", "unseen", "ok")]),
        Sample(name="c", size=(80, 80), kept=False),
    ]
    inputs = make_inputs(tmp_path, [samples], with_judge=False)
    bucketed, report = run_bucket(inputs, tmp_path / "bucket")
    assert report.counts == {"in": 2, "kept": 2}
    sources = {row["key"]: row["captions.source"] for row in read_rows(bucketed)}
    assert sources == {
        samples[0].key: ["alt", "alternate_1", "alternate_2"], samples[1].key: ["alt"],
    }  # fmt: skip


def test_pictures_below_every_bucket_are_dropped_with_the_enlargement_they_need(
    tmp_path: Path,
) -> None:
    samples = [
        Sample(name="small", size=(32, 32)),
        Sample(name="thin", size=(64, 640)),
        Sample(name="fits", size=(64, 64)),
    ]
    inputs = make_inputs(tmp_path, [samples])
    bucketed, report = run_bucket(inputs, tmp_path / "bucket")
    assert report.counts == {"in": 3, "kept": 1, "dropped.upscale": 1, "dropped.crop_loss": 1}
    sizes = {row["key"]: row for row in bucketed.table("_sizes-00000").to_pylist()}
    small, thin = sizes[samples[0].key], sizes[samples[1].key]
    assert (small["status"], small["score"], small["threshold"]) == ("upscale", 2.0, "<= 1")
    assert thin["status"] == "crop_loss"
    assert thin["score"] == pytest.approx(1 - (80 / 48) / 10)
    allowed, _ = run_bucket(inputs, tmp_path / "allowed", max_upscale=2.0)
    assert {row["key"] for row in read_rows(allowed)} == {samples[0].key, samples[2].key}


def test_an_empty_result_says_why(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "small", [[Sample(name="small", size=(32, 32))]])
    with pytest.raises(StageError, match=r"got none of 1 \(1 upscale\); choose smaller"):
        run_bucket(inputs, tmp_path / "bucket")
    nothing = make_inputs(tmp_path / "none", [[Sample(name="x", size=(64, 64), kept=False)]])
    with pytest.raises(StageError, match="needs kept samples, got none; loosen"):
        run_bucket(nothing, tmp_path / "other")


def test_equal_inputs_run_nothing_and_another_caption_is_taken_over(tmp_path: Path) -> None:
    shards = make_many(30)
    options: dict[str, Any] = {"resolutions": [64], "shard_size": 4, "max_upscale": 4.0}
    first, _ = run_bucket(make_inputs(tmp_path / "one", shards[:1]), tmp_path / "a", **options)
    inputs = make_inputs(tmp_path / "again", shards[:1])
    _, same = run_bucket(inputs, tmp_path / "a", **options)
    assert same.num_run == 0
    shards[0][0] = dataclasses.replace(shards[0][0], judged=[("short", "another", "ok")])
    changed = make_inputs(tmp_path / "changed", shards[:1])
    run_bucket(changed, tmp_path / "a", **options)
    assert read_jsons(first)[shards[0][0].key]["captions"][1]["text"] == "another"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"filter": "nearest"}, r"bucket\.filter: must be of lanczos"),
        ({"image_format": "gif"}, r"bucket\.image_format: must be of png, webp, jpg"),
        ({"quality": 0}, r"bucket\.image_format: .*quality 1\.\.100"),
        ({"shard_size": 0}, r"bucket\.shard_size: must be >= 1, got 0"),
        ({"rule": "custom", "custom": ["64x68"]}, r"bucket\.custom: .*step_px 8, got 64x68"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BucketConfig(**fields)
