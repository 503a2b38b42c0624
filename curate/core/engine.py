"""Run a stage's tasks: skip what is done, try, retry, quarantine, commit, and check the sums.

run_stage (client): waves -> plan -> executor -> outcomes -> stage.json, last
attempt.py (worker): one task, with its tries and its commit
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from curate.core.attempt import Outcome
from curate.core.commit import Output, remove_shard
from curate.core.manifest import SUMMARY, State, find_markers, finished_shards
from curate.core.quarantine import SUFFIX as QUARANTINE_SUFFIX
from curate.core.quarantine import Quarantine, find_quarantined, put_into_quarantine
from curate.core.stage import Job, Stage, plan_wave
from curate.core.store import PARTIAL, Store

logger = logging.getLogger(__name__)


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
        troubles: what else went wrong, a line each; the run goes on and ends as with quarantines.
    """

    stage: str
    num_run: int
    num_skipped: int
    quarantined: Mapping[str, str]
    counts: Mapping[str, int]
    complete: bool
    troubles: Sequence[str] = ()


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
    tally = _Tally()
    for tasks in stage.waves():
        jobs = plan_wave(
            stage,
            tasks,
            output.store,
            retry_quarantined=retry_quarantined,
            retry_failed=retry_failed,
        )
        _run_wave(stage, jobs, output, executor, progress, tally)
        if not tally.complete:
            break  # helper shards are what a later wave is made from
    report = tally.report(stage.name)
    if report.complete:
        check_taken(stage, report)
        with output.changing():
            _close_stage(stage, output, tally.shards, report)
    return report


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Add up a stage's waves: shards with their fingerprints, counts, what was given up."""

    shards: dict[str, str] = field(default_factory=dict[str, str])
    counts: Counter[str] = field(default_factory=Counter[str])
    quarantined: dict[str, str] = field(default_factory=dict[str, str])
    num_run: int = 0
    num_left_alone: int = 0

    @property
    def complete(self) -> bool:
        return not any(shard.startswith("_") for shard in self.quarantined)

    def report(self, stage: str) -> StageReport:
        return StageReport(
            stage=stage,
            num_run=self.num_run,
            num_skipped=len(self.shards) - self.num_run - self.num_left_alone,
            quarantined=dict(sorted(self.quarantined.items())),
            counts=dict(sorted(self.counts.items())),
            complete=self.complete,
        )


def _run_wave(
    stage: Stage[Any],
    jobs: Sequence[Job],
    output: Output,
    executor: Executor,
    progress: Progress,
    tally: _Tally,
) -> None:
    """Run what is to do of a wave and add all of it to the tally."""
    known = _known_quarantines(output.store, jobs)
    tally.num_left_alone += len(known)
    tally.quarantined |= known
    tally.shards |= {job.task.shard: job.identity.fingerprint for job in jobs}
    for job in jobs:
        tally.counts.update(job.counts if job.state is State.DONE else {})
    todo = [job for job in jobs if job.state in (State.ABSENT, State.STALE, State.RETRY)]
    if not todo:
        return
    before = {job.task.shard: job.counts for job in todo if job.state is State.RETRY}
    output.store.delete(SUMMARY)
    progress.start(stage.name, todo=len(todo), done=len(jobs) - len(todo))
    for outcome in _run_all(stage, todo, output, executor):
        shard = outcome.shard
        tally.num_run += 1
        tally.counts.update(outcome.counts)
        if outcome.gave_up and shard in before:
            logger.warning("%s is left as it was: %s", shard, outcome.causes[-1])
            tally.counts.update(before[shard])
        elif outcome.gave_up:
            tally.quarantined[shard] = _give_up(output, outcome, tally.shards[shard])
        progress.advance(outcome)
    progress.finish()


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
