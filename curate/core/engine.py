"""Run a stage's tasks: skip what is done, try, retry, quarantine, commit, and check the sums.

    run_stage (client): waves -> plan -> executor -> outcomes -> stage.json, last
    run_task (worker): stage.run in a temporary folder -> commit
    run_with_tries (worker): run_task, again after an error that may be the shard's or the moment's

What an error means:
    programming error (ImportError, NameError, TypeError, ...)   stops the run at once, as it is
    CurateError: config, input, model, store                     stops the run at once, in one line
    ShardError, MemoryError, any other                           tried again, then quarantined
    the worker process dies                                      tried again alone, then quarantined
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from curate.core.commit import Output, commit, remove_shard
from curate.core.disk_errors import naming_hopeless
from curate.core.errors import CurateError, ShardError
from curate.core.manifest import SUMMARY, State, find_marker, find_markers, finished_shards
from curate.core.quarantine import SUFFIX as QUARANTINE_SUFFIX
from curate.core.quarantine import Quarantine, find_quarantined, put_into_quarantine
from curate.core.stage import Job, Place, Stage, plan_wave
from curate.core.store import PARTIAL, Store

logger = logging.getLogger(__name__)

PROGRAMMING_ERRORS = (
    ImportError, NameError, TypeError, AttributeError, AssertionError, SyntaxError,
    NotImplementedError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Report one finished or given-up task; small, since it travels through the scheduler.

    Args:
        shard: name of the output shard.
        counts: what the task counted.
        seconds: wall time of the try that worked.
        causes: one line for each try that failed; when `gave_up`, of all tries.
        gave_up: whether the task goes into quarantine.
        traceback: of the last failed try.
    """

    shard: str
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    causes: tuple[str, ...] = ()
    gave_up: bool = False
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Say how often a failing task is tried.

    Args:
        tries: in all, before it is quarantined.
        pause_s: before the second try; doubled before each further one.
    """

    tries: int = 3
    pause_s: float = 0.5


class Executor(Protocol):
    """Run jobs of one stage, yielding outcomes in any order."""

    def run(self, stage: Stage[Any], jobs: Sequence[Job], output: Output) -> Iterator[Outcome]: ...


class Progress(Protocol):
    """Hear of a stage's progress."""

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """Sum up one stage: how many tasks ran, which are quarantined and why, what was counted.

    Args:
        complete: False when a quarantined task keeps later waves from running.
    """

    stage: str
    num_run: int
    num_skipped: int
    quarantined: Mapping[str, str]
    counts: Mapping[str, int]
    complete: bool


def run_stage(
    stage: Stage[Any],
    output: Output,
    executor: Executor,
    progress: Progress,
    *,
    retry_quarantined: bool = False,
    retry_failed: bool = False,
) -> StageReport:
    """Bring a stage's folder up to date: run what is absent or stale, skip what is done.

    Shards that the plan no longer names are removed, and `stage.json` (the list of shards and
    the summed counts) is written last; the next stage starts only when it is there. A quarantined
    task of the last wave leaves its shard out; one of an earlier wave ends the stage there. A retry
    that is given up leaves the shard as it was.

    Raises:
        CurateError: a failure that is not one shard's.
        Exception: a programming error, as it was raised.
    """
    store = output.store
    shards: dict[str, str] = {}
    counts: Counter[str] = Counter()
    quarantined: dict[str, str] = {}
    num_run = num_left_alone = 0
    for tasks in stage.waves():
        jobs = plan_wave(
            stage,
            tasks,
            store,
            retry_quarantined=retry_quarantined,
            retry_failed=retry_failed,
        )
        shards |= {job.task.shard: job.identity.fingerprint for job in jobs}
        before = {job.task.shard: job.counts for job in jobs if job.state is State.RETRY}
        for job in jobs:
            counts.update(job.counts if job.state is State.DONE else {})
        known = _known_quarantines(store, jobs)
        num_left_alone += len(known)
        quarantined |= known
        todo = [job for job in jobs if job.state in (State.ABSENT, State.STALE, State.RETRY)]
        if todo:
            store.delete(SUMMARY)
            progress.start(stage.name, todo=len(todo), done=len(jobs) - len(todo))
            for outcome in _run_all(stage, todo, output, executor):
                num_run += 1
                counts.update(outcome.counts)
                if outcome.gave_up and outcome.shard in before:
                    logger.warning("%s is left as it was: %s", outcome.shard, outcome.causes[-1])
                    counts.update(before[outcome.shard])
                elif outcome.gave_up:
                    quarantined[outcome.shard] = _give_up(output, outcome, shards[outcome.shard])
                progress.advance(outcome)
            progress.finish()
        if any(shard.startswith("_") for shard in quarantined):
            break  # helper shards are what a later wave is made from
    report = StageReport(
        stage=stage.name,
        num_run=num_run,
        num_skipped=len(shards) - num_run - num_left_alone,
        quarantined=dict(sorted(quarantined.items())),
        counts=dict(sorted(counts.items())),
        complete=not any(shard.startswith("_") for shard in quarantined),
    )
    if report.complete:
        check_taken(stage, report)
        with output.changing():
            _close_stage(stage, output, shards, report)
    return report


