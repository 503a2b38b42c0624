"""Both executors run every job exactly once, and quarantine only what kills its worker."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import ConfigError, StageError
from curate.core.executor import open_executor
from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import Place, Stage
from curate.core.store import LocalStore
from tests.silent import Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoConfig:
    num_tasks: int = 9
    poison: str = ""
    refuse: str = ""
    setups: str = ""


class EchoStage(Stage[EchoConfig]):
    """Write one small file per task; one shard may kill its worker, one may be refused."""

    name: ClassVar[str] = "echo"

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [Task(shard=f"{i:05d}", inputs={}) for i in range(self.config.num_tasks)]

    def setup(self) -> None:
        if self.config.setups:
            with Path(self.config.setups).open("a") as stream:
                stream.write(f"{os.getpid()}\n")

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == self.config.poison:
            os._exit(1)
        if task.shard == self.config.refuse:
            raise StageError(f"echo: must not see {task.shard}, got it; leave it out")
        (place.out / f"{task.shard}.txt").write_text(task.shard)
        return Counter({"in": 1, "kept": 1})


def run(folder: Path, config: EchoConfig, engine: EngineConfig) -> tuple[int, dict[str, str]]:
    with open_executor(engine) as executor:
        output = Output(store=LocalStore(folder))
        report = run_stage(EchoStage(config, {}, {}, seed=0), output, executor, Silent())
    return report.num_run, dict(report.quarantined)


@pytest.mark.parametrize("name", ["inline", "local"])
def test_every_job_runs_once_however_many_there_are(tmp_path: Path, name: str) -> None:
    engine = EngineConfig(name=name, num_workers=2, tasks_per_worker=1)
    setups = tmp_path / "setups"
    assert run(tmp_path / "out", EchoConfig(setups=str(setups)), engine) == (9, {})
    assert ShardSet(tmp_path / "out").shards() == [f"{i:05d}" for i in range(9)]
    processes = setups.read_text().split()
    assert len(processes) == len(set(processes)) <= 2  # models load once in each process


def test_a_shard_that_kills_its_worker_is_quarantined_and_the_others_finish(tmp_path: Path) -> None:
    engine = EngineConfig(num_workers=2)
    config = EchoConfig(num_tasks=5, poison="00002")
    _, quarantined = run(tmp_path, config, engine)
    assert list(quarantined) == ["00002"]
    assert ShardSet(tmp_path).shards() == ["00000", "00001", "00003", "00004"]


def test_with_one_try_a_task_that_waited_on_a_dead_worker_is_still_tried(tmp_path: Path) -> None:
    engine = EngineConfig(num_workers=1, tasks_per_worker=4, tries=1)
    _, quarantined = run(tmp_path, EchoConfig(num_tasks=5, poison="00000"), engine)
    assert list(quarantined) == ["00000"]


@pytest.mark.parametrize("name", ["inline", "local"])
def test_an_error_of_a_task_reaches_the_caller_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(StageError, match="must not see 00001"):
        run(tmp_path, EchoConfig(refuse="00001"), EngineConfig(name=name, num_workers=1))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine\.name"):
        EngineConfig(name="cloud")
