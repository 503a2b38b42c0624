"""Describe pictures by a copy detector, so that copies are found by the cosine of two columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.copy_descriptor import CopyDescriptor

NAME = "descriptor"  # of the annotator, and of the model's role
EMBEDDING = "descriptor.embedding"


class Descriptor:
    """Measure descriptor.embedding (float16, L2 norm 1) by ISC, SSCD or a network of one's own."""

    name: str = NAME
    roles: tuple[str, ...] = (NAME,)

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        """Choose the model of the pack."""
        self.metadata: Mapping[str, str] = {}
        self._models = models
        self._model: CopyDescriptor | None = None

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Give the column; its width is open until `setup`."""
        return {EMBEDDING: pa.list_(pa.float16(), self._model.dim if self._model else -1)}

    def setup(self) -> None:
        """Load the model.

        Raises:
            ModelError: it is missing, or does not give its golden values.
        """
        from curate.models.copy_descriptor import load_copy_descriptor
        from curate.models.golden import check_golden
        from curate.models.probes import probe_descriptor

        ref = self._models[NAME]
        model = load_copy_descriptor(ref)
        check_golden(NAME, ref, lambda: probe_descriptor(model))
        self._model = model
        self.metadata = {"model": model.name}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Embed every picture."""
        assert self._model is not None, "setup() comes first"
        return {EMBEDDING: self._model.embed_images(batch.images).astype(np.float16)}
