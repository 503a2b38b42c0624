"""Define a stage: what it plans, what it does with one task, and what makes its output stale.

    stage.waves() -> tasks -> plan_wave: identity, state (absent, stale, done, quarantined) -> jobs

`core/engine.py` runs the jobs. A new kind of work is a subclass with `waves` and `run`.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from curate.core.manifest import Identity, State, Task, find_markers
from curate.core.model_ref import ModelRef
from curate.core.quarantine import find_quarantined
from curate.core.shard import ShardSet
from curate.core.store import Store

ConfigT = TypeVar("ConfigT")


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
    takes: ClassVar[tuple[str, str] | None] = None  # input and its counter: what "in" must equal

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

    def gains_by_retry(self, counts: Mapping[str, int]) -> bool:
        """Tell whether a finished task may do better when it is run once more (`retry_failed`)."""
        return False

    def setup(self) -> None:
        """Load models; called once per worker process and stage."""
        return

    @abstractmethod
    def run(self, task: Task, place: Place) -> Counter[str]:
        """Do one task; it may run twice, writes only below `place`.

        Returns:
            Counts: "in", "kept", "dropped.<reason>", "failed.<status>"; the first is the sum of
            the others, which the engine checks.
        """


class MapStage(Stage[ConfigT]):
    """Write one output shard for each shard of the first input, under the same name."""

    def waves(self) -> Iterator[Sequence[Task]]:
        digests = [shard_set.all_digests() for shard_set in self.inputs.values()]
        yield [
            Task(shard=shard, inputs={k: v for one in digests for k, v in one[shard].items()})
            for shard in digests[0]
            if all(shard in one for one in digests)  # a quarantined shard is left out
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Pair a task with its identity, ready to run.

    Args:
        task: what to do.
        identity: what decides its bytes.
        state: of the output that is there now.
        counts: what the finished task counted; empty when it is not done.
        old: what the output that is there was made from; None when absent or done.
        replaces: digest of the marker that a retry shall replace; "" for every other state.
    """

    task: Task
    identity: Identity
    state: State
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    old: Identity | None = None
    replaces: str = ""


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


def identify(stage: Stage[Any], tasks: Sequence[Task]) -> Iterator[Identity]:
    """Collect what decides the bytes of each task."""
    config = plain_config(stage.config)
    models = {role: model.digest for role, model in sorted(stage.models.items())}
    for task in tasks:
        yield Identity(
            stage=stage.name,
            version=stage.version,
            seed=stage.seed,
            config=config,
            models=models,
            inputs=dict(sorted(task.inputs.items())),
            params=json.loads(json.dumps(dict(task.params))),
        )


def plan_wave(
    stage: Stage[Any],
    tasks: Sequence[Task],
    store: Store,
    *,
    retry_quarantined: bool = False,
    retry_failed: bool = False,
) -> list[Job]:
    """Find the state of every task of a wave.

    Args:
        stage: whose wave it is.
        tasks: of the wave.
        store: the stage's folder.
        retry_quarantined: treat quarantined tasks as if they had never been tried.
        retry_failed: run finished tasks again whose failed samples may do better.
    """
    quarantined = {} if retry_quarantined else find_quarantined(store)
    markers = find_markers(store, [task.shard for task in tasks])
    jobs: list[Job] = []
    for task, identity, (shard, marker) in zip(tasks, identify(stage, tasks), markers, strict=True):
        fingerprint = identity.fingerprint
        if marker is not None and marker.fingerprint == fingerprint:
            job = Job(task=task, identity=identity, state=State.DONE, counts=marker.counts)
            if retry_failed and stage.gains_by_retry(marker.counts):
                job = replace(job, state=State.RETRY, replaces=marker.digest)
        elif shard in quarantined and quarantined[shard].fingerprint == fingerprint:
            job = Job(task=task, identity=identity, state=State.QUARANTINED)
        elif marker is not None:
            job = Job(task=task, identity=identity, state=State.STALE, old=marker.identity)
        else:
            job = Job(task=task, identity=identity, state=State.ABSENT)
        jobs.append(job)
    return jobs
