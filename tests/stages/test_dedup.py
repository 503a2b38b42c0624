"""Dedup finds what comparing all with all finds, however it is cut and whenever shards come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks.dedup_inputs import Samples, cut_shards, draw_samples, open_inputs, write_inputs
from benchmarks.kills import snapshot
from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.engine import StageReport, run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import ConfigError, StageError
from curate.core.executor import InlineExecutor
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.store import LocalStore, open_store
from curate.stages.dedup import DedupConfig, DedupStage
from curate.stages.duplicates.thumbnails import measure_change

Verdict = tuple[bool, str, str | None, str | None, float | None]
Shards = Mapping[str, NDArray[np.int64]]


class Listener:
    """A progress that remembers which tasks ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None:
        self.ran.append(outcome.shard)

    def finish(self) -> None: ...


def run(
    inputs: Path, folder: Path, kill_after: int = 0, **config: Any
) -> tuple[StageReport, list[str]]:
    """Run dedup and give its report and the tasks that ran."""
    folder.mkdir(parents=True, exist_ok=True)
    stage = DedupStage(DedupConfig(**config), open_inputs(inputs), {}, seed=0, own=ShardSet(folder))
    listener = Fragile(kill_after) if kill_after else Listener()
    executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0))
    report = run_stage(stage, Output(store=LocalStore(folder)), executor, listener)
    assert report.quarantined == {}
    return report, listener.ran


