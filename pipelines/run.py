"""Run or plan a pipeline: resolve the config, order the stages, keep `out` to one pipeline.

presets + overrides -> RunConfig -> select stages -> for each: build, check inputs, run_stage
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.config import load_config, to_yaml
from curate.core.errors import ConfigError, StageError
from curate.core.executor import open_executor
from curate.core.manifest import State, explain, find_marker
from curate.core.shard import ShardSet
from curate.core.stage import (
    SUMMARY,
    Progress,
    Stage,
    StageReport,
    plan_wave,
    run_stage,
    write_text_atomic,
)
from curate.models.packs import ModelRef, load_pack
from pipelines.config import RunConfig
from pipelines.inspect import RUN_FILE
from pipelines.table import STAGES, Parts

BASE = "base"
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hold what a command line asked for: the pipeline, the resolved config, the chosen stages."""

    pipeline: str
    config: RunConfig
    chosen: tuple[str, ...]

    @property
    def out(self) -> Path:
        """Give the folder of all outputs."""
        return Path(self.config.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Say how much of one stage is done and why the rest would run."""

    stage: str
    states: Mapping[str, State]
    reasons: tuple[str, ...]
    waits_for: str = ""

    @property
    def fresh(self) -> bool:
        """Tell whether nothing of the stage would run."""
        return not self.waits_for and all(state is State.DONE for state in self.states.values())


def preset_names() -> list[str]:
    """List the pipelines that have a preset."""
    folder = importlib.resources.files("pipelines") / "presets"
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def parse_request(arguments: Sequence[str]) -> Request:
    """Resolve `pipeline=`, `stage=` and the overrides of a command line.

    Raises:
        ConfigError: an unknown pipeline, stage or key, or a value out of range.
    """
    named = dict(text.split("=", 1) for text in arguments if "=" in text)
    overrides = [text for text in arguments if text.split("=", 1)[0] not in ("pipeline", "stage")]
    pipeline = named.get("pipeline", BASE)
    if pipeline not in preset_names():
        raise ConfigError(
            f"pipeline: must be one of {', '.join(preset_names())}, got {pipeline!r}; choose one"
        )
    folder = Path(str(importlib.resources.files("pipelines"))) / "presets"
    presets = [folder / f"{name}.yaml" for name in dict.fromkeys([BASE, pipeline])]
    config = load_config(RunConfig, presets, overrides)
    unknown = sorted(set(config.stages) - set(STAGES))
    if unknown:
        raise ConfigError(
            f"stages: must be among {', '.join(STAGES)}, got {unknown[0]!r}; fix the name"
        )
    chosen = _choose(named.get("stage", ""), [name for name in STAGES if name in config.stages])
    return Request(pipeline=pipeline, config=config, chosen=tuple(chosen))


def run_request(request: Request, progress: Progress) -> list[StageReport]:
    """Run the chosen stages in order.

    Raises:
        CurateError: bad input, an input stage that is not done, or a failed stage.
    """
    from pipelines.inputs import open_input

    for name in request.chosen:
        _models(name, request.config.models)  # a missing pack is said now, not an hour later
    _claim_out(request)
    reports: list[StageReport] = []
    with open_input(request.config) as config, open_executor(config.engine) as executor:
        _check_inputs(request, config)
        for name in request.chosen:
            stage = build_stage(name, request.pipeline, config)
            report = run_stage(stage, Path(config.out) / name, executor, progress)
            reports.append(report)
            if report.quarantined:
                break  # what depends on it would be built on a part
    return reports


def plan_request(request: Request) -> list[StagePlan]:
    """Say for each chosen stage what would run and why, without running anything."""
    from pipelines.inputs import describe_input

    config = describe_input(request.config)
    plans: dict[str, StagePlan] = {}
    for name in [name for name in STAGES if name in request.config.stages]:
        plans[name] = _plan_stage(name, request.pipeline, config, plans)
    return [plans[name] for name in request.chosen]


def reads_of(name: str, config: RunConfig) -> list[str]:
    """List the stages whose outputs a stage reads in this pipeline."""
    spec = STAGES[name]
    return [*spec.reads, *(other for other in spec.may_read if other in config.stages)]


def build_stage(name: str, pipeline: str, config: RunConfig) -> Stage[Any]:
    """Build a stage over the output folders of the stages it reads."""
    out = Path(config.out)
    inputs = {other: ShardSet(out / other) for other in reads_of(name, config)}
    models = _models(name, config.models)
    return STAGES[name].build(
        Parts(
            pipeline=pipeline,
            config=config,
            inputs=inputs,
            models=models,
            own=ShardSet(out / name),
        )
    )


def _models(name: str, pack_name: str) -> dict[str, ModelRef]:
    spec = STAGES[name]
    if not spec.roles and not spec.required_roles:
        return {}
    pack = load_pack(pack_name)
    for role in spec.required_roles:
        if role not in pack:
            raise ConfigError(
                f"models: stage {name} needs a {role}, which pack {pack_name!r} lacks; "
                "choose another pack"
            )
    return {role: pack[role] for role in (*spec.roles, *spec.required_roles) if role in pack}


def _plan_stage(
    name: str, pipeline: str, config: RunConfig, plans: Mapping[str, StagePlan]
) -> StagePlan:
    needed = reads_of(name, config)
    waiting = [other for other in needed if other in plans and not plans[other].fresh]
    folder = Path(config.out) / name
    if waiting:
        known = {shard: State.STALE for shard in ShardSet(folder).shards()}
        return StagePlan(stage=name, states=known, reasons=(), waits_for=waiting[0])
    stage = build_stage(name, pipeline, config)
    states: dict[str, State] = {}
    reasons: dict[str, None] = {}
    for tasks in stage.waves():
        jobs = plan_wave(stage, tasks, folder)
        states |= {job.task.shard: job.state for job in jobs}
        for job in jobs:
            marker = find_marker(folder, job.task.shard)
            if marker is not None and job.state is State.STALE:
                reasons |= dict.fromkeys(explain(marker.identity, job.identity))
        if any(job.state is not State.DONE for job in jobs):
            break  # what later waves hold depends on this one
    return StagePlan(stage=name, states=states, reasons=tuple(reasons))


def _check_inputs(request: Request, config: RunConfig) -> None:
    """Refuse to build on stages that are not part of this run and are not done for this config."""
    outside = [name for name in STAGES if name in config.stages and name not in request.chosen]
    needed = {other for name in request.chosen for other in reads_of(name, config)} & set(outside)
    plans: dict[str, StagePlan] = {}
    for name in outside:
        if needed <= plans.keys():
            return
        plan = plans[name] = _plan_stage(name, request.pipeline, config, plans)
        complete = (Path(config.out) / name / SUMMARY).exists()
        if name in needed and not (plan.fresh and complete):
            why = "; ".join(plan.reasons[:2]) or "it has not run to its end"
            raise StageError(
                f"stage={','.join(request.chosen)}: needs {name} to be done for this config, "
                f"got: {why}; run `curate run pipeline={request.pipeline} stage={name}` first, "
                "or leave out stage="
            )


def _choose(text: str, available: Sequence[str]) -> list[str]:
    """Read `a,b` or `a..b`; nothing means all."""
    if not text:
        return list(available)
    chosen: set[str] = set()
    for part in text.split(","):
        first, dots, last = part.partition("..")
        for name in (first, last) if dots else (first,):
            if name not in available:
                raise ConfigError(
                    f"stage: must be among {', '.join(available) or 'none (set stages=)'}, "
                    f"got {name!r}; fix the name"
                )
        start = available.index(first)
        stop = available.index(last) if dots else start
        if stop < start:
            raise ConfigError(f"stage: a range goes downstream, got {part!r}; swap its ends")
        chosen |= set(available[start : stop + 1])
    return [name for name in available if name in chosen]


def _claim_out(request: Request) -> None:
    """Write what the folder belongs to, or refuse when it belongs to another pipeline."""
    path = request.out / RUN_FILE
    if path.exists():
        owner = json.loads(path.read_text()).get("pipeline")
        if owner != request.pipeline:
            raise ConfigError(
                f"out: must be empty or belong to pipeline={request.pipeline}, got {request.out} "
                f"of pipeline={owner}; set out=DIR to another folder"
            )
    elif request.out.exists() and any(request.out.iterdir()):
        raise ConfigError(
            f"out: must be empty or made by curate, got {request.out} with other files; set out=DIR"
        )
    request.out.mkdir(parents=True, exist_ok=True)
    stages = [name for name in STAGES if name in request.config.stages]
    text = json.dumps({"pipeline": request.pipeline, "stages": stages}, indent=1) + "\n"
    write_text_atomic(path, text)
    write_text_atomic(request.out / CONFIG_FILE, to_yaml(request.config))
