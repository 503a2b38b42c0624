"""What a failing task does to a run: tried again, quarantined, or the end of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest

from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.engine import StageReport, run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import ConfigError, CurateError, ModelError, ShardError, StoreError
from curate.core.executor import InlineExecutor
from curate.core.manifest import SUMMARY, State, Task
from curate.core.quarantine import find_quarantined
from curate.core.shard import ShardSet
from curate.core.stage import Place, Stage, plan_wave
from curate.core.store import LocalStore, open_store

Fault = Callable[[str, int], None]
"""Called with shard and number of the try; may raise."""


class Listener:
    """A progress that remembers outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyConfig:
    text: str = "x"


class FaultyStage(Stage[FaultyConfig]):
    """Write one file per task, unless the fault raises."""

    name: ClassVar[str] = "faulty"
    fault: Fault
    counts: Mapping[str, int] = MappingProxyType({"in": 2, "kept": 1, "dropped.small": 1})
    shards: Sequence[Sequence[str]] = (("00000", "00001", "00002"),)

    def waves(self) -> Iterator[Sequence[Task]]:
        for wave in self.shards:
            yield [Task(shard=shard, inputs={}) for shard in wave]

    def run(self, task: Task, place: Place) -> Counter[str]:
        self.tries[task.shard] += 1
        self.fault(task.shard, self.tries[task.shard])
        (place.out / f"{task.shard}.txt").write_text(self.config.text)
        return Counter(dict(self.counts))


def make(fault: Fault, text: str = "x") -> FaultyStage:
    stage = FaultyStage(FaultyConfig(text=text), {}, {}, seed=0)
    stage.fault = fault
    stage.tries = Counter()
    return stage


def run(
    stage: FaultyStage, folder: Path, *, retry: bool = False
) -> tuple[StageReport, list[Outcome]]:
    listener = Listener()
    report = run_stage(
        stage,
        Output(store=LocalStore(folder)),
        InlineExecutor(EngineConfig(name="inline", retry_pause_s=0)),
        listener,
        retry_quarantined=retry,
    )
    return report, listener.outcomes


def fail(shard: str, error: Exception, times: int = 100) -> Fault:
    def fault(now: str, number: int) -> None:
        if now == shard and number <= times:
            raise error

    return fault


def nothing(shard: str, number: int) -> None:
    """Let every try pass."""


def test_a_fault_of_the_moment_is_tried_again_and_its_cause_is_told(tmp_path: Path) -> None:
    stage = make(fail("00001", ConnectionResetError("gone"), times=2))
    report, outcomes = run(stage, tmp_path)
    assert report.quarantined == {}
    assert ShardSet(tmp_path).shards() == ["00000", "00001", "00002"]
    causes = {outcome.shard: outcome.causes for outcome in outcomes}
    assert causes["00001"] == ("ConnectionResetError: gone", "ConnectionResetError: gone")
    assert causes["00000"] == ()


@pytest.mark.parametrize(
    "error", [ValueError("bad row"), ShardError("cut tar"), MemoryError(), RuntimeError("cuda")]
)
def test_a_shard_that_fails_three_times_is_quarantined_and_the_others_finish(
    tmp_path: Path, error: Exception
) -> None:
    stage = make(fail("00001", error))
    report, _ = run(stage, tmp_path)
    assert stage.tries["00001"] == 3
    assert list(report.quarantined) == ["00001"]
    assert report.quarantined["00001"].startswith(f"tried 3 times: {type(error).__name__}")
    assert report.complete
    assert report.counts == {"in": 4, "kept": 2, "dropped.small": 2}
    assert ShardSet(tmp_path).shards() == ["00000", "00002"]
    assert list(json.loads((tmp_path / SUMMARY).read_text())["quarantined"]) == ["00001"]
    assert "Traceback" in find_quarantined(LocalStore(tmp_path))["00001"].traceback


def test_the_next_run_leaves_a_quarantined_shard_alone_until_asked(tmp_path: Path) -> None:
    run(make(fail("00001", ValueError("bad"))), tmp_path)
    mended = make(nothing)
    report, _ = run(mended, tmp_path)
    assert mended.tries == {}
    assert list(report.quarantined) == ["00001"]
    report, _ = run(mended, tmp_path, retry=True)
    assert mended.tries == {"00001": 1}
    assert report.quarantined == {}
    assert find_quarantined(LocalStore(tmp_path)) == {}
    assert ShardSet(tmp_path).shards() == ["00000", "00001", "00002"]


def test_a_quarantine_counts_only_for_the_same_task(tmp_path: Path) -> None:
    run(make(fail("00001", ValueError("bad"))), tmp_path)
    changed = make(nothing, text="y")
    jobs = plan_wave(changed, next(iter(changed.waves())), LocalStore(tmp_path))
    assert [job.state for job in jobs] == [State.STALE, State.ABSENT, State.STALE]
    report, _ = run(changed, tmp_path)
    assert report.quarantined == {}


def test_what_an_older_config_left_of_a_quarantined_shard_is_removed(tmp_path: Path) -> None:
    run(make(nothing), tmp_path)
    run(make(fail("00001", ValueError("bad")), text="y"), tmp_path)
    assert ShardSet(tmp_path).shards() == ["00000", "00002"]
    assert not (tmp_path / "00001.txt").exists()


