"""Stages run what is absent or stale, skip what is done, and commit all or nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import State, Task, explain, find_marker
from curate.core.model_ref import ModelRef
from curate.core.schema import make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place, Stage, identify, plan_wave
from curate.core.store import LocalStore
from tests.silent import Silent

SCHEMA = pa.schema([("key", pa.string()), ("status", pa.string()), ("value", pa.int64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class CountConfig:
    factor: int = 1
    num_threads: int = field(default=1, metadata={"fingerprint": False})


class CountStage(Stage[CountConfig]):
    """Multiply numbers; one task per number."""

    name: ClassVar[str] = "count"
    numbers: tuple[int, ...] = (1, 2, 3)
    fail_on: int | None = None

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [
            Task(shard=f"{index:05d}", inputs={"number": str(number)}, params={"number": number})
            for index, number in enumerate(self.numbers)
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        number = task.params["number"]
        with ShardWriter(place.out, task.shard, SCHEMA, with_tar=False) as writer:
            value = number * self.config.factor
            writer.write({"key": make_key(str(number)), "status": "ok", "value": value})
            if number == self.fail_on:
                raise KeyboardInterrupt
        return Counter({"in": 1, "kept": 1})


def make(config: CountConfig | None = None, numbers: tuple[int, ...] = (1, 2, 3)) -> CountStage:
    stage = CountStage(config or CountConfig(), {}, {}, seed=0)
    stage.numbers = numbers
    return stage


def run(stage: CountStage, folder: Path) -> int:
    return run_stage(stage, Output(store=LocalStore(folder)), InlineExecutor(), Silent()).num_run


def values(folder: Path) -> list[int]:
    return [table["value"][0].as_py() for _, table in ShardSet(folder).tables()]


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    assert run(make(), tmp_path) == 3
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(make(), tmp_path) == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_changed_config_reruns_all_and_names_the_key(tmp_path: Path) -> None:
    run(make(), tmp_path)
    stage = make(CountConfig(factor=2))
    marker = find_marker(LocalStore(tmp_path), "00000")
    assert marker is not None
    new = next(identify(stage, next(iter(stage.waves()))))
    assert explain(marker.identity, new) == ["config factor: 1 -> 2"]
    assert run(stage, tmp_path) == 3
    assert values(tmp_path) == [2, 4, 6]


def test_a_field_outside_the_fingerprint_reruns_nothing(tmp_path: Path) -> None:
    run(make(), tmp_path)
    assert run(make(CountConfig(num_threads=8)), tmp_path) == 0


def test_one_changed_input_reruns_one_shard(tmp_path: Path) -> None:
    run(make(), tmp_path)
    assert run(make(numbers=(1, 5, 3)), tmp_path) == 1
    assert values(tmp_path) == [1, 5, 3]


def test_a_bumped_version_reruns_the_stage(tmp_path: Path) -> None:
    run(make(), tmp_path)

    class Newer(CountStage):
        version: ClassVar[int] = 2

    stage = Newer(CountConfig(), {}, {}, seed=0)
    states = [
        job.state for job in plan_wave(stage, next(iter(stage.waves())), LocalStore(tmp_path))
    ]
    assert states == [State.STALE] * 3


def test_other_weights_or_another_seed_rerun_the_stage_and_plan_names_them(tmp_path: Path) -> None:
    def with_weights(data: bytes, seed: int = 0) -> CountStage:
        path = tmp_path / f"weights-{data.hex()}"
        path.write_bytes(data)
        model = ModelRef(kind="linear_head", paths=(path,))
        return CountStage(CountConfig(), {}, {"head": model}, seed=seed)

    folder = tmp_path / "out"
    assert run(with_weights(b"one"), folder) == 3
    assert run(with_weights(b"one"), folder) == 0
    stage = with_weights(b"two")
    (job, *_) = plan_wave(stage, next(iter(stage.waves())), LocalStore(folder))
    assert job.old is not None
    (reason,) = explain(job.old, job.identity)
    assert reason.startswith("models head: ")
    assert run(stage, folder) == 3
    stage = with_weights(b"two", seed=1)
    (job, *_) = plan_wave(stage, next(iter(stage.waves())), LocalStore(folder))
    assert job.old is not None
    assert explain(job.old, job.identity) == ["seed 0 -> 1"]


def test_a_missing_marker_reruns_that_shard(tmp_path: Path) -> None:
    run(make(), tmp_path)
    (tmp_path / "00001.done.json").unlink()
    assert run(make(), tmp_path) == 1


def test_a_damaged_marker_counts_as_missing(tmp_path: Path) -> None:
    run(make(), tmp_path)
    (tmp_path / "00001.done.json").write_text("{")
    assert run(make(), tmp_path) == 1


def test_shards_no_longer_planned_are_removed(tmp_path: Path) -> None:
    run(make(), tmp_path)
    run(make(numbers=(1, 2)), tmp_path)
    assert ShardSet(tmp_path).shards() == ["00000", "00001"]
    assert not (tmp_path / "00002.parquet").exists()


def test_a_task_that_dies_leaves_nothing_that_counts(tmp_path: Path) -> None:
    stage = make()
    stage.fail_on = 2
    with pytest.raises(KeyboardInterrupt):
        run(stage, tmp_path)
    assert ShardSet(tmp_path).shards() == ["00000"]
    assert not (tmp_path / "stage.json").exists()
    assert run(make(), tmp_path) == 2
    assert values(tmp_path) == [1, 2, 3]


def test_an_interrupted_run_ends_byte_equal_to_a_straight_one(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run(make(), straight)
    stage = make()
    stage.fail_on = 3
    with pytest.raises(KeyboardInterrupt):
        run(stage, broken)
    run(make(), broken)
    read = lambda folder: {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}  # noqa: E731
    assert read(straight) == read(broken)


def test_markers_are_json_of_plain_values(tmp_path: Path) -> None:
    run(make(), tmp_path)
    marker = ShardSet(tmp_path).marker("00000")
    assert dataclasses.asdict(marker)["identity"]["config"] == {"factor": 1}
    assert marker.counts == {"in": 1, "kept": 1}
    assert set(marker.files) == {"00000.parquet"}
