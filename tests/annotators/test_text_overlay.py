"""The toy pack's head for letters over a picture, on scenes that it was not fitted to."""

import numpy as np
import pytest
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.clip_score import ClipScore
from curate.annotators.head_score import HeadScore
from curate.core.seed import make_rng
from curate.models.packs import load_pack
from pipelines.toyweb.faults import draw_text, draw_watermark
from pipelines.toyweb.scene import random_split_scene, render

NUM_SCENES = 24


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """Probability of a text overlay on equal scenes: clean, with banners, with a watermark."""
    plants = {"clean": lambda pixels, rng: pixels, "text": draw_text, "watermark": draw_watermark}
    images = []
    for draw in plants.values():
        for index in range(NUM_SCENES):
            rng = make_rng(7, "text overlay", index)
            pixels = render(random_split_scene(rng, "heldout"), 144, 192, jitter=rng)
            images.append(Image.fromarray(draw(pixels, rng)))
    batch = Batch(
        keys=[f"{index:020x}" for index in range(len(images))],
        images=images,
        captions=["a picture"] * len(images),
        columns={},
    )
    pack = load_pack("toy")
    for annotator in (ClipScore(pack), HeadScore("text_overlay", pack)):
        annotator.setup()
        batch.columns.update(annotator(batch))
    found = np.asarray(batch.columns["text_overlay.score"])
    return dict(zip(plants, found.reshape(len(plants), NUM_SCENES), strict=True))


def test_every_banner_is_found_and_no_clean_picture_is_taken_for_one(
    scores: dict[str, np.ndarray],
) -> None:
    assert scores["text"].min() > 0.3 > scores["clean"].max()


def test_a_watermark_is_no_text_overlay(scores: dict[str, np.ndarray]) -> None:
    assert scores["watermark"].max() < 0.3
