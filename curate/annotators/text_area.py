"""Measure how much of a picture is covered by text: screenshots, scans, memes, overlays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.annotators.annotator import Batch, Column
from curate.core.errors import SampleError
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.text_area import TextAreaModel

BOXES = "text_area.boxes"


class TextArea:
    """Measure where text stands; what it says is the `ocr` annotator's.

    Columns:
        frac: share of the picture under at least one line of text, 0..1.
        lines: number of lines found.
        largest_frac: share of the picture under the largest line, 0..1.
        boxes: each line as x, y of four corners, shares of width and height, in reading order; so
            that text can be masked (T-MARS, Maini et al. 2023, arXiv 2307.03132) and read.
    """

    name: str = "text_area"
    roles: tuple[str, ...] = ("text_area",)
    columns: Mapping[str, pa.DataType] = {
        "text_area.frac": pa.float32(),
        "text_area.lines": pa.int32(),
        "text_area.largest_frac": pa.float32(),
        BOXES: pa.list_(pa.list_(pa.float32(), 8)),
    }

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self.metadata: Mapping[str, str] = {}
        self._models = models
        self._model: TextAreaModel | None = None

    def setup(self) -> None:
        """Load the pack's text detector."""
        from curate.models.text_area import load_text_area

        self._model = load_text_area(self._models["text_area"])
        self.metadata = {"model": self._model.name}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every picture."""
        from curate.models.text_area import quad_frac

        assert self._model is not None, "setup() comes first"
        found = [self._model.find_lines(image) for image in batch.images]
        largest = [max(map(quad_frac, lines.boxes), default=0.0) for lines in found]
        return {
            "text_area.frac": [lines.frac for lines in found],
            "text_area.lines": [len(lines.boxes) for lines in found],
            "text_area.largest_frac": largest,
            BOXES: [lines.boxes.reshape(-1, 8).tolist() for lines in found],
        }


def read_boxes(batch: Batch) -> list[NDArray[np.float32]]:
    """Give the boxes of lines measured earlier in the batch: [L, 4, 2], float32, per picture.

    Raises:
        SampleError: "unmeasured", a sample has none.
    """
    boxes = batch.columns.get(BOXES, [None] * len(batch.keys))
    for key, found in zip(batch.keys, boxes, strict=True):
        if found is None:
            raise SampleError("unmeasured", f"{key} has no {BOXES}")
    return [np.asarray(found, np.float32).reshape(-1, 4, 2) for found in boxes]
