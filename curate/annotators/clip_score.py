"""Embed pictures and captions and measure how well they belong together.

The embedding is stored in half precision, once; heads, dedup and later scores read it from there
and open no picture. A pack may have several image-text models: the main one, role `image_text`,
gives the columns clip.*; each further one, e.g. role `clip_l14`, the columns of its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.annotators.annotator import Batch, Column, Options
from curate.core.errors import SampleError
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

NAME = "clip"  # of the main model's annotator
EMBEDDING = "clip.image_embedding"
SIMILARITY = "clip.similarity"


class ClipScore:
    """Measure similarity (cosine, float32) and image_embedding (float16, L2 norm 1).

    Also similarity_other, that of the picture and another picture's caption: where the two columns
    overlap, the model cannot tell on this data what belongs together. Null where the batch has no
    other caption. With `text_embeddings` also text_embedding (float16, L2 norm 1).

    Source: CLIPScore without its factor 2.5 and its clipping at 0 (Hessel et al. 2021, arXiv
    2104.08718, equation 1). Scales differ between models: a threshold belongs to one.
    """

    def __init__(
        self,
        models: Mapping[str, ModelRef],
        role: str = "image_text",
        options: Options | None = None,
    ) -> None:
        """Choose the model.

        Args:
            models: the pack.
            role: the image-text model's.
            options: how it is run; None takes the defaults.
        """
        self.name = annotator_name(role)
        self.roles: tuple[str, ...] = (role,)
        self.metadata: Mapping[str, str] = {}
        self._role = role
        self._models = models
        self._options = options or Options()
        self._model: ImageTextModel | None = None

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Give the columns; the embeddings' width is open until `setup`."""
        vector = pa.list_(pa.float16(), self._model.dim if self._model else -1)
        columns: dict[str, pa.DataType] = {
            f"{self.name}.similarity": pa.float32(),
            f"{self.name}.similarity_other": pa.float32(),
            f"{self.name}.image_embedding": vector,
        }
        return columns | (
            {f"{self.name}.text_embedding": vector} if self._options.text_embeddings else {}
        )

    def setup(self) -> None:
        """Load the model.

        Raises:
            ModelError: it does not give its golden values.
        """
        from curate.models.clip import load_image_text
        from curate.models.golden import check_golden
        from curate.models.probes import probe_image_text

        ref, options = self._models[self._role], self._options
        model = load_image_text(
            ref, precision=options.precision, device=options.device, threads=options.threads
        )
        check_golden(self._role, ref, lambda: probe_image_text(model), options.precision)
        self._model = model
        self.metadata = {"model": model.name, "precision": options.precision}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Embed pictures and captions."""
        assert self._model is not None, "setup() comes first"
        images = self._model.embed_images(batch.images)  # [N, dim]
        texts = self._model.embed_texts(batch.captions)  # [N, dim]
        found = {
            "similarity": _cosines(images, texts),
            "similarity_other": _cosines_with_others(images, texts, batch.captions),
            "image_embedding": images.astype(np.float16),
            "text_embedding": texts.astype(np.float16),
        }
        return {name: found[name.removeprefix(f"{self.name}.")] for name in self.columns}


def _cosines(images: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the cosine of each row: unit vectors [N, dim] twice -> [N]."""
    return np.einsum("nd,nd->n", images, texts, dtype=np.float32)


def _cosines_with_others(
    images: NDArray[np.float32], texts: NDArray[np.float32], captions: Sequence[str]
) -> list[float | None]:
    """Pair each picture with the caption half a batch away; None where it is the picture's own."""
    away = len(captions) // 2
    others = _cosines(images, np.roll(texts, -away, axis=0)).tolist()
    names = [*captions[away:], *captions[:away]]
    return [
        None if other == own else cosine
        for cosine, own, other in zip(others, captions, names, strict=True)
    ]


def annotator_name(role: str) -> str:
    """Give the name of the annotator that runs the image-text model of a role."""
    return NAME if role == "image_text" else role


def read_embeddings(batch: Batch, annotator: str = NAME) -> NDArray[np.float32]:
    """Give the image embeddings measured earlier in the batch: [N, dim], float32.

    Raises:
        SampleError: "unmeasured", a sample has none.
    """
    column = f"{annotator}.image_embedding"
    embeddings = batch.columns.get(column, [None] * len(batch.keys))
    for key, embedding in zip(batch.keys, embeddings, strict=True):
        if embedding is None:
            raise SampleError("unmeasured", f"{key} has no {column}")
    return np.asarray(embeddings, dtype=np.float32)
