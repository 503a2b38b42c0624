"""Say what of a pipeline is done, what would run and why; refuse to build on what is not done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from curate.core.errors import StageError
from curate.core.manifest import SUMMARY, State, explain, finished_shards
from curate.core.shard import ShardSet
from curate.core.stage import plan_wave
from curate.core.store import open_store
from pipelines.benchmarks import check_benchmarks
from pipelines.blocklists import check_blocklists
from pipelines.config import RunConfig
from pipelines.judgeable import check_judgeable
from pipelines.measurable import check_measurable
from pipelines.request import Request, build_stage, reads_of
from pipelines.table import LEARNT, STAGES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Say how much of one stage is done and why the rest would run.

    Args:
        states: number of shards in each state.
        reasons: what changed -> number of stale shards that it concerns, most first.
        waits_for: the stage that has to run first; "" when none has to.
        closed: whether the stage has run to its end.
    """

    stage: str
    states: Mapping[State, int]
    reasons: Mapping[str, int]
    waits_for: str = ""
    closed: bool = True

    @property
    def fresh(self) -> bool:
        """Tell whether nothing of the stage would run; quarantined shards do not by themselves."""
        return not self.waits_for and not (self.states.keys() - {State.DONE, State.QUARANTINED})


def plan_request(request: Request) -> list[StagePlan]:
    """Plan every chosen stage, without running anything.

    Raises:
        ConfigError, DataError: the run would be refused, for its filter judges what nobody
            measures, or for its block lists or evaluation sets.
    """
    from pipelines.inputs import describe_input

    check_measurable(request)
    check_judgeable(request)
    check_blocklists(request)
    check_benchmarks(request)
    config = describe_input(request.config)
    plans: dict[str, StagePlan] = {}
    for name in [name for name in STAGES if name in request.config.stages]:
        plans[name] = _plan_stage(name, request, config, plans)
    return [plans[name] for name in request.chosen]


def check_inputs(request: Request, config: RunConfig) -> None:
    """Refuse to build on stages that are not part of this run and are not done for this config.

    With `keep_stale` finished outputs of another config are read as they are, and said; under
    `require_blocklist` only those of stages that hold no sample.

    Raises:
        StageError: with the stage and what changed.
    """
    reads = {other for name in request.chosen for other in reads_of(name, config)}
    needed = reads - set(request.chosen)
    plans: dict[str, StagePlan] = {}
    # A chosen stage is planned too: what it will change makes an outside stage after it stale.
    for name in [name for name in STAGES if name in config.stages]:
        if needed <= plans.keys():
            return
        plan = plans[name] = _plan_stage(name, request, config, plans)
        if name not in needed or (plan.fresh and plan.closed):
            continue
        why = "; ".join(list(plan.reasons)[:2]) or (
            f"{plan.waits_for} must run first" if plan.waits_for else "it has not run to its end"
        )
        if config.keep_stale and plan.closed and not _must_be_fresh(name, config):
            logger.warning("keep_stale: %s is read as it is, though %s", name, why)
            continue
        raise StageError(
            f"stage={','.join(request.chosen)}: needs {name} to be done for this config, got: "
            f"{why}; run `curate run pipeline={request.pipeline} stage={name}` first, leave out "
            "stage=, or read it as it is with keep_stale=true"
        )


def _must_be_fresh(name: str, config: RunConfig) -> bool:
    """Tell whether a stage's old output may hold samples that were held against no list."""
    return config.require_blocklist and name not in LEARNT


def _plan_stage(
    name: str, request: Request, config: RunConfig, plans: Mapping[str, StagePlan]
) -> StagePlan:
    store = open_store(config.out).child(name)
    closed = store.exists(SUMMARY)
    waiting = [other for other in reads_of(name, config) if other in plans]
    waiting = [other for other in waiting if not plans[other].fresh]
    if waiting:
        known = len(ShardSet(store).shards())
        stale = {State.STALE: known} if known else {}
        return StagePlan(stage=name, states=stale, reasons={}, waits_for=waiting[0], closed=closed)
    stage = build_stage(name, request.pipeline, config)
    states: Counter[State] = Counter()
    reasons: Counter[str] = Counter()
    planned: set[str] = set()
    for tasks in stage.waves():
        jobs = plan_wave(
            stage,
            tasks,
            store,
            retry_quarantined=config.retry_quarantined,
            retry_failed=config.retry_failed and name in request.chosen,
        )
        states.update(job.state for job in jobs)
        for job in jobs:
            reasons.update(explain(job.old, job.identity) if job.old else ())
        planned |= {job.task.shard for job in jobs}
        if any(job.state is not State.DONE for job in jobs if job.task.shard.startswith("_")):
            break  # what later waves hold depends on this one
    else:
        surplus = len(set(finished_shards(store)) - planned)
        states[State.STALE] += surplus
        reasons["shards that are no longer planned"] += surplus
    states, reasons = +states, +reasons  # without zeros
    return StagePlan(stage=name, states=states, reasons=dict(reasons.most_common()), closed=closed)
