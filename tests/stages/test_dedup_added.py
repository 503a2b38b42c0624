"""Shards that come, change, empty or go later leave what one run over all of them leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.dedup_inputs import Samples, cut_shards, draw_samples, open_inputs, write_inputs
from curate.core.commit import Output, commit
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.stage import identify
from curate.core.store import LocalStore
from curate.stages.dedup import DedupConfig, DedupStage
from curate.stages.duplicates import generations
from curate.stages.duplicates.generations import plan_generations
from tests.stages.test_dedup import (
    CutShort,
    Shards,
    brute_force,
    crowd,
    grow,
    heavy,
    keepers,
    run,
    tables,
    verdicts,
)

INPUTS = ("filter", "annotate", "ingest")


def whole(folder: Path, samples: Samples, shards: Shards, **config: Any) -> dict[str, bytes]:
    """Give the verdicts' files of one run over all shards."""
    write_inputs(folder, samples, shards)
    run(folder, folder / "dedup", **config)
    return tables(folder / "dedup")


def one_by_one(shards: Shards) -> list[Shards]:
    return [{name: rows} for name, rows in shards.items()]


def known(folder: Path) -> list[list[str]]:
    """List the shards of each generation that is written down."""
    paths = sorted((folder / "dedup").glob("_generation-*.parquet"))
    return [pq.read_table(path)["shard"].to_pylist() for path in paths]


def take_out(folder: Path, shard: str) -> None:
    for name in INPUTS:
        (folder / name / f"{shard}.done.json").unlink()


EMPTY: Any = np.empty(0, np.int64)


@pytest.mark.parametrize("order", [("00000", "00001"), ("00001", "00000")])
@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_shard_without_kept_samples_adds_nothing(
    tmp_path: Path, order: Sequence[str], is_dropped: bool
) -> None:
    samples = crowd(40)
    shards = cut_shards(40, 2)
    samples.kept[shards["00001"]] = False  # filter left none of its samples
    if not is_dropped:
        shards["00001"] = EMPTY
    steps = [{name: shards[name]} for name in order]
    assert all(grow(tmp_path / "grown", samples, steps))
    assert tables(tmp_path / "grown" / "dedup") == whole(tmp_path / "whole", samples, shards)
    found = keepers(verdicts(tmp_path / "grown" / "dedup"))
    assert found == brute_force(samples)
    assert len(found) > 8


def test_a_shard_that_was_taken_down_makes_its_generation_and_later_ones_anew(
    tmp_path: Path,
) -> None:
    samples, shards = crowd(80), cut_shards(80, 4)
    grow(tmp_path / "grown", samples, one_by_one(shards))
    before = keepers(verdicts(tmp_path / "grown" / "dedup"))
    lost = [key for key in set(before.values()) if key in samples.names()[20:40]]
    samples.kept[20:40] = False
    write_inputs(tmp_path / "grown", samples, {"00001": shards["00001"]})
    _, ran = run(tmp_path / "grown", tmp_path / "grown" / "dedup")
    compared = {task.split("-")[1] for task in ran if task.startswith(("_group", "_same"))}
    assert compared == {"001"}
    assert known(tmp_path / "grown") == [["00000"], ["00001", "00002", "00003"]]
    assert tables(tmp_path / "grown" / "dedup") == whole(tmp_path / "whole", samples, shards)
    after = keepers(verdicts(tmp_path / "grown" / "dedup"))
    assert after == brute_force(samples)
    assert lost
    assert not set(lost) & set(after.values())


@pytest.mark.parametrize(("gone", "kill_after"), [("00000", 1), ("00000", 3), ("00001", 2)])
def test_a_generation_made_anew_takes_up_later_ones_though_the_run_was_cut_short(
    tmp_path: Path, gone: str, kill_after: int
) -> None:
    samples, shards = crowd(60), cut_shards(60, 3)
    grow(tmp_path / "grown", samples, one_by_one(shards))
    take_out(tmp_path / "grown", gone)
    with pytest.raises(CutShort):
        run(tmp_path / "grown", tmp_path / "grown" / "dedup", kill_after)
    assert len(known(tmp_path / "grown")) == 3  # the later ones are not removed yet
    run(tmp_path / "grown", tmp_path / "grown" / "dedup")
    left = {name: rows for name, rows in shards.items() if name != gone}
    named = [shard for shards in known(tmp_path / "grown") for shard in shards]
    assert sorted(named) == sorted(left)
    assert tables(tmp_path / "grown" / "dedup") == whole(tmp_path / "whole", samples, left)


