"""Read what a command line asks for: presets + overrides -> config -> stages, ready to build."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from curate.core.config import load_config
from curate.core.errors import ConfigError
from curate.core.shard import ShardSet
from curate.core.stage import Stage
from curate.core.store import Store, open_store
from curate.core.withheld import BLOCKLIST
from curate.models.packs import ModelRef, load_pack
from pipelines.config import TOYWEB, RunConfig
from pipelines.inspect import CONFIG_FILE, read_run
from pipelines.table import STAGES, Parts

BASE, DECONTAMINATE = "base", "decontaminate"
_PRESETS = Path(str(importlib.resources.files("pipelines"))) / "presets"
_NOT_CONFIG = ("pipeline", "filter_preset", "stage")  # keys of the command line alone
_CONDITIONS = ("filter.where",)  # keys whose values are taken as they are written


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
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def filter_preset_names() -> list[str]:
    """List the presets of filter's thresholds, for `filter_preset=`."""
    return sorted(path.stem for path in (_PRESETS / "filters").glob("*.yaml"))


def parse_request(arguments: Sequence[str]) -> Request:
    """Resolve `pipeline=`, `filter_preset=`, `stage=` and the overrides of a command line.

    Later ones win: base < pipeline < filter presets, in the order given < overrides.

    Raises:
        ConfigError: an unknown pipeline, preset, stage or key, or a value out of range.
    """
    named = dict(text.split("=", 1) for text in arguments if "=" in text)
    overrides = [_quoted(text) for text in arguments if text.split("=", 1)[0] not in _NOT_CONFIG]
    pipeline = named.get("pipeline", BASE)
    if pipeline not in preset_names():
        raise ConfigError(
            f"pipeline: must be one of {', '.join(preset_names())}, got {pipeline!r}; choose one"
        )
    presets = [_PRESETS / f"{name}.yaml" for name in dict.fromkeys([BASE, pipeline])]
    presets += _filter_presets(named.get("filter_preset", ""))
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
    config = _with_decontaminate(_with_blocklist(config))
    chosen = _choose(named.get("stage", ""), [name for name in STAGES if name in config.stages])
    return Request(pipeline=pipeline, config=_absolute(config), chosen=tuple(chosen))


def reopen_request(out: Store, stages: Collection[str]) -> Request:
    """Ask for some stages of a run again, with the config that its folder keeps.

    Raises:
        ConfigError: the folder was not made by curate.
    """
    run = read_run(out)
    config = load_config(RunConfig, [out.local_path(CONFIG_FILE)], [f"out={out.url}"])
    chosen = tuple(name for name in run["stages"] if name in stages)
    return Request(pipeline=run["pipeline"], config=config, chosen=chosen)


def reads_of(name: str, config: RunConfig) -> list[str]:
    """List the stages whose outputs a stage reads in this pipeline."""
    spec = STAGES[name]
    return [*spec.reads, *(other for other in spec.may_read if other in config.stages)]


def build_stage(name: str, pipeline: str, config: RunConfig) -> Stage[Any]:
    """Build a stage over the output folders of the stages it reads."""
    out = open_store(config.out)
    inputs = {other: ShardSet(out.child(other)) for other in reads_of(name, config)}
    models = find_models(name, config.models, config.models_folder)
    return STAGES[name].build(
        Parts(
            pipeline=pipeline,
            config=config,
            inputs=inputs,
            models=models,
            own=ShardSet(out.child(name)),
        )
    )


def find_models(name: str, pack_name: str, folder: str = "") -> dict[str, ModelRef]:
    """Give the models of the pack that a stage uses, by role.

    Raises:
        ConfigError: the pack lacks one that the stage needs.
        ModelError: the pack is unknown, or its files are missing.
    """
    spec = STAGES[name]
    if not spec.roles and not spec.required_roles:
        return {}
    pack = load_pack(pack_name, folder)
    for role in spec.required_roles:
        if role not in pack:
            raise ConfigError(
                f"models: stage {name} needs a {role}, which pack {pack_name!r} lacks; "
                "choose another pack"
            )
    wanted = (*spec.roles, *spec.required_roles)
    return {r: ref for r, ref in pack.items() if any(fnmatchcase(r, one) for one in wanted)}


def _quoted(text: str) -> str:
    """Keep YAML from reading a condition: quotes, colons and # have their own meaning there."""
    key, equals, value = text.partition("=")
    return f"{key}={json.dumps(value)}" if equals and key in _CONDITIONS else text


def _filter_presets(text: str) -> list[Path]:
    """Find the presets of `filter_preset=A,B`."""
    names = text.split(",") if text else []
    for name in names:
        if name not in filter_preset_names():
            raise ConfigError(
                f"filter_preset: must be among {', '.join(filter_preset_names())}, got {name!r}; "
                "fix the name"
            )
    return [_PRESETS / "filters" / f"{name}.yaml" for name in names]


def _with_blocklist(config: RunConfig) -> RunConfig:
    """Add the stage blocklist where lists are given: no preset has to name it."""
    if BLOCKLIST in config.stages or not config.blocklist.lists:
        return config
    return dataclasses.replace(config, stages=[*config.stages, BLOCKLIST])


def _with_decontaminate(config: RunConfig) -> RunConfig:
    """Add the stage decontaminate where benchmarks are given."""
    if DECONTAMINATE in config.stages or not config.decontaminate.benchmarks:
        return config
    return dataclasses.replace(config, stages=[*config.stages, DECONTAMINATE])


def _absolute(config: RunConfig) -> RunConfig:
    """Make paths absolute where workers have another current folder than this process."""
    if config.engine.name not in ("cluster", "slurm"):
        return config
    paths = {name: getattr(config, name) for name in ("input", "out")}
    local: dict[str, Any] = {
        name: str(Path(path).absolute()) for name, path in paths.items() if "://" not in path
    }
    if config.input in ("", TOYWEB):
        local["input"] = config.input
    if uids := config.filter.uids:
        local["filter"] = dataclasses.replace(config.filter, uids=str(Path(uids).absolute()))
    lists = {
        name: dataclasses.replace(item, path=str(Path(item.path).absolute()))
        for name, item in config.blocklist.lists.items()
    }
    local["blocklist"] = dataclasses.replace(config.blocklist, lists=lists)
    benchmarks = {
        name: dataclasses.replace(
            item, pictures=_whole_path(item.pictures), prompts=_whole_path(item.prompts)
        )
        for name, item in config.decontaminate.benchmarks.items()
    }
    local["decontaminate"] = dataclasses.replace(config.decontaminate, benchmarks=benchmarks)
    return dataclasses.replace(config, **local)


def _whole_path(path: str) -> str:
    return str(Path(path).absolute()) if path and "://" not in path else path


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
