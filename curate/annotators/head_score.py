"""Score image embeddings with the pack's heads; no picture is opened.

`aesthetic.score` is on the head's own scale; `nsfw.score`, `watermark.score` and
`text_overlay.score` (letters printed over the picture) are probabilities. One class serves all:
they differ in the file that is loaded. A head reads the embedding of the image-text model that it
was trained on, whichever of the pack's that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.annotators.clip_score import annotator_name, read_embeddings
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.head import Head


class HeadScore:
    """Measure `<name>.score`, float32, from an image-text model's image_embedding.

    Source: heads on CLIP embeddings as LAION made them for its data sets (Schuhmann et al. 2022,
    arXiv 2210.08402, section 4).
    """

    def __init__(self, name: str, models: Mapping[str, ModelRef]) -> None:
        """Choose the head.

        Args:
            name: the annotator's name, which is also the head's role in the pack.
            models: the pack.
        """
        self.name = name
        self.roles = ("image_text", name)
        self.columns: Mapping[str, pa.DataType] = {f"{name}.score": pa.float32()}
        self.metadata: Mapping[str, str] = {}
        self.reads: tuple[str, ...] = ()
        self._models = models
        self._head: Head | None = None

    def setup(self) -> None:
        """Load the head and find the model whose embeddings it reads.

        Raises:
            ModelError: it was trained on another model's, or does not give its golden values.
        """
        from curate.models.golden import check_golden
        from curate.models.head_source import find_image_text
        from curate.models.heads import load_head
        from curate.models.probes import probe_head

        head = load_head(self._models[self.name])
        source = annotator_name(find_image_text(self.name, head, self._models))
        check_golden(self.name, self._models[self.name], lambda: probe_head(head))
        self._head = head
        self.reads = (source,)
        self.metadata = {"embedding": f"{source}.image_embedding"}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Score every sample that has an embedding."""
        assert self._head is not None, "setup() comes first"
        return {f"{self.name}.score": self._head(read_embeddings(batch, self.reads[0]))}