def verdicts(folder: Path) -> dict[str, Verdict]:
    """Give key -> keep, reason, keeper, edge, distance."""
    names = ("keep", "reason", "keeper", "edge", "distance")
    return {
        row["key"]: tuple(row[name] for name in names)
        for path in sorted(folder.glob("[0-9]*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }


def tables(folder: Path) -> dict[str, bytes]:
    """Give the verdicts' files as bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[0-9]*.parquet"))}


def dedup(folder: Path, samples: Samples, shards: Shards, **config: Any) -> dict[str, Verdict]:
    write_inputs(folder, samples, shards)
    run(folder, folder / "dedup", **config)
    return verdicts(folder / "dedup")


def crowd(num: int, *names: str | int) -> Samples:
    """Draw samples with chains, stars and copies of all kinds."""
    rng = make_rng(1, "crowd", *names)
    samples = draw_samples(num, *names)
    samples.widths[:] = rng.integers(1, 6, num) * 100
    for n in range(0, num - 5, 6):
        copies = samples.thumbnails[n].astype(np.int64) + rng.integers(-9, 10, (3, 192))
        samples.thumbnails[n + 1 : n + 4] = np.clip(copies, 0, 255)
        for copy in range(n + 1, n + 4):  # a chain
            bits = rng.choice(64, size=int(rng.integers(0, 6)), replace=False)
            flip = np.uint64(sum(1 << int(bit) for bit in bits))
            samples.phashes[copy] = samples.phashes[copy - 1] ^ flip
        kind = (samples.files, samples.pixels)[n % 4 < 2]
        kind[n + 4] = kind[n + int(rng.integers(0, 4))]
    return samples


def brute_force(samples: Samples, radius: int = 6, most: float = 0.15) -> dict[str, str]:
    """Give key -> keeper of all in a cluster: compare all with all, then stars, the best first."""
    num = len(samples)
    names = samples.names()
    group = list(range(num))

    def find(node: int) -> int:
        while group[node] != node:
            node = group[node]
        return node

    near: list[tuple[int, int]] = []
    for a, b in combinations(np.flatnonzero(samples.kept).tolist(), 2):
        bits = int(samples.phashes[a] ^ samples.phashes[b]).bit_count()
        one, other = samples.thumbnails[[a]], samples.thumbnails[[b]]
        is_equal = any((column[a] == column[b]).all() for column in (samples.files, samples.pixels))
        if is_equal or (bits == 0 and (one == other).all()):
            group[find(a)] = find(b)
        elif bits <= radius and measure_change(one, other)[0] <= most:
            near.append((a, b))
    order = sorted(range(num), key=lambda n: (-samples.widths[n], names[n]))
    keeper: dict[int, int] = {}
    for best in order:
        if find(best) in keeper:
            continue
        keeper[find(best)] = best
        for a, b in near:
            for one, other in ((find(a), find(b)), (find(b), find(a))):
                if one == find(best) and other not in keeper:
                    keeper[other] = best
    members = {n: keeper[find(n)] for n in range(num)}
    sizes = np.bincount(list(members.values()), minlength=num)
    return {names[n]: names[k] for n, k in members.items() if sizes[k] > 1 and samples.kept[n]}


def keepers(found: Mapping[str, Verdict]) -> dict[str, str]:
    return {key: keeper for key, (_, _, keeper, _, _) in found.items() if keeper is not None}


def pair(samples: Samples, found: Mapping[str, Verdict]) -> Verdict:
    """Give the verdict of the second of two samples."""
    return found[samples.names()[1]]


def two(**facts: Any) -> Samples:
    """Draw two samples, the first larger; facts are set in the second, or copied (None)."""
    samples = draw_samples(2, "two")
    samples.widths[:] = (500, 400)
    for name, value in facts.items():
        column = getattr(samples, name)
        column[1] = column[0] if value is None else value
    return samples


def test_equal_bytes_are_exact_duplicates_also_across_shards(tmp_path: Path) -> None:
    samples = two(files=None, pixels=None, phashes=None, thumbnails=None)
    found = dedup(tmp_path, samples, cut_shards(2, 2))
    first, second = samples.names()
    assert found[second] == (False, "duplicate_exact", first, "exact", 0)
    assert found[first] == (True, "", first, None, None)


def test_equal_pixels_in_another_container_are_duplicates(tmp_path: Path) -> None:
    samples = two(pixels=None)
    assert pair(samples, dedup(tmp_path, samples, cut_shards(2, 1)))[1] == "duplicate_pixels"


def test_digests_that_share_a_prefix_are_not_equal(tmp_path: Path) -> None:
    samples = two(files=None)
    samples.files[1, 31] ^= 1
    assert pair(samples, dedup(tmp_path, samples, cut_shards(2, 1)))[0]


@pytest.mark.parametrize(("radius", "is_kept"), [(4, False), (3, True), (0, True), (-1, True)])
def test_the_radius_is_inclusive(tmp_path: Path, radius: int, is_kept: bool) -> None:
    samples = two(phashes=None, thumbnails=None)
    samples.phashes[1] ^= np.uint64(0b1111)
    found = dedup(tmp_path, samples, cut_shards(2, 1), phash_radius=radius)
    assert pair(samples, found)[0] == is_kept
    assert is_kept or pair(samples, found)[3:] == ("near", 4)


@pytest.mark.parametrize(("share", "is_kept"), [(1.0, False), (0.999, True)])
@pytest.mark.parametrize("bits", [0, 2])
def test_thumbnails_may_change_as_much_as_said_and_no_more(
    tmp_path: Path, bits: int, share: float, is_kept: bool
) -> None:
    samples = two(phashes=None, thumbnails=None)
    samples.phashes[1] ^= np.uint64((1 << bits) - 1)
    samples.thumbnails[:, :9] = ([100] * 9, [160] * 9)
    change = float(measure_change(samples.thumbnails[:1], samples.thumbnails[1:])[0])
    found = dedup(tmp_path, samples, cut_shards(2, 1), thumbnail_change=change * share)
    assert pair(samples, found)[0] == is_kept


def test_what_filter_dropped_joins_nothing(tmp_path: Path) -> None:
    samples = two(files=None)
    samples.kept[0] = False
    found = dedup(tmp_path, samples, cut_shards(2, 2))
    first, second = samples.names()
    assert found[first] == (False, "min_side", None, None, None)
    assert found[second] == (True, "", None, None, None)


@pytest.mark.parametrize("bin_entries", [20_000_000, 400, 30])
def test_clusters_are_those_of_comparing_all_with_all(tmp_path: Path, bin_entries: int) -> None:
    samples = crowd(150)
    samples.kept[::17] = False
    found = dedup(tmp_path, samples, cut_shards(150, 5), bin_entries=bin_entries)
    expected = brute_force(samples)
    assert keepers(found) == expected
    assert len(expected) > 70
    reasons = {verdict[1] for verdict in found.values()}
    assert reasons == {"", "min_side", "duplicate_exact", "duplicate_pixels", "duplicate_near"}


def test_clusters_do_not_depend_on_the_order_of_samples_and_shards(tmp_path: Path) -> None:
    samples = crowd(120)
    rows = make_rng(2, "order").permutation(120)
    mixed = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 7))}
    straight = dedup(tmp_path / "straight", samples, cut_shards(120, 2))
    assert dedup(tmp_path / "mixed", samples, mixed, bin_entries=60) == straight


def grow(folder: Path, samples: Samples, steps: Sequence[Shards], **config: Any) -> list[list[str]]:
    """Add shards step by step and give the tasks that each run of dedup did."""
    ran: list[list[str]] = []
    for shards in steps:
        write_inputs(folder, samples, shards)
        ran.append(run(folder, folder / "dedup", **config)[1])
    return ran


@pytest.mark.parametrize("bin_entries", [20_000_000, 100])
def test_added_shards_run_no_old_task_and_end_in_the_bytes_of_one_run(
    tmp_path: Path, bin_entries: int
) -> None:
    samples = crowd(160)
    rows = make_rng(3, "grow").permutation(160)
    shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 8))}
    names = ["00003", "00004", "00006"], ["00000", "00005"], ["00001", "00002", "00007"]
    steps = [{name: shards[name] for name in some} for some in names]
    ran = grow(tmp_path / "grown", samples, steps, bin_entries=bin_entries)
    for number, tasks in enumerate(ran):
        compared = [task for task in tasks if task.startswith(("_group", "_same", "_near"))]
        assert {task.split("-")[1] for task in compared} == {f"{number:03d}"}
    write_inputs(tmp_path / "whole", samples, shards)
    run(tmp_path / "whole", tmp_path / "whole" / "dedup", bin_entries=bin_entries)
    assert tables(tmp_path / "grown" / "dedup") == tables(tmp_path / "whole" / "dedup")
    assert keepers(verdicts(tmp_path / "grown" / "dedup")) == brute_force(samples)


def test_a_run_with_nothing_new_does_nothing(tmp_path: Path) -> None:
    ran = grow(tmp_path, crowd(40), [cut_shards(40, 2), {}])
    assert ran[0]
    assert ran[1] == []


class CutShort(Exception):
    """Stand for a kill between two tasks."""


class Fragile(Listener):
    """A progress that ends the run after some tasks."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.left = num_tasks

    def advance(self, outcome: Outcome) -> None:
        super().advance(outcome)
        self.left -= 1
        if not self.left:
            raise CutShort


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_files(tmp_path: Path) -> None:
    samples, shards = crowd(60), cut_shards(60, 3)
    steps = [{"00001": shards["00001"]}, {"00000": shards["00000"], "00002": shards["00002"]}]
    grow(tmp_path / "straight", samples, steps, bin_entries=200)
    for step in steps:
        write_inputs(tmp_path / "killed", samples, step)
        num_kills = 0
        for kill in range(40):
            try:
                run(
                    tmp_path / "killed",
                    tmp_path / "killed" / "dedup",
                    kill % 3 + 1,
                    bin_entries=200,
                )
                break
            except CutShort:
                num_kills += 1
        assert num_kills > 3
    assert snapshot(tmp_path / "killed" / "dedup") == snapshot(tmp_path / "straight" / "dedup")


def test_an_object_store_holds_the_same_verdicts(tmp_path: Path) -> None:
    samples = crowd(40)
    write_inputs(tmp_path, samples, cut_shards(40, 2))
    run(tmp_path, tmp_path / "dedup", bin_entries=300)
    store = open_store("memory://test_dedup/dedup")
    stage = DedupStage(
        DedupConfig(bin_entries=300), open_inputs(tmp_path), {}, seed=0, own=ShardSet(store)
    )
    executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0))
    assert run_stage(stage, Output(store=store), executor, Listener()).quarantined == {}
    found = {name: store.read(name) for name in tables(tmp_path / "dedup")}
    assert found == tables(tmp_path / "dedup")


def heavy(num: int) -> Samples:
    """Draw samples of one pHash and of very different thumbnails, some of them alike."""
    samples = draw_samples(num, "heavy")
    samples.phashes[: num // 2] = 7
    samples.thumbnails[1 : num // 2 : 2] = samples.thumbnails[0 : num // 2 - 1 : 2]
    samples.thumbnails[1 : num // 2 : 4, 3] ^= 1
    samples.phashes[num // 2 :: 3] = 7 ^ 0b11
    samples.thumbnails[num // 2 :: 3] = samples.thumbnails[: len(samples.thumbnails[num // 2 :: 3])]
    return samples


def test_leaders_of_a_heavy_hash_are_bounded_and_reported(tmp_path: Path) -> None:
    samples = heavy(80)
    write_inputs(tmp_path, samples, cut_shards(80, 2))
    report, _ = run(tmp_path, tmp_path / "dedup", max_looks=8)
    assert report.counts["heavy_hashes"] == 2
    assert report.counts["skipped_looks"] > 0
    rows = pq.read_table(tmp_path / "dedup" / "_heavy.parquet").to_pylist()
    found = {row["value"]: row for row in rows}
    assert found[7]["samples"] == 40
    assert found[7]["leaders"] == 8
    run(tmp_path, tmp_path / "whole", max_looks=64)
    assert keepers(verdicts(tmp_path / "whole")) == brute_force(samples)


@pytest.mark.parametrize("max_looks", [4, 8, 18])
def test_a_hash_that_becomes_heavy_later_ends_as_if_it_had_come_at_once(
    tmp_path: Path, max_looks: int
) -> None:
    samples = heavy(80)
    rows = make_rng(4, "heavy").permutation(80)
    shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 5))}
    steps = [{name: shards[name]} for name in ("00002", "00000", "00001", "00004", "00003")]
    grow(tmp_path / "grown", samples, steps, max_looks=max_looks)
    whole = dedup(tmp_path / "whole", samples, shards, max_looks=max_looks)
    assert verdicts(tmp_path / "grown" / "dedup") == whole


def test_all_equal_samples_are_one_cluster(tmp_path: Path) -> None:
    samples = draw_samples(50, "equal")
    for name in ("files", "pixels", "phashes", "thumbnails"):
        getattr(samples, name)[:] = getattr(samples, name)[0]
    found = dedup(tmp_path, samples, cut_shards(50, 3), bin_entries=20)
    assert sum(keep for keep, *_ in found.values()) == 1
    assert {reason for _, reason, *_ in found.values()} == {"", "duplicate_exact"}


@pytest.mark.parametrize("num_shards", [0, 2])
def test_no_samples_make_no_clusters(tmp_path: Path, num_shards: int) -> None:
    samples = draw_samples(4, "none")
    samples.kept[:] = False
    for name in ("filter", "annotate", "ingest"):
        (tmp_path / name).mkdir()
    shards = cut_shards(4, num_shards) if num_shards else {}
    found = dedup(tmp_path, samples, shards)
    assert len(found) == 2 * num_shards
    assert keepers(found) == {}


def test_a_changed_old_shard_makes_all_anew_and_a_changed_new_one_only_the_new(
    tmp_path: Path,
) -> None:
    samples, shards = crowd(60), cut_shards(60, 3)
    old = {name: shards[name] for name in ("00000", "00001")}
    grow(tmp_path, samples, [old, {"00002": shards["00002"]}])
    samples.phashes[shards["00002"][0]] ^= np.uint64(1 << 60)
    _, ran = grow(tmp_path, samples, [{}, {"00002": shards["00002"]}])
    compared = {task.split("-")[1] for task in ran if task.startswith("_same")}
    assert compared == {"001"}
    samples.phashes[shards["00000"][0]] ^= np.uint64(1 << 60)
    write_inputs(tmp_path, samples, {"00000": shards["00000"]})
    _, ran = run(tmp_path, tmp_path / "dedup")
    assert {task for task in ran if task.startswith("_same")} == {"_same-000-00000"}
    assert not list((tmp_path / "dedup").glob("*-001-*"))
    assert keepers(verdicts(tmp_path / "dedup")) == brute_force(samples)


def test_a_shard_that_vanished_makes_all_anew(tmp_path: Path) -> None:
    samples, shards = crowd(60), cut_shards(60, 3)
    grow(tmp_path, samples, [{name: shards[name]} for name in shards])
    for name in ("filter", "annotate", "ingest"):
        (tmp_path / name / "00000.done.json").unlink()
    run(tmp_path, tmp_path / "dedup")
    left = {name: rows for name, rows in shards.items() if name != "00000"}
    assert verdicts(tmp_path / "dedup") == dedup(tmp_path / "left", samples, left)
    assert not list((tmp_path / "dedup").glob("_generation-0001*"))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"phash_radius": 9}, r"dedup\.phash_radius: must be in \[-1, 8\], got 9"),
        ({"pdq_radius": 32}, r"dedup\.pdq_radius: must be in \[-1, 31\], got 32"),
        ({"thumbnail_change": -1}, r"dedup\.thumbnail_change: must be in \[0, 2\], got -1"),
        ({"semantic_min_cosine": 1.5}, r"dedup\.semantic_min_cosine: must be in \[0, 1\]"),
        ({"semantic_rule": "faiss"}, r"dedup\.semantic_rule: must be among star, semdedup, nemo"),
        ({"semantic_rule": "nemo"}, r"needs dedup\.semantic_min_cosine, got 0"),
        ({"pdq_dihedral": True}, r"dedup\.pdq_dihedral: needs dedup\.pdq_radius, got -1"),
        ({"keeper": ["prettiest"]}, r"dedup\.keeper: must be among resolution.*got 'prettiest'"),
        ({"bin_entries": 0}, r"dedup\.bin_entries: must be >= 1, got 0"),
        ({"max_looks": 257}, r"dedup\.max_looks: must be in \[1, 256\], got 257"),
    ],
)
def test_a_value_out_of_range_is_refused(config: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        DedupConfig(**config)


def test_a_keeper_rule_that_nobody_measured_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, draw_samples(4), cut_shards(4, 1))
    with pytest.raises(StageError, match=r"dedup\.keeper: aesthetic reads column aesthetic\.score"):
        run(tmp_path, tmp_path / "dedup", keeper=["aesthetic", "resolution"])


def test_shards_that_were_measured_with_another_spec_are_refused(tmp_path: Path) -> None:
    samples, shards = draw_samples(8), cut_shards(8, 2)
    samples.facts = {"annotate.phash.spec": "lm1"}
    grow(tmp_path, samples, [{"00000": shards["00000"]}])
    samples.facts = {"annotate.phash.spec": "imagehash"}
    write_inputs(tmp_path, samples, {"00001": shards["00001"]})
    with pytest.raises(StageError, match=r"measured alike, got annotate\.phash\.spec imagehash"):
        run(tmp_path, tmp_path / "dedup")


def test_captions_of_the_dropped_become_alternates_of_the_keeper(tmp_path: Path) -> None:
    samples = two(files=None)
    write_inputs(tmp_path, samples, cut_shards(2, 2))
    run(tmp_path, tmp_path / "dedup", keep_captions=3)
    rows = {
        row["key"]: row["alternates"]
        for path in (tmp_path / "dedup").glob("0*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    first, second = samples.names()
    assert rows == {first: ["caption 1"], second: None}
