"""Run a stage's jobs: in this process, or on a Dask cluster. The only Dask import of the project.

    inline   one after the other, here          local   a LocalCluster, one process per worker
    cluster  a scheduler that runs already      slurm   workers as SLURM jobs, by dask-jobqueue

One Dask task = one shard. The stage travels once per task as plain config and paths (no data, no
model); a worker keeps the last stage it has set up, so models load once per worker process and
stage. A task returns its counts, never bytes. Submission is bounded, so neither the scheduler nor
the client holds more than a few tasks per worker. Dask forgets all when its scheduler dies; the
disk is the truth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

from curate.core.allocator import keep_freed_memory
from curate.core.attempt import Outcome, Patience, run_with_tries
from curate.core.commit import Output
from curate.core.engine import Executor
from curate.core.engine_config import EngineConfig, StageHint
from curate.core.errors import StageError
from curate.core.stage import Job, Stage

logger = logging.getLogger(__name__)


class InlineExecutor:
    """Run jobs one after the other in this process, with the threads a worker would have."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self._config = config or EngineConfig(name="inline")

    def run(self, stage: Stage[Any], jobs: Sequence[Job], output: Output) -> Iterator[Outcome]:
        """Yield each outcome as it is committed."""
        patience = self._config.patience
        keep_freed_memory()
        with _threads(stage, self._config.hint(stage.name)):
            stage.setup()
            for job in jobs:
                yield run_with_tries(stage, job, output, patience)


