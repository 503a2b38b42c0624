"""Training of the toy captioner at its smallest size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from curate.core.seed import make_rng
from pipelines.toyweb.captioner_pictures import draw_picture, make_pictures
from pipelines.toyweb.fit_captioner import FitConfig, fit
from pipelines.toyweb.scene import describe, describe_short, random_scene, split_of
from pipelines.toyweb.toy_captioner import EOS, SIDE_PX, build_model, build_processor

TINY = FitConfig(num_pictures=16, num_steps=2, batch_size=2, num_heldout=2)


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)  # the global generator must not matter
        fit(tmp_path / "a", 0, TINY)
        torch.manual_seed(2)
        fit(tmp_path / "b", 0, TINY)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_untrained_weights_depend_on_the_seed() -> None:
    processor = build_processor()
    first, second = (build_model(processor, seed).lm_head.weight for seed in (0, 1))
    assert not torch.equal(first, second)


def test_each_word_of_a_description_is_one_token() -> None:
    tokenizer = build_processor().tokenizer
    rng = make_rng(0, "test_words")
    for scene in [random_scene(rng) for _ in range(50)]:
        for text in (describe(scene), describe_short(scene)):
            ids = tokenizer(text + EOS)["input_ids"]
            assert len(ids) == len(text.split()) + 1
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_pictures_are_of_the_fit_split_and_of_input_size() -> None:
    pictures = make_pictures(build_processor(), 8, 0, watermark_frac=0.5)
    assert pictures.pixels.shape == (8, 3, SIDE_PX, SIDE_PX)
    filled = [scene for scene in pictures.scenes if scene.objects]
    assert filled
    assert {split_of(scene) for scene in filled} == {"fit"}


def test_stored_pixels_are_what_the_processor_hands_on() -> None:
    processor = build_processor()
    scene = random_scene(make_rng(0, "test_pixels"))
    picture = draw_picture(scene, make_rng(1, "test_pixels"))
    assert isinstance(picture, Image.Image)
    values = processor.image_processor(picture, return_tensors="np")["pixel_values"][0, 0]
    stored = np.rint((values * 0.5 + 0.5) * 255).astype(np.uint8)
    assert np.abs(stored / 127.5 - 1 - values).max() < 1e-6


def test_too_few_pictures_for_a_group_of_batches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_pictures must be >= 8 \* batch_size = 64, got 63"):
        FitConfig(num_pictures=63, batch_size=8)
