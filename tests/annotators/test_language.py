import time

import numpy as np
import pytest
from PIL import Image

from curate.annotators.annotator import Batch, measure
from curate.annotators.language import LanguageId
from curate.models.packs import load_pack
from pipelines.toyweb.alt_text import write_alt
from pipelines.toyweb.scene import random_split_scene

IMAGE = Image.new("RGB", (8, 8))


@pytest.fixture(scope="module")
def annotator() -> LanguageId:
    annotator = LanguageId(load_pack("toy"))
    annotator.setup()
    return annotator


def make_batch(captions: list[str]) -> Batch:
    keys = [str(number) for number in range(len(captions))]
    return Batch(keys=keys, images=[IMAGE] * len(captions), captions=captions, columns={})


def test_code_and_score_of_every_caption(annotator: LanguageId) -> None:
    found = annotator(make_batch(["a photo of a cat on a sofa", "ein Foto von einer Katze", ""]))
    assert set(found) == set(annotator.columns)
    assert list(found["language.code"]) == ["en", "de", "en"]
    assert found["language.score"][2] < 0.2 < found["language.score"][0]


def test_a_caption_that_is_no_unicode_has_nulls_and_the_others_their_codes(
    annotator: LanguageId,
) -> None:
    found = measure(annotator, make_batch(["a photo of a cat on a sofa", "half \ud800 of a pair"]))
    assert list(found["language.code"]) == ["en", None]
    assert list(found["language.score"])[1] is None


def test_no_foreign_caption_of_the_toy_web_is_called_english(annotator: LanguageId) -> None:
    rng = np.random.default_rng(0)
    scenes = [random_split_scene(rng, "train") for _ in range(400)]
    foreign = [write_alt("foreign", scene, "train", rng) for scene in scenes]
    good = [write_alt("good", scene, "train", rng) for scene in scenes]
    assert "en" not in list(annotator(make_batch(foreign))["language.code"])
    codes = list(annotator(make_batch(good))["language.code"])
    assert codes.count("en") > 0.95 * len(codes)  # three-word captions are called others


def test_ten_thousand_captions_take_under_a_second(annotator: LanguageId) -> None:
    batch = make_batch(["a red circle and a small blue square on a white background"] * 10_000)
    start = time.process_time()
    annotator(batch)
    assert time.process_time() - start < 1
