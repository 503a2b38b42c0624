"""Build the report stage: hand it what only the pipeline knows (thresholds, command, config)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from curate.core.config import to_yaml
from curate.core.model_ref import ModelRef
from curate.core.quarantine import find_quarantined
from curate.core.shard import ShardSet
from curate.stages.filter_cuts import column_judged
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
        rules=[
            Rule(reason=name, column=column_judged(name, bounds), min=bounds.min, max=bounds.max)
            for name, bounds in config.filter.active_rules().items()
        ],
        quarantined={
            f"{stage}/{shard}": item.line
            for stage, shards in inputs.items()
            for shard, item in find_quarantined(shards.store).items()
        },
    )
    return ReportStage(config.report, inputs, models, config.seed, context=context)


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
        sample=dataclasses.replace(config.sample, prompts=""),
    )
