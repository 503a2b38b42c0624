"""Run one task: in its own folder, again after an error, up to the commit or to giving up.

    run_task (worker): stage.run in a temporary folder -> sums checked -> commit
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
import shutil
import sys
import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.core.commit import Output, commit
from curate.core.disk_errors import naming_hopeless
from curate.core.errors import CurateError, ShardError
from curate.core.manifest import find_marker
from curate.core.stage import Job, Place, Stage

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
