"""Offer the captioners that curate does not know, and refuse a run whose captioner cannot do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from curate.captioners.captioner import Captioner
from curate.captioners.table import load_captioner
from curate.captioners.vlm_batches import BatchLimits
from curate.core.model_ref import ModelRef
from curate.stages.recaption import BuildCaptioner, RecaptionStage

if TYPE_CHECKING:
    from pipelines.request import Request


def _build_toy_oracle(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from pipelines.toyweb.oracle_captioner import load_oracle_captioner

    return load_oracle_captioner(ref)


CAPTIONERS: Mapping[str, BuildCaptioner] = {
    "toy_oracle": _build_toy_oracle,
}


def open_captioner(ref: ModelRef) -> Captioner:
    """Load the captioner of any pack, as recaption would.

    Raises:
        ModelError: its kind is unknown, or its files cannot be loaded.
    """
    return CAPTIONERS.get(ref.kind, load_captioner)(ref, BatchLimits())


def check_captioner(request: Request) -> None:
    """Refuse styles that the pack's captioner cannot follow, before hours of other stages.

    Raises:
        ConfigError: captions are to be rewritten, and the pack has no rewriter.
        ModelError: a style, and those that the captioner can follow.
    """
    from pipelines.request import build_stage

    if RecaptionStage.name in request.chosen:
        stage = build_stage(RecaptionStage.name, request.pipeline, request.config)
        assert isinstance(stage, RecaptionStage), "the table builds it"
        stage.check_models()