class DaskExecutor:
    """Run jobs on a Dask cluster, which is started or joined when the first stage needs it.

    Stages with `runs_in = "client"` run in this process instead. Tasks whose worker dies are tried
    again alone, for Dask also blames those that waited on the worker; a task that kills its worker
    as often as `engine.tries` allows is given up.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._stack = contextlib.ExitStack()
        self._client: Any = None

    def run(self, stage: Stage[Any], jobs: Sequence[Job], output: Output) -> Iterator[Outcome]:
        """Yield outcomes in order of completion."""
        if stage.runs_in == "client":
            yield from InlineExecutor(self._config).run(stage, jobs, output)
            return
        self._connect()
        from distributed import KilledWorker, as_completed

        task = _Submission(self._client, stage, output, self._config)
        waiting = iter(jobs)
        first = {task.submit(job): job for job in islice(waiting, self._num_ahead(stage.name))}
        flight = {future.key: job for future, job in first.items()}
        running = as_completed(first)
        del first
        suspects: list[Job] = []
        for future in running:
            job = flight.pop(future.key)
            try:
                yield self._result(future)
            except KilledWorker:
                suspects.append(job)
            for job in islice(waiting, 1):
                added = task.submit(job)
                flight[added.key] = job
                running.add(added)
        for job in sorted(suspects, key=lambda job: job.task.shard):
            yield self._run_alone(task, job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _run_alone(self, task: _Submission, job: Job) -> Outcome:
        from distributed import KilledWorker

        causes = ["its worker process died"]
        for number in range(max(1, self._config.tries - 1)):  # the first may not have been its own
            try:
                outcome = self._result(task.submit(job, suffix=f"-alone{number}"))
                return dataclasses.replace(outcome, causes=(*causes, *outcome.causes))
            except KilledWorker:
                causes.append("its worker process died")
        return Outcome(shard=job.task.shard, causes=tuple(causes), gave_up=True)

    def _result(self, future: Any) -> Outcome:
        from concurrent.futures import CancelledError

        from distributed.comm.core import CommClosedError

        try:
            return future.result()
        except (CancelledError, CommClosedError) as error:
            raise StageError(
                f"engine: must keep its Dask scheduler, got a lost connection to "
                f"{self._config.address or 'it'}; start it again and run the same line"
            ) from error

    def _connect(self) -> None:
        if self._client is None:
            _prepare_dask()
            self._client = _OPENERS[self._config.name](self._config, self._stack)
            logger.info("dask dashboard: %s", self._client.dashboard_link)

    def _num_ahead(self, stage: str) -> int:
        """Say how many tasks may be in flight: some per worker, fewer when a hint asks for more."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        hint = self._config.hint(stage)
        _check_workers(stage, hint, workers)
        num_threads = sum(worker["nthreads"] for worker in workers) or 1
        bounds = [num_threads * self._config.tasks_per_worker]
        if hint.threads > 1:
            bounds.append(num_threads // hint.threads)
        if hint.memory_gb:
            bytes_free = sum(worker["memory_limit"] or 0 for worker in workers) or _memory_bytes()
            bounds.append(int(bytes_free / (hint.memory_gb * 1e9)))
        return max(1, min(bounds))


class _Submission:
    """Send tasks of one stage to the workers."""

    def __init__(
        self, client: Any, stage: Stage[Any], output: Output, config: EngineConfig
    ) -> None:
        self._client, self._stage, self._output = client, stage, output
        self._hint, self._patience = config.hint(stage.name), config.patience
        self._resources = {"GPU": self._hint.gpus} if self._hint.gpus else None

    def submit(self, job: Job, suffix: str = "") -> Any:
        token = self._output.claim.token[:8] if self._output.claim else ""
        # Dask groups keys by what stands before the first dash and a digit, and keeps the groups.
        key = f"{self._stage.name}-{job.task.shard}-{job.identity.fingerprint[:16]}{token}{suffix}"
        return self._client.submit(
            _run_on_worker,
            self._stage,
            job,
            self._output,
            self._hint,
            self._patience,
            key=key,
            pure=False,
            resources=self._resources,
        )


def open_executor(config: EngineConfig) -> contextlib.AbstractContextManager[Executor]:
    """Make the executor that the config names."""
    if config.name == "inline":
        return contextlib.nullcontext(InlineExecutor(config))
    return DaskExecutor(config)


def _open_local(config: EngineConfig, stack: contextlib.ExitStack) -> Any:
    from dask import config as dask_config
    from distributed import Client, LocalCluster

    dask_config.set({"distributed.worker.preload": ["curate.core.worker_signals"]})
    cluster = LocalCluster(
        n_workers=config.num_workers or os.cpu_count() or 1,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=f"127.0.0.1:{config.dashboard_port}",
        silence_logs=False,
        memory_limit=0,  # the kernel's limits hold; a worker that dies is a try that failed
        resources={"GPU": config.gpus_per_worker} if config.gpus_per_worker else None,
    )
    stack.enter_context(cluster)
    return stack.enter_context(Client(cluster))


def _open_cluster(config: EngineConfig, stack: contextlib.ExitStack) -> Any:
    from distributed import Client

    try:
        client = Client(config.address, timeout=config.connect_s)
    except (OSError, TimeoutError) as error:
        raise StageError(
            f"engine.address: must be a Dask scheduler that runs, got {config.address} "
            f"({type(error).__name__}); start it with `dask scheduler`"
        ) from error
    stack.enter_context(client)
    _wait_for_workers(client, config)
    return client


def _open_slurm(config: EngineConfig, stack: contextlib.ExitStack) -> Any:
    from distributed import Client

    from curate.core.slurm import open_slurm_cluster

    cluster = stack.enter_context(open_slurm_cluster(config))
    client = stack.enter_context(Client(cluster))
    _wait_for_workers(client, config)
    return client


_OPENERS: Mapping[str, Callable[[EngineConfig, contextlib.ExitStack], Any]] = {
    "local": _open_local,
    "cluster": _open_cluster,
    "slurm": _open_slurm,
}


def _wait_for_workers(client: Any, config: EngineConfig) -> None:
    try:
        client.wait_for_workers(1, timeout=config.connect_s)
    except TimeoutError as error:
        raise StageError(
            f"engine: needs at least one worker, got none in {config.connect_s:g} s; start one "
            "with `dask worker ADDRESS`, or raise engine.connect_s"
        ) from error


def _check_workers(stage: str, hint: StageHint, workers: Any) -> None:
    """Refuse workers that run tasks side by side, and a hint that no worker can meet.

    Tasks set the threads of torch for their whole process, and Dask would wait for ever for a
    resource that nobody has.
    """
    widest = max((worker["nthreads"] for worker in workers), default=1)
    if widest > 1:
        raise StageError(
            f"engine: each worker must run one task at a time, got one with {widest} threads; "
            "start more workers with `dask worker --nthreads 1`"
        )
    most = max((worker.get("resources", {}).get("GPU", 0) for worker in workers), default=0)
    if hint.gpus > most:
        raise StageError(
            f"engine.hints.{stage}.gpus: must be at most what a worker has, got {hint.gpus:g} and "
            f"workers with GPU={most:g}; start one with `dask worker --resources GPU=1`"
        )


def _prepare_dask() -> None:
    """Set what `distributed` reads at its first import, here and in the worker processes."""
    # Dask's own log lines (workers that come and go) stay off the terminal.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    # A train.py or eval.py in the current folder must not shadow our packages in workers.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    from dask import config as dask_config

    # We count tries ourselves: one death of a worker is one failed try.
    dask_config.set({"distributed.scheduler.allowed-failures": 0})


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def _threads(stage: Stage[Any], hint: StageHint) -> Generator[None]:
    """Give a worker's stage the same number of threads in every process: sums depend on it.

    Stages that run in the client (training) choose their own.
    """
    if stage.runs_in == "client":
        yield
        return
    before = _set_threads(hint.threads)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(count: int) -> int:
    """Set the threads of torch, loaded or not yet; give what was set before."""
    torch = sys.modules.get("torch")
    before = int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
    if torch is not None:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
    return before


class _WorkerStage:
    """Keep the one stage this worker process has set up last."""

    token = ""
    stage: Stage[Any] | None = None


def _run_on_worker(
    stage: Stage[Any], job: Job, output: Output, hint: StageHint, patience: Patience
) -> Outcome:
    """Run in a worker: reuse the set-up stage while the run and the stage's config are the same."""
    run = output.claim.token if output.claim else output.store.url
    token = f"{run}:{stage.name}:{stage.version}:{stage.seed}:{stage.config!r}:{stage.models!r}"
    _set_threads(hint.threads)
    if _WorkerStage.token != token or _WorkerStage.stage is None:
        _WorkerStage.stage = None
        keep_freed_memory()
        stage.setup()
        _WorkerStage.stage, _WorkerStage.token = stage, token
    return run_with_tries(_WorkerStage.stage, job, output, patience)
