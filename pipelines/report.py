"""Build the report stage: hand it what only pipelines knows (rules, statuses, command, config)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.core.config import to_yaml
from curate.core.model_ref import ModelRef
from curate.core.quarantine import find_quarantined
from curate.core.shard import ShardSet
from curate.sources.statuses import failure_of, is_transient
from curate.stages.filtering.rule_effects import Neighbour, RuleEffect, measure_effects
from curate.stages.filtering.rules import RULES
from curate.stages.filtering.rules_in_force import RuleInForce, put_in_force
from curate.stages.filtering.score_rule import ScoreRule
from curate.stages.filtering.verdicts import finished_rules
from curate.stages.matching.benchmark_config import DecontaminateConfig
from curate.stages.matching.blocklist_config import BlocklistConfig
from eval.funnel import count_stage
from eval.report import ReportContext, ReportStage
from eval.report_ingest import Meaning
from eval.report_rules import GroupChange, NearSample, RuleFacts
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
        rules={rule.name: _limits(rule) for rule in _rules(config, inputs.get("filter"))},
        meanings=explain_failures(inputs["ingest"]) if "ingest" in inputs else {},
        quarantined={
            f"{stage}/{shard}": item.line
            for stage, shards in inputs.items()
            for shard, item in find_quarantined(shards.store).items()
        },
        batch_size=config.train.batch_size,
    )
    return ReportStage(
        config.report,
        inputs,
        models,
        config.seed,
        context=context,
        measure_rules=lambda: measure_rules(inputs),
    )


def explain_failures(ingest: ShardSet) -> dict[str, Meaning]:
    """Say what each status means that ingest counted."""
    names = (name.removeprefix("failed.") for name in sorted(count_stage(ingest)))
    found = {name: failure_of(name) for name in names}
    return {
        name: Meaning(sentence=failure.sentence, is_fetched_again=is_transient(name))
        for name, failure in found.items()
        if failure
    }


def measure_rules(inputs: Mapping[str, ShardSet]) -> list[RuleFacts]:
    """Measure what each rule of a finished filter does; none without filter or its columns."""
    if not {"annotate", "filter"} <= inputs.keys():
        return []
    return [_facts(effect) for effect in measure_effects(inputs, inputs["filter"])]


def _facts(effect: RuleEffect) -> RuleFacts:
    rule = RULES.get(effect.rule)
    return RuleFacts(
        name=effect.rule,
        column=effect.columns[0] if effect.edges.size else ", ".join(effect.columns),
        summary=rule.summary if rule else "",
        source=rule.source if rule else "",
        limits=list(dict.fromkeys(text for _, text in effect.thresholds)) or [effect.words],
        thresholds=[score for score, _ in effect.thresholds],
        edges=effect.edges,
        kept=effect.kept,
        dropped=effect.dropped,
        num_passed=effect.num_passed,
        num_outside=effect.num_outside,
        num_unmeasured=effect.num_unmeasured,
        near_kept=_near(effect.nearest_kept),
        near_dropped=_near(effect.nearest_dropped),
        groups={
            kind: [GroupChange(name=g.name, before=g.before, after=g.after) for g in groups]
            for kind, groups in effect.groups.items()
        },
    )


def _near(found: Sequence[Neighbour]) -> list[NearSample]:
    return [NearSample(key=n.key, score=n.score, is_decided=n.is_decided) for n in found]


def _rules(config: RunConfig, filtered: ShardSet | None) -> list[RuleInForce]:
    """Give the rules that were in force, or those that will be."""
    shards = filtered.shards() if filtered else []
    if filtered and shards:
        return finished_rules(filtered, shards[0])
    return put_in_force(config.filter, {})


def _limits(rule: RuleInForce) -> list[str]:
    if isinstance(rule, ScoreRule):
        return [limit.text for limit in rule.limits()]
    return [rule.words]


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
        blocklist=_without_places(config.blocklist),
        filter=dataclasses.replace(config.filter, uids=Path(config.filter.uids).name),
        sample=dataclasses.replace(config.sample, prompts=""),
        decontaminate=_without_folders(config.decontaminate),
    )


def _without_places(config: BlocklistConfig) -> BlocklistConfig:
    """Keep the rules of the lists, not where they lie and who hears of hits."""
    lists = {name: dataclasses.replace(item, path="-") for name, item in config.lists.items()}
    return dataclasses.replace(config, lists=lists, on_hit=[])


def _without_folders(config: DecontaminateConfig) -> DecontaminateConfig:
    """Keep the names of the benchmarks' files, not where they lie."""
    benchmarks = {
        name: dataclasses.replace(
            item, pictures=Path(item.pictures).name, prompts=Path(item.prompts).name
        )
        for name, item in config.benchmarks.items()
    }
    return dataclasses.replace(config, benchmarks=benchmarks)
