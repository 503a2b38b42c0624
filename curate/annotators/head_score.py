"""Score image embeddings with the pack's linear heads; no picture is opened.

`aesthetic.score` is on the head's own scale; `watermark.score` and `text_overlay.score` (letters
printed over the picture) are probabilities. One class serves all: they differ in the file that is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from curate.annotators.clip_score import read_embeddings
from curate.annotators.table import Batch, Column
from curate.core.errors import ModelError
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.heads import LinearHead

HeadName = Literal["aesthetic", "watermark", "text_overlay"]


class HeadScore:
    """Measure `<name>.score`, float32, from `clip.image_embedding`.

    Source: linear heads on CLIP embeddings as LAION made them for its data sets (Schuhmann et al.
    2022, arXiv 2210.08402, section 4).
    """

    def __init__(self, name: HeadName, models: Mapping[str, ModelRef]) -> None:
        """Choose the head.

        Args:
            name: the annotator's name, which is also the head's role in the pack.
            models: the pack.
        """
        self.name = name
        self.roles = ("image_text", name)
        self.columns: Mapping[str, pa.DataType] = {f"{name}.score": pa.float32()}
        self._models = models
        self._head: LinearHead | None = None

    def setup(self) -> None:
        """Load the head.

        Raises:
            ModelError: it was trained on the embeddings of another model.
        """
        from curate.models.heads import load_head

        head = load_head(self._models[self.name])
        wanted, got = head.image_text_digest, self._models["image_text"].digest
        if wanted not in ("", got):
            raise ModelError(
                f"models: head {self.name} must be on the embeddings of image_text {wanted[:12]}, "
                f"got {got[:12]}; use the pair that was trained together"
            )
        self._head = head

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Score every sample that has an embedding."""
        assert self._head is not None, "setup() comes first"
        return {f"{self.name}.score": self._head(read_embeddings(batch))}
