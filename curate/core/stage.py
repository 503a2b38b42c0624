"""Define a stage and run it: plan tasks, skip what is done, run, commit, marker last.

    stage.waves() -> tasks -> identity -> state (absent, stale, done)
                 -> executor -> run_task: stage.run() in a temporary folder -> commit()

`commit` is the only place where files reach a stage's folder: every file is fsynced and renamed,
then the marker is. Kill it anywhere and the marker is missing, so the task runs again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from curate.core.errors import StageError
from curate.core.manifest import (
    FileDigest,
    Identity,
    Marker,
    State,
    Task,
    find_marker,
    marker_path,
    state_of,
)
from curate.core.model_ref import ModelRef
from curate.core.shard import ShardSet

ConfigT = TypeVar("ConfigT")
SUMMARY = "stage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Give a running task its two folders.

    Args:
        out: empty; every file written here is committed atomically when `run` returns.
        scratch: survives kills, belongs to this fingerprint alone, removed at commit.
    """

    out: Path
    scratch: Path


class Stage(ABC, Generic[ConfigT]):
    """Turn input shard sets into one output shard set, task by task.

    Everything a task needs is in the config, the inputs, the models, the seed and the task: no
    globals, no clock, no environment.

    Args:
        config: the stage's own section of the resolved config; part of the fingerprint.
        inputs: stage name -> its finished shard set.
        models: role -> reference to weights (with a digest); loaded in `setup`.
        seed: the run's seed.
        own: the stage's own shard set, for stages whose later waves read what earlier ones wrote.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    runs_in: ClassVar[Literal["worker", "client"]] = "worker"

    def __init__(
        self,
        config: ConfigT,
        inputs: Mapping[str, ShardSet],
        models: Mapping[str, ModelRef],
        seed: int,
        own: ShardSet | None = None,
    ) -> None:
        self.config = config
        self.inputs = inputs
        self.models = models
        self.seed = seed
        self._own = own

    @property
    def own(self) -> ShardSet:
        """Give the stage's own shard set."""
        assert self._own is not None, f"{self.name} reads its own output and was built without it"
        return self._own

    @abstractmethod
    def waves(self) -> Iterator[Sequence[Task]]:
        """Yield groups of tasks; a group is asked for when the one before is committed.

        Runs in the client; cheap and deterministic. A map stage yields one wave; a global stage
        yields per-shard partial results first and the tasks that merge them after.
        """

    def setup(self) -> None:
        """Load models; called once per worker process and stage."""
        return

    @abstractmethod
    def run(self, task: Task, place: Place) -> Counter[str]:
        """Do one task; it may run twice, writes only below `place`.

        Returns:
            Counts: "in", "kept", "dropped.<reason>", "failed.<status>".
        """


class MapStage(Stage[ConfigT]):
    """Write one output shard for each shard of the first input, under the same name."""

    def waves(self) -> Iterator[Sequence[Task]]:
        first = next(iter(self.inputs.values()))
        yield [Task(shard=shard, inputs=self.input_digests(shard)) for shard in first.shards()]

    def input_digests(self, shard: str) -> dict[str, str]:
        """Give the digests of everything this shard's task reads: the same shard of every input."""
        digests: dict[str, str] = {}
        for shard_set in self.inputs.values():
            digests |= shard_set.digests(shard)
        return digests


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Pair a task with its identity, ready to run."""

    task: Task
    identity: Identity
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Report one finished or quarantined task; small, since it travels through the scheduler."""

    shard: str
    counts: Mapping[str, int]
    error: str = ""


class Executor(Protocol):
    """Run jobs of one stage, yielding outcomes in any order."""

    def run(self, stage: Stage[Any], jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]: ...


class Progress(Protocol):
    """Hear of a stage's progress."""

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """Sum up one stage: how many tasks ran, which were quarantined, what was counted."""

    stage: str
    num_run: int
    num_skipped: int
    quarantined: Mapping[str, str]
    counts: Mapping[str, int]


def plain_config(config: Any) -> dict[str, Any]:
    """Give a config as plain values, without the fields that do not change any byte.

    Such fields (threads, proxies) carry `metadata={"fingerprint": False}`.
    """
    plain: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        if not item.metadata.get("fingerprint", True):
            continue
        value = getattr(config, item.name)
        plain[item.name] = plain_config(value) if dataclasses.is_dataclass(value) else value
    return json.loads(json.dumps(plain, default=str))


def identify(stage: Stage[Any], task: Task) -> Identity:
    """Collect what decides the task's bytes."""
    return Identity(
        stage=stage.name,
        version=stage.version,
        seed=stage.seed,
        config=plain_config(stage.config),
        models={role: model.digest for role, model in sorted(stage.models.items())},
        inputs=dict(sorted(task.inputs.items())),
        params=json.loads(json.dumps(dict(task.params))),
    )


