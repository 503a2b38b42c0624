from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.faces import Faces, union_frac
from curate.models import faces
from curate.models.packs import ModelRef


class Known:
    """A detector that knows its answer by the picture's width: a table of boxes."""

    name = "known"

    def __init__(self, answers: dict[int, Sequence[Sequence[float]]]) -> None:
        self._answers = answers

    def find(self, image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(self._answers[image.width], np.float32).reshape(-1, 4)


def annotate(
    monkeypatch: pytest.MonkeyPatch, *boxes: Sequence[Sequence[float]]
) -> list[dict[str, object]]:
    detector = Known(dict(enumerate(boxes, start=1)))
    monkeypatch.setitem(faces.LOADERS, "known", lambda path: detector)  # type: ignore[arg-type]
    annotator = Faces({"faces": ModelRef(kind="known", paths=(__file__,))})  # type: ignore[arg-type]
    annotator.setup()
    batch = Batch(
        keys=[f"{index:020x}" for index in range(len(boxes))],
        images=[Image.new("RGB", (width, 9)) for width in range(1, len(boxes) + 1)],
        captions=[""] * len(boxes),
        columns={},
    )
    found = annotator(batch)
    arrays = {name: pa.array(found[name], type_) for name, type_ in annotator.columns.items()}
    return pa.table(arrays).to_pylist()


def test_faces_are_counted_and_measured_the_largest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = [0.0, 0.0, 0.25, 0.25], [0.5, 0.0, 1.0, 0.5]
    (row,) = annotate(monkeypatch, [small, large])
    assert row == {
        "faces.count": 2,
        "faces.area_frac": 0.0625 + 0.25,
        "faces.largest_frac": 0.25,
        "faces.boxes": [large, small],
    }


def test_a_picture_without_faces_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = annotate(monkeypatch, [])
    assert list(row.values()) == [0, 0.0, 0.0, []]


def test_every_picture_has_its_own_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = annotate(monkeypatch, [], [[0, 0, 1, 1]], [])
    assert [row["faces.count"] for row in rows] == [0, 1, 0]


def test_overlapping_faces_cover_their_ground_once() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5]], np.float32)
    assert union_frac(boxes) == pytest.approx(0.375)
    assert union_frac(np.empty((0, 4), np.float32)) == 0.0
