"""Scheduler and workers as processes of their own: joined, shared, and lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import cloudpickle
import pytest

from curate.core.commit import Output
from curate.core.engine import StageReport, run_stage
from curate.core.engine_config import EngineConfig, StageHint
from curate.core.errors import ConfigError, StageError
from curate.core.executor import open_executor
from curate.core.lock import claim_out
from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import Place, Stage
from curate.core.store import LocalStore
from tests.silent import Silent

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests

LIMIT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    num_tasks: int = 6
    gate: str = ""
    note: str = field(default="", metadata={"fingerprint": False})


class GateStage(Stage[GateConfig]):
    """Write the name of the input folder; tasks after the first wait until the gate is there."""

    name: ClassVar[str] = "gate"

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [Task(shard=f"{i:05d}", inputs={}) for i in range(self.config.num_tasks)]

    def run(self, task: Task, place: Place) -> Counter[str]:
        deadline = time.monotonic() + LIMIT_S
        while self.config.gate and task.shard != "00000" and not Path(self.config.gate).exists():
            assert time.monotonic() < deadline, "the gate never opened"
            time.sleep(0.01)
        (place.out / f"{task.shard}.txt").write_text(self.inputs["source"].url + self.config.note)
        return Counter({"in": 1, "kept": 1})


class PlaceStage(GateStage):
    """Write the name of the worker."""

    name: ClassVar[str] = "place"

    def run(self, task: Task, place: Place) -> Counter[str]:
        from distributed import get_worker

        (place.out / f"{task.shard}.txt").write_text(str(get_worker().name))
        return Counter({"in": 1, "kept": 1})


class AloneStage(GateStage):
    """Fail when another task of the stage runs at the same time."""

    name: ClassVar[str] = "alone"

    def run(self, task: Task, place: Place) -> Counter[str]:
        busy = Path(self.config.gate)
        assert not busy.exists(), "two tasks at once"
        busy.touch()
        time.sleep(0.05)  # long enough for another to come, if it may
        busy.unlink()
        (place.out / f"{task.shard}.txt").write_text("")
        return Counter({"in": 1, "kept": 1})


class PoisonStage(GateStage):
    """Kill the worker with one of the shards."""

    name: ClassVar[str] = "poison"

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == "00002":
            os._exit(1)
        (place.out / f"{task.shard}.txt").write_text("")
        return Counter({"in": 1, "kept": 1})


class Cluster:
    """A scheduler and two workers with a nanny each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0",
            "--scheduler-file", str(file),
        )  # fmt: skip
        wait_for(lambda: file.exists() and file.read_text().rstrip().endswith("}"))  # all written
        self._file = file
        self.add_worker()
        self.add_worker()
        self.address: str = json.loads(file.read_text())["address"]

    def add_worker(self, *arguments: str) -> None:
        """Start one more worker."""
        self._start(
            "worker", "--scheduler-file", str(self._file), "--nthreads", "1", "--no-dashboard",
            "--host", "127.0.0.1", "--memory-limit", "0", *arguments,
        )  # fmt: skip

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def engine(self, **more: object) -> EngineConfig:
        return EngineConfig(name="cluster", address=self.address, connect_s=LIMIT_S, **more)  # type: ignore[arg-type]

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{condition} never came true"
        time.sleep(0.02)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.close()


def run(out: Path, source: Path, engine: EngineConfig, gate: str = "") -> StageReport:
    stage = GateStage(GateConfig(gate=gate), {"source": ShardSet(source)}, {}, seed=0)
    with open_executor(engine) as executor:
        return run_stage(stage, Output(store=LocalStore(out)), executor, Silent())


def texts(out: Path) -> set[str]:
    return {path.read_text() for path in out.glob("*.txt")}


