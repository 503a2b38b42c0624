"""Build the report stage: hand it what only the pipeline knows (thresholds, command, config)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from curate.core.config import to_yaml
from curate.core.model_ref import ModelRef
from curate.core.quarantine import find_quarantined
from curate.core.shard import ShardSet
from curate.stages.rules_in_force import put_in_force
from curate.stages.score_rule import ScoreRule
from curate.stages.verdicts import finished_rules
from eval.curation import Rule
from eval.report import ReportContext, ReportStage
from pipelines.config import RunConfig


def build_report(
    config: RunConfig,
    pipeline: str,
    inputs: Mapping[str, ShardSet],
    models: Mapping[str, ModelRef],
) -> ReportStage:
    """Make the stage with its context; paths and engine do not enter the page."""
    context = ReportContext(
        pipeline=pipeline,
        command=f"curate run pipeline={pipeline} seed={config.seed}",
        config_yaml=to_yaml(_portable(config)),
        rules=list(_rules(config, inputs.get("filter"))),
        quarantined={
            f"{stage}/{shard}": item.line
            for stage, shards in inputs.items()
            for shard, item in find_quarantined(shards.store).items()
        },
    )
    return ReportStage(config.report, inputs, models, config.seed, context=context)


def _rules(config: RunConfig, filtered: ShardSet | None) -> Iterator[Rule]:
    """Give the thresholds that were in force; the loosest, where they hang on the language."""
    shards = filtered.shards() if filtered else []
    found = (
        finished_rules(filtered, shards[0])
        if filtered and shards
        else put_in_force(config.filter, {})
    )
    for rule in found:
        if isinstance(rule, ScoreRule):
            low = min(limit.low for limit in rule.limits())
            high = max(limit.high for limit in rule.limits())
            if math.isfinite(low) or math.isfinite(high):
                yield Rule(
                    reason=rule.name,
                    column=rule.column,
                    min=low if math.isfinite(low) else None,
                    max=high if math.isfinite(high) else None,
                )


def _portable(config: RunConfig) -> RunConfig:
    """Leave out what names this machine or does not change a byte."""
    default = RunConfig()
    return dataclasses.replace(
        config,
        input="",
        out=default.out,
        debug=default.debug,
        keep_stale=default.keep_stale,
        retry_quarantined=default.retry_quarantined,
        retry_failed=default.retry_failed,
        engine=default.engine,
        ingest=dataclasses.replace(config.ingest, source="", takedowns="", proxy=""),
        filter=dataclasses.replace(config.filter, uids=Path(config.filter.uids).name),
        sample=dataclasses.replace(config.sample, prompts=""),
    )
