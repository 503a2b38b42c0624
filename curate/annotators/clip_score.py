"""Embed pictures and captions and measure how well they belong together.

The embedding is stored in half precision, once; heads, dedup and later scores read it from there
and open no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.annotators.table import Batch, Column
from curate.core.errors import SampleError
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

EMBEDDING = "clip.image_embedding"
SIMILARITY = "clip.similarity"


class ClipScore:
    """Measure similarity (cosine, float32) and image_embedding (float16, L2 norm 1).

    Source: CLIPScore without its factor 2.5 and its clipping at 0 (Hessel et al. 2021, arXiv
    2104.08718, equation 1). Scales differ between models: a threshold belongs to one.
    """

    name: str = "clip"
    roles: tuple[str, ...] = ("image_text",)

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self._models = models
        self._model: ImageTextModel | None = None

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Give the columns; the embedding's width is open until `setup`."""
        width = self._model.dim if self._model else -1
        return {SIMILARITY: pa.float32(), EMBEDDING: pa.list_(pa.float16(), width)}

    def setup(self) -> None:
        """Load the pack's image-text model."""
        from curate.models.clip import load_image_text

        self._model = load_image_text(self._models["image_text"])

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Embed pictures and captions."""
        assert self._model is not None, "setup() comes first"
        images = self._model.embed_images(batch.images)  # [N, dim]
        texts = self._model.embed_texts(batch.captions)  # [N, dim]
        similarity = np.einsum("nd,nd->n", images, texts, dtype=np.float32)
        return {SIMILARITY: similarity, EMBEDDING: images.astype(np.float16)}


def read_embeddings(batch: Batch) -> NDArray[np.float32]:
    """Give the image embeddings measured earlier in the batch: [N, dim], float32.

    Raises:
        SampleError: "unmeasured", a sample has none.
    """
    embeddings = batch.columns.get(EMBEDDING, [None] * len(batch.keys))
    for key, embedding in zip(batch.keys, embeddings, strict=True):
        if embedding is None:
            raise SampleError("unmeasured", f"{key} has no {EMBEDDING}")
    return np.asarray(embeddings, dtype=np.float32)
