"""Refuse rules on captions that nothing measures, and captions that nobody would judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from curate.core.errors import ConfigError
from curate.core.model_ref import ModelRef
from curate.stages.recaptioning.rows import ALTERNATE
from pipelines.config import RunConfig
from pipelines.request import Request, find_models

RECAPTION, JUDGE, BUCKET = "recaption", "judge", "bucket"
# Thresholds that are none by default, and the role without which their column is empty.
_NEEDS = (
    ("languages", JUDGE, "language"),
    ("min_similarity", RECAPTION, "image_text"),
    ("min_similarity_sentence", RECAPTION, "image_text"),
    ("similarity_top_frac", RECAPTION, "image_text"),
    ("min_verified", RECAPTION, "verifier"),
)


def check_judgeable(request: Request) -> None:
    """Hold the rules of judge against the models that will measure what they read.

    Raises:
        ConfigError: a threshold is set whose column no model of the pack fills, a threshold or a
            cut is of a source that nobody writes, or the pipeline writes captions and buckets
            pictures, and has no judge between them.
    """
    stages = set(request.config.stages)
    if {RECAPTION, BUCKET} <= stages and JUDGE not in stages:
        raise ConfigError(
            f"stages: must have {JUDGE} between {RECAPTION} and {BUCKET}, got "
            f"{request.config.stages}; add it, for {BUCKET} takes accepted captions alone"
        )
    if JUDGE not in request.chosen:
        return
    config = request.config
    _check_sources(config)
    models = {
        stage: find_models(stage, config.models, config.models_folder)
        for stage in (RECAPTION, JUDGE)
    }
    for key, name in _name_thresholds(request):
        for threshold, stage, role in _NEEDS:
            if name == threshold and role not in models[stage]:
                raise ConfigError(_say(f"{key}.{name}", role, models[stage], config.models))


def _check_sources(config: RunConfig) -> None:
    """Refuse thresholds and cuts of sources that no caption will have: a name that was mistyped."""
    written = [template.id for template in config.recaption.used_templates()]
    named = [*written, *(cut.name for cut in config.judge.cuts)]
    asked = [(f"judge.by_source.{source}", source, named) for source in config.judge.by_source]
    asked += [(f"judge.cuts.{cut.name}", cut.source, written) for cut in config.judge.cuts]
    for key, source, known in asked:
        if source not in known and not source.startswith(ALTERNATE):
            raise ConfigError(
                f"{key}: must be of a source of this run's captions, {', '.join(known)}, got "
                f"{source!r}; correct the name, or add it to recaption.styles"
            )


def _name_thresholds(request: Request) -> Iterator[tuple[str, str]]:
    """Name the thresholds that are set: the config key that holds each, and its own name."""
    judge = request.config.judge
    for field in dataclasses.fields(judge.rules):
        if getattr(judge.rules, field.name) not in (None, []):
            yield "judge.rules", field.name
    for source, values in judge.by_source.items():
        yield from ((f"judge.by_source.{source}", name) for name in values)


def _say(key: str, role: str, models: dict[str, ModelRef], pack: str) -> str:
    return (
        f"{key}: needs a {role} of the model pack, which {pack!r} has not (it has "
        f"{', '.join(models) or 'none'}); name one in models=FILE.yaml or set {key} to null"
    )
