"""Measure how much of a picture is covered by text: screenshots, scans, memes, overlays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.table import Batch, Column
from curate.models.packs import ModelRef


class TextArea:
    """Measure text_area.frac, float32, 0..1: the union of text boxes over the picture's area."""

    name: str = "text_area"
    roles: tuple[str, ...] = ("text_area",)
    columns: Mapping[str, pa.DataType] = {"text_area.frac": pa.float32()}

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self._models = models
        self._measure: Callable[[Sequence[Image.Image]], NDArray[np.float32]] | None = None

    def setup(self) -> None:
        """Load the pack's text detector."""
        from curate.models.text_area import load_text_area

        self._measure = load_text_area(self._models["text_area"])

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every picture."""
        assert self._measure is not None, "setup() comes first"
        return {"text_area.frac": self._measure(batch.images)}
