"""Run or plan a pipeline: resolve the config, order the stages, keep `out` to one pipeline.

presets + overrides -> RunConfig -> select stages -> for each: build, check inputs, run_stage
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.commit import Output
from curate.core.config import load_config, to_yaml
from curate.core.disk_errors import naming_hopeless
from curate.core.engine import Progress, StageReport, run_stage
from curate.core.errors import ConfigError
from curate.core.executor import open_executor
from curate.core.lock import claim_out
from curate.core.shard import ShardSet
from curate.core.stage import Stage
from curate.core.store import PARTIAL, Store, open_store
from curate.models.packs import ModelRef, load_pack
from pipelines.config import TOYWEB, RunConfig
from pipelines.inspect import RUN_FILE
from pipelines.progress import LiveFile, MetricsFile, Together
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
    def out(self) -> Store:
        """Give the folder of all outputs."""
        return open_store(self.config.out)


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
    strangers = sorted(set(config.engine.hints) - set(STAGES))
    if strangers:
        raise ConfigError(
            f"engine.hints: must be for stages ({', '.join(STAGES)}), got {strangers[0]!r}; "
            "fix the name"
        )
    chosen = _choose(named.get("stage", ""), [name for name in STAGES if name in config.stages])
    return Request(pipeline=pipeline, config=_absolute(config), chosen=tuple(chosen))


def run_request(
    request: Request, shown: Progress, prepare: Callable[[], None] | None = None
) -> list[StageReport]:
    """Run the chosen stages in order, as the only run on this `out`.

    A run goes on without quarantined shards; it ends where a helper shard is one.

    Args:
        request: what to run.
        shown: hears of progress beside the files that record it.
        prepare: called once `out` is owned and the inputs are checked.

    Raises:
        CurateError: bad input, an `out` in use, an input stage that is not done, a failed stage.
    """
    from pipelines.inputs import open_input
    from pipelines.plan import check_inputs

    for name in request.chosen:
        _models(name, request.config.models)  # a missing pack is said now, not an hour later
    check_owner(request)
    reports: list[StageReport] = []
    with naming_hopeless(request.out.url), claim_out(request.out) as claim:
        write_run_files(request)
        progress = Together([shown, LiveFile(request.out), MetricsFile(request.out)])
        with open_input(request.config) as config, open_executor(config.engine) as executor:
            check_inputs(request, config)
            if prepare:
                prepare()
            for name in request.chosen:
                report = run_stage(
                    build_stage(name, request.pipeline, config),
                    Output(store=request.out.child(name), claim=claim),
                    executor,
                    progress,
                    retry_quarantined=config.retry_quarantined,
                )
                reports.append(report)
                if not report.complete:
                    break
    return reports


def reads_of(name: str, config: RunConfig) -> list[str]:
    """List the stages whose outputs a stage reads in this pipeline."""
    spec = STAGES[name]
    return [*spec.reads, *(other for other in spec.may_read if other in config.stages)]


def build_stage(name: str, pipeline: str, config: RunConfig) -> Stage[Any]:
    """Build a stage over the output folders of the stages it reads."""
    out = open_store(config.out)
    inputs = {other: ShardSet(out.child(other)) for other in reads_of(name, config)}
    models = _models(name, config.models)
    return STAGES[name].build(
        Parts(
            pipeline=pipeline,
            config=config,
            inputs=inputs,
            models=models,
            own=ShardSet(out.child(name)),
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


def _absolute(config: RunConfig) -> RunConfig:
    """Make paths absolute where workers have another current folder than this process."""
    if config.engine.name not in ("cluster", "slurm"):
        return config
    paths = {name: getattr(config, name) for name in ("input", "out")}
    local = {name: str(Path(path).absolute()) for name, path in paths.items() if "://" not in path}
    if config.input in ("", TOYWEB):
        local["input"] = config.input
    return dataclasses.replace(config, **local)


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


def check_owner(request: Request) -> None:
    """Refuse an `out` that belongs to another pipeline or to something else.

    Raises:
        ConfigError: with what the folder holds.
    """
    if request.out.exists(RUN_FILE):
        owner = json.loads(request.out.read(RUN_FILE)).get("pipeline")
        if owner != request.pipeline:
            raise ConfigError(
                f"out: must be empty or belong to pipeline={request.pipeline}, got "
                f"{request.out.url} of pipeline={owner}; set out=DIR to another folder"
            )
    elif not request.out.is_empty():
        raise ConfigError(
            f"out: must be empty or made by curate, got {request.out.url} with other files; "
            "set out=DIR"
        )


def write_run_files(request: Request) -> None:
    """Write what `out` belongs to and the resolved config."""
    stages = [name for name in STAGES if name in request.config.stages]
    text = json.dumps({"pipeline": request.pipeline, "stages": stages}, indent=1) + "\n"
    with naming_hopeless(request.out.url, writing=True):
        for name in request.out.names(PARTIAL):
            request.out.delete(name)
        request.out.write(RUN_FILE, text.encode())
        request.out.write(CONFIG_FILE, to_yaml(request.config).encode())
