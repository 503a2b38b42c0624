"""Embeddings of added shards, crowded ones and missing ones end as comparing all with all does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks.dedup_inputs import Samples, cut_shards, write_inputs
from curate.core.seed import make_rng
from curate.stages.duplicates.cells import nearest_cells
from tests.stages.test_dedup_semantic import (
    RULES,
    Found,
    brute_force,
    crowd,
    dedup,
    set_embeddings,
)

COLUMN = "clip.image_embedding"
Shards = Mapping[str, NDArray[np.int64]]


def hide(samples: Samples, rows: Any) -> None:
    """Take the embeddings of some samples away."""
    values = samples.more[COLUMN].to_pylist()
    for row in rows:
        values[row] = None
    samples.more = {COLUMN: pa.array(values, samples.more[COLUMN].type)}


def grow(folder: Path, samples: Samples, shards: Shards, **config: Any) -> Found:
    """Add shard after shard, with a run of dedup after each; give what the last one found."""
    found: Found = {}
    for name, rows in shards.items():
        write_inputs(folder, samples, {name: rows})
        found, _ = dedup(folder, **config)
    return found


def heavy_rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "dedup" / "_heavy.parquet").to_pylist()


def many_equal(num: int) -> tuple[Samples, NDArray[np.float16]]:
    """Draw samples of which every third has one embedding, as blank pictures have."""
    samples, embeddings = crowd(num)
    blank = make_rng(9, "blank").standard_normal(32)
    embeddings[::3] = blank / np.linalg.norm(blank)
    return samples, set_embeddings(samples, embeddings)


@pytest.mark.parametrize("num_shards", [1, 4])
def test_a_crowd_of_equal_embeddings_is_one_cluster_around_the_largest_and_counted(
    tmp_path: Path, num_shards: int
) -> None:
    samples, embeddings = many_equal(60)
    shards = cut_shards(60, num_shards)  # a larger keeper comes with each
    found = grow(tmp_path, samples, shards, semantic_min_cosine=0.999)
    names = samples.names()
    equal = [n for n in range(60) if (embeddings[n] == embeddings[0]).all()]
    assert len(equal) == 20
    keeper = names[equal[-1]]
    assert {found[names[n]][1] for n in equal} == {keeper}
    assert [n for n in equal if found[names[n]][0]] == equal[-1:]
    rows = [row for row in heavy_rows(tmp_path) if row["signal"] == "semantic"]
    counts = [row["samples"] for row in rows]
    assert counts == ([16] if num_shards == 1 else [1, 6, 11, 16])  # 4 of the equal ones speak


def test_the_largest_of_a_crowd_speak_though_they_are_the_last_to_come(tmp_path: Path) -> None:
    samples, embeddings = many_equal(40)
    near = embeddings[0].astype(np.float64) + 0.2 * embeddings[1].astype(np.float64)
    embeddings[39] = near / np.linalg.norm(near)  # the largest of all, near to the crowd
    set_embeddings(samples, embeddings)
    found = grow(tmp_path, samples, cut_shards(40, 2))
    names = samples.names()
    equal = [names[n] for n in range(0, 39, 3)]
    assert {found[name] for name in equal} == {(False, names[39], "semantic")}


def test_edges_name_their_samples_where_others_have_no_embedding(tmp_path: Path) -> None:
    samples, embeddings = crowd(60)
    gone = [3, 4, 17, 25, 41]
    hide(samples, gone)
    expected = brute_force(samples, embeddings, 0.9)
    for n in gone:  # pairs are of neighbours
        for one in (n, n ^ 1):
            expected[samples.names()[one]] = (True, None, None)
    write_inputs(tmp_path, samples, cut_shards(60, 5))
    assert dedup(tmp_path)[0] == expected
    assert sum(not keep for keep, _, _ in expected.values()) > 8


@pytest.mark.parametrize("bin_entries", [20_000_000, 100])
def test_a_first_generation_without_embeddings_leaves_one_cell_for_all(
    tmp_path: Path, bin_entries: int
) -> None:
    samples, embeddings = crowd(40)
    hide(samples, range(20))
    found = grow(tmp_path, samples, cut_shards(40, 2), bin_entries=bin_entries)
    expected = brute_force(samples, embeddings, 0.9)
    for name in samples.names()[:20]:
        expected[name] = (True, None, None)
    assert found == expected
    assert np.load(tmp_path / "dedup" / "_cells.npy").shape == (0, 0)


def test_added_shards_without_kept_samples_and_dropped_ones_change_nothing(tmp_path: Path) -> None:
    samples, embeddings = crowd(60)
    shards = {**cut_shards(60, 3), "00003": np.empty(0, np.int64)}
    samples.kept[shards["00001"]] = False
    order = ("00003", "00000", "00001", "00002")
    found = grow(tmp_path, samples, {name: shards[name] for name in order})
    expected = brute_force(samples, embeddings, 0.9)
    for name in samples.names()[20:40]:
        expected[name] = (False, None, None)
    assert found == expected


@pytest.mark.parametrize(
    ("rule", "bin_entries", "num_bins"),
    [("semdedup", 20_000_000, [1, 1, 1]), ("nemo", 100, [1, 2, 4])],
)
def test_a_chain_rule_drops_what_it_drops_over_each_cell_whenever_shards_come(
    tmp_path: Path, rule: str, bin_entries: int, num_bins: list[int]
) -> None:
    samples, embeddings = crowd(120)
    embeddings[100:110] = embeddings[100]  # who of them stays is up to their keys
    set_embeddings(samples, embeddings)
    samples.files[1] = samples.files[2]  # 2 is larger, so 1 is no part of its cell
    rows = make_rng(9, "chain").permutation(120)
    parts = np.array_split(rows, 3)
    config: dict[str, Any] = {"semantic_rule": rule, "semantic_cells": 5, "phash_radius": -1}
    found: Found = {}
    for number, name in enumerate(("00002", "00000", "00001")):
        write_inputs(tmp_path, samples, {name: parts[number]})
        found, ran = dedup(tmp_path, bin_entries=bin_entries, **config)
        assert sum(task.startswith("_chain-") for task in ran) == num_bins[number]
    names = np.array(samples.names())
    centroids = np.load(tmp_path / "dedup" / "_cells.npy")
    cells = nearest_cells(embeddings, centroids, 1)[:, 0]
    expected: set[str] = set()
    for cell in range(len(centroids)):
        here = np.flatnonzero((cells == cell) & (np.arange(120) != 1))
        here = here[np.argsort(names[here])]
        removed = RULES[rule](embeddings[here], centroids[cell], 0.9)
        expected |= set(names[here[removed]].tolist())
    assert {key for key, (_, _, edge) in found.items() if edge == "semantic"} == expected
    assert {key for key, (keep, _, _) in found.items() if not keep} == expected | {names[1]}
    assert found[names[1]] == (False, names[2], "exact")
    assert len(expected) > 20
