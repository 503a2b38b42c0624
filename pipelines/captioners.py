"""Offer the captioners that curate does not know, by the kind of their model reference."""

from __future__ import annotations

from collections.abc import Mapping

from curate.captioners.captioner import Captioner
from curate.captioners.vlm_batches import BatchLimits
from curate.core.model_ref import ModelRef
from curate.stages.recaption import BuildCaptioner


def _build_toy_oracle(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from pipelines.toyweb.oracle_captioner import load_oracle_captioner

    return load_oracle_captioner(ref)


CAPTIONERS: Mapping[str, BuildCaptioner] = {
    "toy_oracle": _build_toy_oracle,
}
