"""The text encoder: real tokens only, unit scale, and what each layer knows of its context."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.errors import ModelError
from curate.core.seed import make_rng
from curate.models.open_clip_folder import load_open_clip
from curate.models.open_clip_text import OpenClipTextEncoder
from curate.models.packs import ModelRef, load_pack
from curate.models.text_embedding import TextEncoder
from curate.models.text_encoder import load_text_encoder
from pipelines.toyweb.scene import COLORS, SHAPES, SIZES, describe, random_scene


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(load_pack("toy")["text_encoder"])


def test_a_token_a_word_and_one_for_the_end(encoder: TextEncoder) -> None:
    found = encoder.encode(["a red circle", "", "Red, circle!"])
    assert [len(item.tokens) for item in found] == [4, 1, 5]
    assert all(item.tokens.shape[1] == encoder.dim for item in found)
    assert all(item.pooled.shape == (encoder.pooled_dim,) for item in found)
    assert all(item.tokens.dtype == item.pooled.dtype == np.float32 for item in found)


def test_vectors_have_unit_scale(encoder: TextEncoder) -> None:
    (item,) = encoder.encode(["a small blue square at the top left on a gray background"])
    np.testing.assert_allclose((item.tokens**2).mean(axis=1), 1.0, atol=1e-3)
    np.testing.assert_allclose((item.pooled**2).mean(), 1.0, atol=1e-3)


def test_what_does_not_fit_is_counted(encoder: TextEncoder) -> None:
    short, long = encoder.encode(["red " * 10, "red " * 100])
    assert short.num_truncated == 0
    assert long.tokens.shape[0] == encoder.max_tokens
    assert long.num_truncated == 101 - encoder.max_tokens


def test_every_description_of_a_scene_fits(encoder: TextEncoder) -> None:
    rng = make_rng(4, "test_text_encoder")
    texts = [describe(random_scene(rng)) for _ in range(200)]
    assert all(item.num_truncated == 0 for item in encoder.encode(texts))


def test_a_batch_gives_what_each_caption_gives_alone(encoder: TextEncoder) -> None:
    texts = ["a red circle", "a large green cross at the bottom right", ""] * 30
    for item, text in zip(encoder.encode(texts), texts, strict=True):
        (alone,) = encoder.encode([text])
        np.testing.assert_allclose(item.tokens, alone.tokens, atol=1e-4)
        np.testing.assert_allclose(item.pooled, alone.pooled, atol=2e-3)


def test_embedding_layer_knows_the_word_and_its_position_only(encoder: TextEncoder) -> None:
    first, second, moved = encoder.encode(["a red circle", "a red square", "a large red circle"])
    np.testing.assert_allclose(first.tokens[1], second.tokens[1], atol=1e-6)
    assert not np.allclose(first.tokens[1], moved.tokens[2], atol=1e-2)


def test_words_of_scenes_are_far_apart(encoder: TextEncoder) -> None:
    words = [*COLORS, *SHAPES, *SIZES]
    vectors = np.stack([encoder.encode([word])[0].tokens[0] for word in words])
    cosine = vectors @ vectors.T / encoder.dim
    assert cosine[~np.eye(len(words), dtype=bool)].max() < 0.5


def test_hidden_layer_knows_what_came_before() -> None:
    parts = load_open_clip(load_pack("toy")["text_encoder"].paths[0])
    encoder = OpenClipTextEncoder(parts, "toy", layer="hidden")
    first, second = encoder.encode(["a red circle", "a blue circle"])
    assert not np.allclose(first.tokens[2], second.tokens[2], atol=1e-2)
    np.testing.assert_allclose(first.tokens[0], second.tokens[0], atol=1e-4)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="kind must be one of open_clip"):
        load_text_encoder(ModelRef(kind="nothing", paths=()))


def _with_own_tokenizer() -> OpenClipTextEncoder:
    """A tiny CLIP of open_clip with the tokenizer that most of its models have."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    from curate.models.open_clip_folder import OpenClip

    vision = {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8}
    text = {"width": 8, "heads": 1, "layers": 1, "context_length": 77, "vocab_size": 49408}
    network = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    tokenizer = SimpleTokenizer()
    return OpenClipTextEncoder(
        OpenClip(network=network, preprocess=lambda image: image, tokenizer=tokenizer), "tiny"
    )


def test_a_text_without_spaces_takes_seconds_and_keeps_its_first_tokens() -> None:
    encoder = _with_own_tokenizer()
    rng = make_rng(0, "letters")
    letters = "".join(chr(97 + int(letter)) for letter in rng.integers(0, 26, 20_000))
    (found,) = encoder.tokenize([letters])
    wanted = encoder._tokenizer([letters[:3000]])[0]
    np.testing.assert_array_equal(found.ids, wanted)
    whole = len(encoder._tokenizer.encode(letters[:3000])) / 3000 * 20_000
    assert found.num_truncated == pytest.approx(whole, rel=0.05)


def test_the_end_mark_is_kept_where_a_caption_is_cut() -> None:
    encoder = _with_own_tokenizer()
    short, long = encoder.tokenize(["a cat", "cat " * 200])
    assert (short.num_truncated, long.num_truncated) == (0, 125)
    assert short.ids[-1] == long.ids[-1] == 49407
    assert (len(short.ids), len(long.ids)) == (4, 77)