@pytest.mark.parametrize("kill_after", [0, 2])
def test_after_so_many_generations_all_start_anew_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_after: int
) -> None:
    monkeypatch.setattr(generations, "MOST_GENERATIONS", 3)
    samples, shards = crowd(60), cut_shards(60, 5)
    grow(tmp_path / "grown", samples, one_by_one(shards)[:3])
    write_inputs(tmp_path / "grown", samples, {"00003": shards["00003"]})
    if kill_after:
        with pytest.raises(CutShort):
            run(tmp_path / "grown", tmp_path / "grown" / "dedup", kill_after)
    run(tmp_path / "grown", tmp_path / "grown" / "dedup")
    assert known(tmp_path / "grown") == [["00000", "00001", "00002", "00003"]]
    grow(tmp_path / "grown", samples, [{"00004": shards["00004"]}])
    assert known(tmp_path / "grown")[1:] == [["00004"]]
    assert tables(tmp_path / "grown" / "dedup") == whole(tmp_path / "whole", samples, shards)


def test_the_sixty_fifth_generation_is_the_first_again(tmp_path: Path) -> None:
    own = LocalStore(tmp_path / "dedup")
    stage = DedupStage(DedupConfig(), open_inputs(tmp_path), {}, seed=0, own=ShardSet(own))
    inputs: dict[str, dict[str, str]] = {}
    sizes: list[int] = []
    for number in range(66):
        inputs[f"{number:05d}"] = {"filter": f"digest {number}"}
        planned = plan_generations(stage, dict(reversed(inputs.items())))
        sizes.append(len(planned))
        generation, task = planned[-1]
        assert generation.shards == (
            tuple(sorted(inputs)) if number == 64 else (sorted(inputs)[-1],)
        )
        out = tmp_path / f"new-{number}"
        out.mkdir()
        (out / f"{task.shard}.parquet").touch()
        commit(out, Output(store=own), task.shard, next(identify(stage, [task])), {})
    assert sizes == [*range(1, 65), 1, 2]


def flat(num: int) -> Samples:
    """Draw samples whose pHashes have but few bits and are all different, as flat pictures have."""
    rng = make_rng(8, "flat")
    samples = draw_samples(num, "flat")
    bits = np.uint64(1) << rng.integers(0, 64, (8 * num, 3), np.uint64)
    samples.phashes[:] = rng.permutation(np.unique(np.bitwise_or.reduce(bits, axis=1)))[:num]
    samples.thumbnails[:] = samples.thumbnails[0]
    return samples


def test_band_values_that_many_added_hashes_share_lose_no_pair(tmp_path: Path) -> None:
    samples = crowd(160)
    samples.phashes[:] &= np.uint64(0x0000_FFFF_FFFF_FFFF)  # all agree on 16 bits
    shards = cut_shards(160, 4)
    grow(tmp_path / "grown", samples, one_by_one(shards), max_run=8)
    assert keepers(verdicts(tmp_path / "grown" / "dedup")) == brute_force(samples)


def test_what_max_run_leaves_out_of_added_shards_is_counted_and_nothing_false_is_found(
    tmp_path: Path,
) -> None:
    samples = flat(400)
    names = samples.names()
    *first, last = one_by_one(cut_shards(400, 3))
    grow(tmp_path, samples, first, max_run=16)
    write_inputs(tmp_path, samples, last)
    report, _ = run(tmp_path, tmp_path / "dedup", max_run=16)
    rows = pq.read_table(tmp_path / "dedup" / "_heavy.parquet").to_pylist()
    assert {row["signal"] for row in rows} == {"phash"}
    assert {row["value"] for row in rows} == {None}
    assert report.counts["heavy_runs"] == sum(row["looks"] for row in rows) > 0
    assert report.counts["skipped_comparisons"] == sum(row["skipped"] for row in rows) > 0
    found = verdicts(tmp_path / "dedup")
    place = {name: number for number, name in enumerate(names)}
    edges = [(key, told) for key, told in found.items() if told[3] is not None]
    assert len(edges) > 100
    for key, (_, _, keeper, kind, bits) in edges:
        assert keeper is not None
        apart = samples.phashes[place[key]] ^ samples.phashes[place[keeper]]
        assert (kind, bits) == ("near", int(apart).bit_count())


def test_a_heavy_hash_of_zero_replaces_no_edge_but_its_own(tmp_path: Path) -> None:
    samples = heavy(80)
    samples.phashes ^= np.uint64(7)  # the hash of a flat picture is 0
    samples.files[1] = samples.files[0]
    samples.files[79] = samples.files[78]
    shards = cut_shards(80, 5)
    order = [{name: shards[name]} for name in ("00004", "00000", "00001", "00003", "00002")]
    grow(tmp_path / "grown", samples, order, max_looks=8)
    expected = whole(tmp_path / "whole", samples, shards, max_looks=8)
    assert tables(tmp_path / "grown" / "dedup") == expected
    found = keepers(verdicts(tmp_path / "grown" / "dedup"))
    assert found[samples.names()[78]] == found[samples.names()[79]]  # by their bytes alone
