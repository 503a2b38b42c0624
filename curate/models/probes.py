"""Run a loaded model on the golden inputs (golden.py): name -> outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.models.clip import ImageTextModel
from curate.models.golden import Outputs, golden_embeddings, golden_pictures, golden_texts
from curate.models.heads import Head

_LEAST = 1e-7  # nearest to 0 and 1 that float32 tells apart
Score = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""Scores RGB pictures: [N], float32."""


def probe_image_text(model: ImageTextModel) -> Outputs:
    """Give unit vectors of the pictures and texts."""
    return {
        "images": model.embed_images(golden_pictures()),
        "texts": model.embed_texts(golden_texts()),
    }


def probe_head(head: Head) -> Outputs:
    """Give scores of the embeddings before the activation, which would hide differences."""
    return {"raw": head.raw(golden_embeddings(head.dim))}


def probe_score(score: Score) -> Outputs:
    """Give the log-odds of the pictures' scores, float32."""
    scores = np.clip(score(golden_pictures()).astype(np.float64), _LEAST, 1 - _LEAST)
    return {"log_odds": np.log(scores / (1 - scores)).astype(np.float32)}
