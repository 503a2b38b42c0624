"""Score pictures with a network of its own, made for one question: unsafe content, watermarks.

An aid, never safety itself: the detectors miss and they accuse, and each was trained on other
people's idea of the matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.picture_scores import PictureModel


class PictureScore:
    """Measure `<name>.score`, float32, a probability."""

    def __init__(self, name: str, models: Mapping[str, ModelRef]) -> None:
        """Choose the model.

        Args:
            name: the annotator's name, which is also the model's role in the pack.
            models: the pack.
        """
        self.name = name
        self.roles: tuple[str, ...] = (name,)
        self.columns: Mapping[str, pa.DataType] = {f"{name}.score": pa.float32()}
        self.metadata: Mapping[str, str] = {}
        self._models = models
        self._model: PictureModel | None = None

    def setup(self) -> None:
        """Load the model.

        Raises:
            ModelError: it is missing, or does not give its golden values.
        """
        from curate.models.golden import check_golden
        from curate.models.picture_scores import load_picture_model
        from curate.models.probes import probe_score

        ref = self._models[self.name]
        model = load_picture_model(self.name, ref)
        check_golden(self.name, ref, lambda: probe_score(model))
        self._model = model
        self.metadata = {"model": model.name}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Score every picture."""
        assert self._model is not None, "setup() comes first"
        return {f"{self.name}.score": self._model(batch.images)}