def plan_wave(stage: Stage[Any], tasks: Sequence[Task], folder: Path) -> list[Job]:
    """Find the state of every task of a wave."""
    jobs: list[Job] = []
    for task in tasks:
        identity = identify(stage, task)
        jobs.append(Job(task=task, identity=identity, state=state_of(folder, task.shard, identity)))
    return jobs


def run_stage(
    stage: Stage[Any], folder: Path, executor: Executor, progress: Progress
) -> StageReport:
    """Bring a stage's folder up to date: run what is absent or stale, skip what is done.

    Shards that the plan no longer names are removed, and `stage.json` (the list of shards and
    the summed counts) is written last; the next stage starts only when it is there.

    Raises:
        StageError: a task failed for a reason that is not one sample's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planned: list[Job] = []
    quarantined: dict[str, str] = {}
    num_run = 0
    for tasks in stage.waves():
        jobs = plan_wave(stage, tasks, folder)
        todo = [job for job in jobs if job.state is not State.DONE]
        planned += jobs
        if not todo:
            continue
        (folder / SUMMARY).unlink(missing_ok=True)
        progress.start(stage.name, todo=len(todo), done=len(jobs) - len(todo))
        missing = {job.task.shard for job in todo}
        for outcome in executor.run(stage, todo, folder):
            num_run += 1
            missing.discard(outcome.shard)
            if outcome.error:
                quarantined[outcome.shard] = outcome.error
            progress.advance(outcome)
        progress.finish()
        assert not missing, f"{stage.name}: the executor forgot shards {sorted(missing)}"
        if quarantined:
            break  # a later wave needs all of this one
    counts = _close_stage(stage, folder, planned, quarantined)
    return StageReport(
        stage=stage.name,
        num_run=num_run,
        num_skipped=len(planned) - num_run,
        quarantined=quarantined,
        counts=counts,
    )


def run_task(stage: Stage[Any], job: Job, folder: Path) -> Outcome:
    """Run one task in its own temporary folder and commit what it wrote."""
    fingerprint = job.identity.fingerprint
    work = folder / ".work" / f"{job.task.shard}-{fingerprint[:16]}"
    place = Place(out=work / "out", scratch=work / "scratch")
    shutil.rmtree(place.out, ignore_errors=True)
    place.out.mkdir(parents=True)
    place.scratch.mkdir(parents=True, exist_ok=True)
    counts = dict(sorted(stage.run(job.task, place).items()))
    commit(place.out, folder, job.task.shard, job.identity, counts)
    shutil.rmtree(work)
    return Outcome(shard=job.task.shard, counts=counts)


def commit(
    out: Path, folder: Path, shard: str, identity: Identity, counts: Mapping[str, int]
) -> None:
    """Move a task's files into the stage's folder; the marker comes last or not at all."""
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    if not names:
        raise StageError(f"{identity.stage}: a task must write files, got none for shard {shard}")
    files = {name: _seal(out / name) for name in names}
    remove_shard(folder, shard)
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (out / name).replace(target)
    for parent in {(folder / name).parent for name in names}:
        _sync_folder(parent)
    marker = Marker(fingerprint=identity.fingerprint, identity=identity, files=files, counts=counts)
    write_text_atomic(marker_path(folder, shard), marker.to_json())


def remove_shard(folder: Path, shard: str) -> None:
    """Remove a shard, its marker first, so that it is never taken for whole."""
    marker = find_marker(folder, shard)
    marker_path(folder, shard).unlink(missing_ok=True)
    _sync_folder(folder)
    for name in marker.files if marker else ():
        (folder / name).unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a small text file by temporary name, fsync and rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _close_stage(
    stage: Stage[Any], folder: Path, planned: Sequence[Job], quarantined: Mapping[str, str]
) -> dict[str, int]:
    names = {job.task.shard for job in planned}
    if not quarantined:
        for path in folder.glob("*.done.json"):
            shard = path.name.removesuffix(".done.json")
            if shard not in names:
                remove_shard(folder, shard)
    counts: Counter[str] = Counter()
    for job in planned:
        marker = find_marker(folder, job.task.shard)
        counts.update(marker.counts if marker else {})
    summary = {
        "stage": stage.name,
        "version": stage.version,
        "shards": {job.task.shard: job.identity.fingerprint for job in planned},
        "quarantined": dict(quarantined),
        "counts": dict(sorted(counts.items())),
    }
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    path = folder / SUMMARY
    if not path.exists() or path.read_text() != text:
        write_text_atomic(path, text)
    return dict(counts)


def _seal(path: Path) -> FileDigest:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())
    return FileDigest(sha256=digest, bytes=path.stat().st_size)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        os.fsync(descriptor)
