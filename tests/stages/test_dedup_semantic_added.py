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
from curate.core.errors import DataError
from curate.core.seed import derive_seed, make_rng
from curate.stages.duplicates import semantic
from curate.stages.duplicates.cells import count_sample, fit_cells, nearest_cells
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


def test_a_shard_without_embeddings_is_spread_beside_others(tmp_path: Path) -> None:
    samples, embeddings = crowd(60)
    hide(samples, range(20, 40))
    write_inputs(tmp_path, samples, cut_shards(60, 3))
    found, ran = dedup(tmp_path)
    assert [task for task in ran if task.startswith("_spread")] == ["_spread-000-00000"]
    expected = brute_force(samples, embeddings, 0.9)
    expected |= dict.fromkeys(samples.names()[20:40], (True, None, None))
    assert found == expected


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


@pytest.mark.parametrize("norm", [0.992, 1.008])
def test_old_samples_near_a_new_one_are_found_whatever_the_norms_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: float
) -> None:
    monkeypatch.setattr(semantic, "_OLD_ROWS", 7)
    monkeypatch.setattr(semantic, "_FRESH_ROWS", 5)
    samples, embeddings = crowd(120)
    embeddings = set_embeddings(samples, embeddings * np.float16(norm))
    shards = {
        "00000": np.arange(0, 120, 2),
        "00001": np.arange(1, 120, 2),
    }  # a pair has one of each
    expected = brute_force(samples, embeddings, 0.9)
    wide = embeddings.astype(np.float64)
    products = np.einsum("nd,nd->n", wide[::2], wide[1::2])
    found = grow(tmp_path, samples, shards)
    assert found == expected
    assert norm > 1 or ((products < 0.9) & (products > 0.88)).any()  # below it but for their norms


def test_a_shard_of_one_sample_finds_its_pair_in_its_few_cells(tmp_path: Path) -> None:
    samples, embeddings = crowd(120)
    shards = {"00000": np.arange(114), **{f"{n:05d}": np.array([n]) for n in (114, 11, 117)}}
    embeddings[[114, 117]] = embeddings[[3, 80]]
    embeddings = set_embeddings(samples, embeddings)
    shards["00000"] = np.delete(shards["00000"], 11)
    found = grow(tmp_path, samples, shards, semantic_cells=12)
    expected = brute_force(samples, embeddings, 0.9)
    for key in {*samples.names()} - found.keys():
        assert expected.pop(key) == (True, None, None)
    assert found == expected
    assert found[samples.names()[80]] == (False, samples.names()[117], "semantic")


def test_cells_belong_to_the_samples_however_they_are_cut(tmp_path: Path) -> None:
    samples, embeddings = crowd(240)
    order = make_rng(10, "cells").permutation(240)
    draws = np.array([derive_seed(0, "cells", key) for key in samples.names()], np.uint64)
    expected = fit_cells(embeddings[np.argsort(draws)[: count_sample(2)]], 2, seed=0)
    for number in (1, 2, 7):
        folder = tmp_path / str(number)
        shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(order, number))}
        write_inputs(folder, samples, shards)
        dedup(folder, semantic_cells=2, phash_radius=-1)
        assert np.load(folder / "dedup" / "_cells.npy").tolist() == expected.tolist()


def test_cells_of_a_few_samples_are_chosen_anew_when_many_come(tmp_path: Path) -> None:
    samples, embeddings = crowd(120)
    rows = make_rng(11, "many").permutation(120)
    parts = {"00001": rows[:4], "00002": rows[4:60], "00000": rows[60:110], "00003": rows[110:]}
    config: dict[str, Any] = {"semantic_cells": 9, "phash_radius": -1}
    found: Found = {}
    for number, (name, part) in enumerate(parts.items()):
        write_inputs(tmp_path, samples, {name: part})
        found, ran = dedup(tmp_path, **config)
        spread = {task.split("-")[1] for task in ran if task.startswith("_spread")}
        expected = [{"000"}, {"001"}, {"000", "001", "002"}, {"003"}]  # 4, 60, 110 and 120
        assert spread == expected[number]
        assert len(np.load(tmp_path / "dedup" / "_cells.npy")) == (4 if number < 2 else 9)
    assert found == brute_force(samples, embeddings, 0.9)


def test_embeddings_of_several_lengths_are_refused(tmp_path: Path) -> None:
    samples, embeddings = crowd(4)
    lists: list[list[float]] = embeddings.tolist()
    lists[1] = [*lists[1], 0.0]
    lists[2] = lists[2][:-1]
    samples.more = {COLUMN: pa.array(lists, pa.list_(pa.float32()))}
    write_inputs(tmp_path, samples, cut_shards(4, 1))
    with pytest.raises(DataError, match=r"of shard 00000 must have vectors of one length"):
        dedup(tmp_path)


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
    chained = pq.read_table(tmp_path / "dedup" / "_chained.parquet")
    assert chained.sort_by([("shard", "ascending"), ("key", "ascending")]).equals(chained)
    assert sorted(chained["key"].to_pylist()) == sorted(expected)  # each in one bin
    assert len(expected) > 20
