"""Run a loaded model on the golden inputs (golden.py): name -> outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.clip import ImageTextModel, load_image_text
from curate.models.copy_descriptor import CopyDescriptor
from curate.models.golden import (
    LOG_ODDS_TOLERANCE,
    TOLERANCE,
    Outputs,
    golden_embeddings,
    golden_pictures,
    golden_texts,
)
from curate.models.head import Head

# Reduced precision may stray this many times as far as it does on the golden inputs; chosen by us.
_REDUCED_FACTOR = 2.0
_MOST_REDUCED = 0.1  # chosen by us: a cosine of 0.995; a model that strays further is not offered

_LEAST = 1e-7  # nearest to 0 and 1 that float32 tells apart
Score = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""Scores RGB pictures: [N], float32."""


def probe_image_text(model: ImageTextModel) -> Outputs:
    """Give unit vectors of the pictures and texts."""
    return {
        "images": model.embed_images(golden_pictures()),
        "texts": model.embed_texts(golden_texts()),
    }


def probe_descriptor(model: CopyDescriptor) -> Outputs:
    """Give unit vectors of the pictures."""
    return {"images": model.embed_images(golden_pictures())}


def probe_head(head: Head) -> Outputs:
    """Give scores of the embeddings before the activation, which would hide differences."""
    return {"raw": head.raw(golden_embeddings(head.dim))}


def probe_score(score: Score) -> Outputs:
    """Give the log-odds of the pictures' scores, float32."""
    scores = np.clip(score(golden_pictures()).astype(np.float64), _LEAST, 1 - _LEAST)
    return {"log_odds": np.log(scores / (1 - scores)).astype(np.float32)}


def tolerances(ref: ModelRef, outputs: Outputs) -> dict[str, float]:
    """Say how far each precision may stray from outputs in float32.

    An open_clip model is run in bfloat16 too; half precision strays less.
    """
    found = {"fp32": LOG_ODDS_TOLERANCE if "log_odds" in outputs else TOLERANCE}
    if ref.kind != "open_clip" or "images" not in outputs:
        return found
    try:
        reduced = probe_image_text(load_image_text(ref, precision="bf16"))
    except (ModelError, RuntimeError):  # a network with operations that bfloat16 lacks
        return found
    strayed = max(_distance(reduced[name], rows) for name, rows in outputs.items())
    if strayed * _REDUCED_FACTOR <= _MOST_REDUCED:
        allowed = round(max(TOLERANCE, strayed * _REDUCED_FACTOR), 4)
        found |= {"bf16": allowed, "fp16": allowed}
    return found


def _distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(first - second, axis=1).max())
