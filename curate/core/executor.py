"""Run a stage's jobs: in this process, or on a Dask cluster. The only Dask import of the project.

One Dask task = one shard. The stage travels once per task as plain config and paths (no data, no
model); a worker keeps the last stage it has set up, so models load once per worker process and
stage. A task returns its counts, never bytes. Submission is bounded.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from curate.core.errors import ConfigError
from curate.core.stage import Executor, Job, Outcome, Stage, run_task

logger = logging.getLogger(__name__)

ENGINES = ("inline", "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Choose where tasks run.

    Args:
        name: "inline" (this process) or "local" (a Dask LocalCluster, one process per worker).
        num_workers: worker processes of "local"; 0 means one per core.
        tasks_per_worker: how many tasks are submitted ahead, per worker.
    """

    name: str = "local"
    num_workers: int = 0
    tasks_per_worker: int = 2

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise ConfigError(
                f"engine.name: must be one of {', '.join(ENGINES)}, got {self.name!r}; choose one"
            )
        if self.num_workers < 0 or self.tasks_per_worker < 1:
            raise ConfigError(
                "engine: num_workers must be >= 0 and tasks_per_worker >= 1, "
                f"got {self.num_workers} and {self.tasks_per_worker}; raise them"
            )


class InlineExecutor:
    """Run jobs one after the other in this process."""

    def run(self, stage: Stage[Any], jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
        """Yield each outcome as it is committed."""
        stage.setup()
        for job in jobs:
            yield run_task(stage, job, folder)


class LocalExecutor:
    """Run jobs on a Dask LocalCluster, started when the first stage needs it.

    Stages with `runs_in = "client"` run in this process instead. A task whose worker dies three
    times is tried again alone; if it kills its workers there too, it is quarantined.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._stack = contextlib.ExitStack()
        self._client: Any = None

    def run(self, stage: Stage[Any], jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
        """Yield outcomes in order of completion."""
        if stage.runs_in == "client":
            yield from InlineExecutor().run(stage, jobs, folder)
            return
        _quiet_dask()
        from distributed import KilledWorker, as_completed

        client = self._connect()
        ahead = self._num_workers() * self._config.tasks_per_worker
        waiting = iter(jobs)
        first = [self._submit(client, stage, job, folder) for job in islice(waiting, ahead)]
        running = as_completed(first)
        by_shard = {job.task.shard: job for job in jobs}
        suspects: list[Job] = []
        for future in running:
            try:
                yield future.result()
            except KilledWorker:
                suspects.append(by_shard[future.key.split("/")[1]])
            for job in islice(waiting, 1):
                running.add(self._submit(client, stage, job, folder))
        # Dask also blames tasks that waited on the worker that died; alone, only the culprit dies.
        for job in sorted(suspects, key=lambda job: job.task.shard):
            try:
                yield self._submit(client, stage, job, folder, suffix="/alone").result()
            except KilledWorker as error:
                yield Outcome(shard=job.task.shard, counts={}, error=str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _num_workers(self) -> int:
        return self._config.num_workers or os.cpu_count() or 1

    def _connect(self) -> Any:
        if self._client is None:
            from dask import config as dask_config
            from distributed import Client, LocalCluster

            # A train.py or eval.py in the current folder must not shadow our packages in workers.
            os.environ.setdefault("PYTHONSAFEPATH", "1")
            dask_config.set({"distributed.scheduler.allowed-failures": 2})
            cluster = self._stack.enter_context(
                LocalCluster(
                    n_workers=self._num_workers(),
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=":0",
                    silence_logs=False,
                    memory_limit=0,
                )
            )
            self._client = self._stack.enter_context(Client(cluster))
        return self._client

    def _submit(
        self, client: Any, stage: Stage[Any], job: Job, folder: Path, suffix: str = ""
    ) -> Any:
        key = f"{stage.name}/{job.task.shard}/{job.identity.fingerprint[:16]}{suffix}"
        return client.submit(_run_on_worker, stage, job, folder, key=key, pure=False)


def open_executor(config: EngineConfig) -> contextlib.AbstractContextManager[Executor]:
    """Make the executor that the config names."""
    if config.name == "inline":
        return contextlib.nullcontext(InlineExecutor())
    return LocalExecutor(config)


def _quiet_dask() -> None:
    """Keep Dask's own log lines (workers that come and go) off the terminal.

    Read by `distributed` at its first import, here and in the worker processes.
    """
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")


class _WorkerStage:
    """Keep the one stage this worker process has set up last."""

    fingerprint = ""
    stage: Stage[Any] | None = None


def _run_on_worker(stage: Stage[Any], job: Job, folder: Path) -> Outcome:
    """Run in a worker: reuse the set-up stage while its config and models are the same."""
    bare = job.identity
    token = f"{bare.stage}:{bare.version}:{bare.seed}:{bare.config}:{bare.models}"
    if _WorkerStage.fingerprint != token or _WorkerStage.stage is None:
        _WorkerStage.stage = None
        stage.setup()
        _WorkerStage.stage, _WorkerStage.fingerprint = stage, token
    return run_task(_WorkerStage.stage, job, folder)
