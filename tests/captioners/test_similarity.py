"""Captions of any length are scored by what the model can read of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.captioners.similarity import MAX_SENTENCES, fit_texts, score_captions
from curate.core.seed import make_rng
from curate.models.clip import ImageTextModel, load_image_text
from curate.models.packs import load_pack
from pipelines.toyweb.scene import describe, random_scene, render


class WordModel:
    """Embed a picture by its colour and a text by its words: x red, y green, z blue.

    It reads five tokens; a character of Chinese is one. Beyond them it gives the embedding of
    nothing, as a tokenizer that loses the end mark does.
    """

    name = "words"
    dim = 3

    def __init__(self) -> None:
        self.num_images = 0

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.num_images += len(images)
        return np.array([np.eye(3)[np.argmax(image.getpixel((0, 0)))] for image in images], "f4")

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [[self.tokens(text).count(color) for color in "xyz"] for text in texts]
        rows = [
            [0, 0, 0] if len(self.tokens(t)) > 5 else r for t, r in zip(texts, rows, strict=True)
        ]
        norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return (np.array(rows) / norms).astype(np.float32)

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(self.tokens(text)) > 5 for text in texts]

    def tokens(self, text: str) -> list[str]:
        return "".join(f" {c} " if ord(c) > 0x3000 else c for c in text).replace(".", " ").split()


RED, BLUE = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")


def test_whole_and_best_sentence_are_cosines_of_what_fits() -> None:
    texts = ["x", "Y. Is x.", "", "A b c d e f g. It is x."]
    model = WordModel()
    whole, best = score_captions(model, [RED, RED, RED, RED], texts)
    assert whole.dtype == best.dtype == np.float32
    np.testing.assert_allclose(whole, [1, 1, np.nan, 0], atol=1e-6)
    np.testing.assert_allclose(best, [1, 1, np.nan, 1], atol=1e-6)
    both, apart = score_captions(model, [RED], ["y x. it is x."])
    np.testing.assert_allclose([both[0], apart[0]], [2 / np.sqrt(5), 1], atol=1e-6)
    assert model.num_images == 2


def test_a_picture_that_comes_twice_is_embedded_once() -> None:
    model = WordModel()
    whole, _ = score_captions(model, [RED, BLUE, RED], ["z", "z", "x"])
    assert whole.tolist() == [0.0, 1.0, 1.0]
    assert model.num_images == 2


def test_a_long_text_is_cut_behind_the_last_word_that_fits() -> None:
    chinese = "\u84dd\u7ea2\u7eff" * 4
    texts = ["a b c d e", "a b c d e f", f"a {chinese}", "a  b\tc\nd e f", ""]
    fitted = fit_texts(WordModel(), texts)
    assert fitted == ["a b c d e", "a b c d e", f"a {chinese[:4]}", "a  b\tc\nd e", ""]


def test_a_word_that_never_fits_is_left_to_the_tokenizer() -> None:
    class NoRoom(WordModel):
        def is_truncated(self, texts: Sequence[str]) -> list[bool]:
            return [True for _ in texts]

    assert fit_texts(NoRoom(), ["word", "two words"]) == ["word", "two words"]


def test_sentences_are_bounded() -> None:
    model = WordModel()
    texts = ["It is y. " * MAX_SENTENCES + "It is x."]
    _, best = score_captions(model, [RED], texts)
    assert best.tolist() == [0.0]
    whole, best = score_captions(model, [], [])
    assert whole.shape == best.shape == (0,)


@pytest.fixture(scope="module")
def clip() -> ImageTextModel:
    return load_image_text(load_pack("toy")["image_text"])


def test_a_clip_gives_long_captions_the_score_of_their_start(clip: ImageTextModel) -> None:
    scene = random_scene(make_rng(0, "similarity"))
    image = Image.fromarray(render(scene, 96, 96))
    text = describe(scene)
    long = ". ".join([text] * 40) + "."
    assert clip.is_truncated([long]) == [True]
    (start,) = fit_texts(clip, [long])
    assert long.startswith(start)
    assert clip.is_truncated([start, long[: len(start) + 8]]) == [False, True]
    whole, best = score_captions(clip, [image, image], [long, start])
    assert whole[0] == pytest.approx(whole[1], abs=1e-5)
    assert best[0] >= whole[0] - 1e-5
    (plain,), (best_plain,) = score_captions(clip, [image], [text])
    assert best[0] == pytest.approx(plain, abs=0.02)
    assert plain == pytest.approx(best_plain, abs=1e-6)


def test_a_caption_of_100_000_characters_is_scored(clip: ImageTextModel) -> None:
    texts = ["a red circle " * 8000, "\u84dd" * 100_000, "x" * 100_000]
    whole, best = score_captions(clip, [RED] * 3, texts)
    assert np.isfinite(whole).all()
    assert np.isfinite(best).all()