def test_two_runs_on_one_cluster_each_read_their_own_inputs(
    cluster: Cluster, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        report = run(tmp_path / name, tmp_path / f"source_{name}", cluster.engine())
        assert (report.num_run, report.quarantined) == (6, {})
        assert texts(tmp_path / name) == {str(tmp_path / f"source_{name}")}


def test_a_later_run_is_not_served_by_the_stage_of_an_earlier_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Fields outside the fingerprint (paths, proxies) differ from run to run."""
    out = LocalStore(tmp_path / "out")
    for note, num_tasks in (("first", 2), ("second", 4)):
        config = GateConfig(num_tasks=num_tasks, note=note)
        with claim_out(out) as claim, open_executor(cluster.engine()) as executor:
            stage = GateStage(config, {"source": ShardSet(tmp_path)}, {}, seed=0)
            run_stage(stage, Output(store=out.child(note), claim=claim), executor, Silent())
        assert texts(tmp_path / "out" / note) == {f"{tmp_path}{note}"}


def test_workers_that_run_tasks_side_by_side_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker("--nthreads", "2")
    wait_for_workers(cluster, 3)
    with pytest.raises(StageError, match="each worker must run one task at a time"):
        run(tmp_path / "out", tmp_path, cluster.engine())


def test_a_gpu_no_worker_has_is_refused_instead_of_waited_for(
    cluster: Cluster, tmp_path: Path
) -> None:
    engine = cluster.engine(hints={"gate": StageHint(gpus=1)})
    with pytest.raises(StageError, match=r"engine\.hints\.gate\.gpus: must be at most"):
        run(tmp_path / "out", tmp_path, engine)


def test_a_gpu_stage_runs_on_the_worker_that_has_one(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker("--resources", "GPU=1", "--name", "with-gpu")
    wait_for_workers(cluster, 3)
    engine = cluster.engine(hints={"place": StageHint(gpus=1)})
    with open_executor(engine) as executor:
        stage = PlaceStage(GateConfig(), {}, {}, seed=0)
        run_stage(stage, Output(store=LocalStore(tmp_path / "out")), executor, Silent())
    assert texts(tmp_path / "out") == {"with-gpu"}


def wait_for_workers(cluster: Cluster, count: int) -> None:
    from distributed import Client

    with Client(cluster.address, timeout=LIMIT_S) as client:
        client.wait_for_workers(count, timeout=LIMIT_S)


@pytest.mark.parametrize("hint", [StageHint(threads=2), StageHint(memory_gb=1e6)])
def test_tasks_that_need_much_run_fewer_at_once(
    cluster: Cluster, tmp_path: Path, hint: StageHint
) -> None:
    wait_for_workers(cluster, 2)
    with open_executor(cluster.engine(hints={"alone": hint})) as executor:
        stage = AloneStage(GateConfig(gate=str(tmp_path / "busy")), {}, {}, seed=0)
        report = run_stage(stage, Output(store=LocalStore(tmp_path / "o")), executor, Silent())
    assert report.num_run == 6


def test_a_shard_that_kills_its_workers_is_quarantined_and_the_others_finish(
    cluster: Cluster, tmp_path: Path
) -> None:
    with open_executor(cluster.engine()) as executor:
        stage = PoisonStage(GateConfig(), {}, {}, seed=0)
        output = Output(store=LocalStore(tmp_path / "out"))
        report = run_stage(stage, output, executor, Silent())
    assert report.quarantined == {"00002": "tried 3 times: its worker process died"}
    assert ShardSet(tmp_path / "out").shards() == ["00000", "00001", "00003", "00004", "00005"]


def test_a_lost_scheduler_is_one_line_and_costs_nothing_that_was_done(
    cluster: Cluster, tmp_path: Path
) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    errors: list[BaseException] = []

    def first() -> None:
        try:
            run(out, tmp_path, cluster.engine(), gate=str(gate))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    wait_for(lambda: (out / "00000.done.json").exists())
    os.killpg(cluster.scheduler.pid, signal.SIGKILL)
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert isinstance(errors[0], StageError)
    assert "must keep its Dask scheduler" in str(errors[0])
    gate.touch()
    report = run(out, tmp_path, EngineConfig(name="inline"), gate=str(gate))
    assert report.quarantined == {}
    assert ShardSet(LocalStore(out)).shards() == [f"{i:05d}" for i in range(6)]
    assert (out / "stage.json").exists()


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path) -> None:
    engine = EngineConfig(name="cluster", address="tcp://127.0.0.1:9", connect_s=1)
    with pytest.raises(StageError, match=r"engine\.address: must be a Dask scheduler that runs"):
        run(tmp_path / "out", tmp_path, engine)


@pytest.mark.parametrize(
    ("name", "address"), [("cluster", ""), ("local", "tcp://127.0.0.1:8786"), ("inline", "x")]
)
def test_an_address_belongs_to_the_cluster_engine(name: str, address: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.address: must be set with engine=cluster"):
        EngineConfig(name=name, address=address)
