"""Run a loaded model on the golden inputs (golden.py): name -> outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.models.clip import ImageTextModel
from curate.models.golden import Outputs, golden_embeddings, golden_pictures, golden_texts
from curate.models.heads import Head

Score = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""Scores RGB pictures: [N], float32."""


def probe_image_text(model: ImageTextModel) -> Outputs:
    """Give unit vectors of the pictures and texts."""
    return {
        "images": model.embed_images(golden_pictures()),
        "texts": model.embed_texts(golden_texts()),
    }


def probe_head(head: Head) -> Outputs:
    """Give scores of the embeddings."""
    return {"scores": head(golden_embeddings(head.dim))}


def probe_score(score: Score) -> Outputs:
    """Give scores of the pictures."""
    return {"scores": score(golden_pictures())}