def run_with_tries(
    stage: Stage[Any], job: Job, output: Output, patience: Patience = Patience()
) -> Outcome:
    """Run one task, again after an error that may be the shard's own or the moment's.

    Returns:
        The outcome; `gave_up` when every try failed.

    Raises:
        CurateError: a failure that would meet every task.
        Exception: a programming error, as it was raised.
    """
    causes: list[str] = []
    trace = ""
    while len(causes) < patience.tries:
        if causes:
            time.sleep(patience.pause_s * 2 ** (len(causes) - 1))
        try:
            outcome = run_task(stage, job, output)
            return dataclasses.replace(outcome, causes=tuple(causes), traceback=trace)
        except Exception as error:
            if _stops_the_run(error):
                raise
            causes.append(_one_line(error))
            trace = traceback.format_exc()
    return Outcome(shard=job.task.shard, causes=tuple(causes), gave_up=True, traceback=trace)


def run_task(stage: Stage[Any], job: Job, output: Output) -> Outcome:
    """Run one task in its own temporary folder and commit what it wrote."""
    start = time.monotonic()
    shard, fingerprint = job.task.shard, job.identity.fingerprint
    with naming_hopeless(str(output.work)), _alone(output.work, shard):
        done = find_marker(output.store, shard)
        is_done = done is not None and done.fingerprint == fingerprint
        if done is not None and is_done and done.digest != job.replaces:  # a twin was faster
            return Outcome(shard=shard, counts=done.counts)
        work = output.work / f"{shard}-{fingerprint[:16]}"
        place = Place(out=work / "out", scratch=work / "scratch")
        shutil.rmtree(place.out, ignore_errors=True)
        place.out.mkdir(parents=True)
        place.scratch.mkdir(parents=True, exist_ok=True)
        try:
            counts = dict(sorted(stage.run(job.task, place).items()))
            check_sums(stage.name, shard, counts)
            commit(place.out, output, shard, job.identity, counts)
        except BaseException:
            shutil.rmtree(place.out, ignore_errors=True)  # scratch stays: the next try goes on
            raise
        finally:
            _drop_copies()
        shutil.rmtree(work)
    return Outcome(shard=shard, counts=counts, seconds=time.monotonic() - start)


def check_sums(stage: str, shard: str, counts: Mapping[str, int]) -> None:
    """Check that no sample was lost or doubled: in = kept + dropped + failed.

    Raises:
        AssertionError: the stage's own counting is wrong, which is a programming error.
    """
    parts = sum(n for name, n in counts.items() if name.startswith(("dropped.", "failed.")))
    seen, kept = counts.get("in", 0), counts.get("kept", 0)
    assert seen == kept + parts, (
        f"{stage} {shard}: in must equal kept + dropped + failed, "
        f"got {seen} != {kept} + {parts} ({dict(counts)})"
    )


