"""Count the faces in a picture and say where they are, so that they can be blurred later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.annotators.annotator import Batch, Column
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.faces import FaceDetector

_GRID = 512
"""Cells along each side on which boxes are united; chosen by us: an error below 0.4 % a box."""


class Faces:
    """Measure faces; how well they are found is the model's, see curate/models/faces.py.

    Columns:
        count: number of faces.
        area_frac: share of the picture under at least one face, 0..1.
        largest_frac: share of the picture under the largest face, 0..1.
        boxes: each face as left, top, right, bottom in shares of width and height, the largest
            first. Source: DataComp's `face_bboxes` (Gadre et al. 2023, arXiv 2304.14108) hold the
            same, and img2dataset blurs by them.
    """

    name: str = "faces"
    roles: tuple[str, ...] = ("faces",)
    columns: Mapping[str, pa.DataType] = {
        "faces.count": pa.int32(),
        "faces.area_frac": pa.float32(),
        "faces.largest_frac": pa.float32(),
        "faces.boxes": pa.list_(pa.list_(pa.float32(), 4)),
    }

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self.metadata: Mapping[str, str] = {}
        self._models = models
        self._model: FaceDetector | None = None

    def setup(self) -> None:
        """Load the pack's face detector."""
        from curate.models.faces import load_faces

        self._model = load_faces(self._models["faces"])
        self.metadata = {"model": self._model.name}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every picture."""
        assert self._model is not None, "setup() comes first"
        found = [_largest_first(self._model.find(image)) for image in batch.images]
        return {
            "faces.count": [len(boxes) for boxes in found],
            "faces.area_frac": [union_frac(boxes) for boxes in found],
            "faces.largest_frac": [max(box_fracs(boxes), default=0.0) for boxes in found],
            "faces.boxes": [boxes.tolist() for boxes in found],
        }


def box_fracs(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the area of boxes [F, 4] of left, top, right, bottom: [F], shares of the picture."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def union_frac(boxes: NDArray[np.float32]) -> float:
    """Give the share of the picture under at least one of the boxes [F, 4]."""
    covered = np.zeros((_GRID, _GRID), bool)
    for left, top, right, bottom in np.rint(boxes * _GRID).astype(int):
        covered[top:bottom, left:right] = True
    return float(covered.mean())


def _largest_first(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return boxes[np.argsort(-box_fracs(boxes), kind="stable")]