@pytest.mark.parametrize(
    "error",
    [
        ImportError("no module"),
        NameError("typo"),
        TypeError("wrong"),
        AttributeError("wrong"),
        AssertionError("broken"),
        ConfigError("filter.x: must be y, got z; fix it"),
        ModelError("models: must exist"),
        StoreError("out: must be writable"),
    ],
)
def test_a_fault_of_the_program_or_of_everything_stops_the_run_at_once(
    tmp_path: Path, error: Exception
) -> None:
    stage = make(fail("00001", error))
    with pytest.raises(type(error), match=str(error)):
        run(stage, tmp_path)
    assert stage.tries == {"00000": 1, "00001": 1}
    assert ShardSet(tmp_path).shards() == ["00000"]
    assert find_quarantined(LocalStore(tmp_path)) == {}
    assert not (tmp_path / SUMMARY).exists()


def test_a_full_disk_inside_a_task_stops_the_run_and_blames_no_shard(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no space left"):
        run(make(fail("00001", OSError(28, "No space left on device"))), tmp_path)
    assert find_quarantined(LocalStore(tmp_path)) == {}


@pytest.mark.parametrize(
    "counts", [{"in": 3, "kept": 2}, {"in": 1, "kept": 1, "failed.not_image": 1}, {"kept": 1}]
)
def test_lost_or_doubled_samples_stop_the_run(tmp_path: Path, counts: dict[str, int]) -> None:
    stage = make(nothing)
    stage.counts = counts
    with pytest.raises(AssertionError, match="in must equal kept"):
        run(stage, tmp_path)
    assert ShardSet(tmp_path).shards() == []


def test_other_counters_are_no_part_of_the_sum(tmp_path: Path) -> None:
    stage = make(nothing)
    stage.counts = {"in": 1, "kept": 1, "rejected.empty": 5}
    assert run(stage, tmp_path)[0].counts["rejected.empty"] == 15


def test_a_quarantined_helper_shard_ends_the_stage_before_what_needs_it(tmp_path: Path) -> None:
    stage = make(fail("_part", ValueError("bad")))
    stage.shards = (("_part", "_other"), ("00000",))
    report, _ = run(stage, tmp_path)
    assert not report.complete
    assert stage.tries == {"_part": 3, "_other": 1}
    assert not (tmp_path / SUMMARY).exists()


def test_scratch_survives_a_failed_try_and_goes_with_the_commit(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Resuming(FaultyStage):
        def run(self, task: Task, place: Place) -> Counter[str]:
            seen.append((place.scratch / "checkpoint").exists())
            (place.scratch / "checkpoint").write_text("half")
            (place.out / "half").write_text("half")
            return super().run(task, place)

    stage = Resuming(FaultyConfig(), {}, {}, seed=0)
    stage.fault, stage.tries = fail("00000", ValueError("once"), times=1), Counter()
    stage.shards = (("00000",),)
    run(stage, tmp_path)
    assert seen == [False, True]
    assert not (tmp_path / ".work").exists()


def test_what_a_killed_writer_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".00000.done.json.123.partial").write_text("{")
    run(make(nothing), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_every_curate_error_but_a_shards_own_ends_the_run() -> None:
    ends = {error for error in CurateError.__subclasses__() if error is not ShardError}
    assert {error.__name__ for error in ends} == {
        "ConfigError",
        "DataError",
        "StoreError",
        "StageError",
        "ModelError",
    }


@pytest.mark.parametrize(("taken", "passed"), [(2, 3), (4, 3)])
def test_samples_lost_or_doubled_between_two_stages_stop_the_run(
    tmp_path: Path, taken: int, passed: int
) -> None:
    class Before(FaultyStage):
        shards: Sequence[Sequence[str]] = (("00000",),)

    class After(FaultyStage):
        takes: ClassVar[tuple[str, str] | None] = ("before", "kept")
        shards: Sequence[Sequence[str]] = (("00000",),)

    def build(kind: type[FaultyStage], count: int, inputs: dict[str, ShardSet]) -> FaultyStage:
        stage = kind(FaultyConfig(), inputs, {}, seed=0)
        stage.fault, stage.tries, stage.counts = nothing, Counter(), {"in": count, "kept": count}
        return stage

    run(build(Before, passed, {}), tmp_path / "before")
    given = {"before": ShardSet(tmp_path / "before")}
    with pytest.raises(AssertionError, match=f"got {taken} of {passed} samples"):
        run(build(After, taken, given), tmp_path / "after")
    assert not (tmp_path / "after" / SUMMARY).exists()
    run(build(After, passed, given), tmp_path / "right")
    assert (tmp_path / "right" / SUMMARY).exists()


def test_what_a_task_fetched_from_a_store_goes_when_it_ends(tmp_path: Path) -> None:
    store = open_store("memory://test_engine/input")
    store.write("big.tar", b"x" * 1000)
    fetched: list[Path] = []

    def fetch(shard: str, number: int) -> None:
        fetched.append(store.local_path("big.tar"))
        assert fetched[-1].exists()

    run(make(fetch), tmp_path)  # into a local folder
    assert len(fetched) == 3
    assert not any(path.exists() for path in fetched)