def check_taken(stage: Stage[Any], report: StageReport) -> None:
    """Check that a stage took every sample that the stage before passed on.

    Shards that an input lacks are left out, as the stage leaves them out; where a shard of the
    stage's own was given up, what it held is not known and nothing is checked.

    Raises:
        AssertionError: samples were lost or doubled between two stages.
    """
    if stage.takes is None or report.quarantined:
        return
    name, field_name = stage.takes
    shards = set[str].intersection(*(set(given.shards()) for given in stage.inputs.values()))
    markers = find_markers(stage.inputs[name].store, sorted(shards))
    passed = sum(marker.counts.get(field_name, 0) for _, marker in markers if marker)
    seen = report.counts.get("in", 0)
    assert seen == passed, (
        f"{stage.name}: must take all that {name} passed on, got {seen} of {passed} samples"
    )


def _run_all(
    stage: Stage[Any], todo: Sequence[Job], output: Output, executor: Executor
) -> Iterator[Outcome]:
    """Yield one outcome for each job."""
    missing = {job.task.shard for job in todo}
    for outcome in executor.run(stage, todo, output):
        assert outcome.shard in missing, f"{stage.name}: {outcome.shard} came back twice"
        missing.remove(outcome.shard)
        yield outcome
    assert not missing, f"{stage.name}: the executor forgot shards {sorted(missing)[:5]}"


def _known_quarantines(store: Store, jobs: Sequence[Job]) -> dict[str, str]:
    shards = [job.task.shard for job in jobs if job.state is State.QUARANTINED]
    known = find_quarantined(store) if shards else {}
    return {shard: known[shard].line for shard in shards}


def _give_up(output: Output, outcome: Outcome, fingerprint: str) -> str:
    """Put a task into quarantine; what an earlier config left of its shard goes."""
    quarantine = Quarantine(
        fingerprint=fingerprint, causes=outcome.causes, traceback=outcome.traceback
    )
    with output.changing():
        remove_shard(output.store, outcome.shard)
        put_into_quarantine(output.store, outcome.shard, quarantine)
    return quarantine.line


def _close_stage(
    stage: Stage[Any], output: Output, shards: Mapping[str, str], report: StageReport
) -> None:
    """Remove what the plan no longer names and write the list of what is there."""
    store = output.store
    for shard in finished_shards(store):
        if shard not in shards:
            remove_shard(store, shard)
    for name in store.names(PARTIAL):
        store.delete(name)
    for name in store.names(QUARANTINE_SUFFIX):
        if name.removesuffix(QUARANTINE_SUFFIX) not in report.quarantined:
            store.delete(name)
    shutil.rmtree(output.work, ignore_errors=True)
    summary = {
        "stage": stage.name,
        "version": stage.version,
        "shards": shards,
        "quarantined": report.quarantined,
        "counts": report.counts,
    }
    data = (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode()
    if not store.exists(SUMMARY) or store.read(SUMMARY) != data:
        store.write(SUMMARY, data)


@contextlib.contextmanager
def _alone(work: Path, shard: str) -> Generator[None]:
    """Wait for a worker of an earlier run, or a twin of this task, that is still at this shard."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{shard}.lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _drop_copies() -> None:
    """Remove what this task fetched from object stores, if it has touched any."""
    if copies := sys.modules.get("curate.core.remote_copies"):
        copies.drop_copies()


def _stops_the_run(error: Exception) -> bool:
    """Tell errors that would meet every task from those of a shard, a machine or the moment."""
    if isinstance(error, CurateError):
        return not isinstance(error, ShardError)
    return isinstance(error, PROGRAMMING_ERRORS)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
