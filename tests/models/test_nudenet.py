"""NudeNet's detector, read without its package: against the package's own preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ModelError
from curate.models.golden import golden_pictures
from curate.models.nudenet import CLASSES, NudeNet, load_nudenet, to_input
from curate.models.packs import ModelRef, load_pack

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model() -> NudeNet:
    pytest.importorskip("nudenet")
    return load_nudenet(load_pack("offline")["nudenet"])


def test_class_scores_are_those_of_the_package(model: NudeNet) -> None:
    """At 320 px nothing is resized, and given RGB the package's two swaps give RGB."""
    nudenet = pytest.importorskip("nudenet.nudenet")
    detector = nudenet.NudeDetector()
    for picture in (golden_pictures()[0], golden_pictures()[1].crop((0, 0, 150, 320))):
        blob = nudenet._read_image(np.asarray(picture))[0]
        np.testing.assert_allclose(to_input(picture)[None], blob, atol=1e-6)
        (boxes,) = detector.onnx_session.run(None, {detector.input_name: blob})
        found = model.class_scores([picture])[0]
        np.testing.assert_allclose(found, boxes[0].max(axis=1), rtol=1e-3, atol=1e-3)
    assert nudenet.__dict__["__labels"] == list(CLASSES)


def test_scores_are_probabilities_one_a_picture(model: NudeNet) -> None:
    scores = model([Image.new("RGB", (size, 9)) for size in (1, 5000, 50, 60, 70)])
    assert scores.shape == (5,) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert model([]).shape == (0,)


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must exist, got no file; run `pip install"):
        load_nudenet(ModelRef(kind="nudenet", paths=(tmp_path / "none.onnx",)))
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match="must be an ONNX file, got") as caught:
        load_nudenet(ModelRef(kind="nudenet", paths=(tmp_path / "junk.onnx",)))
    assert "\n" not in str(caught.value)
