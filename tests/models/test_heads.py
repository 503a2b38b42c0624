"""Linear heads: activation, refusals, files, and whose embeddings the shipped ones belong to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.core.errors import ModelError
from curate.models.heads import load_head
from curate.models.linear_head import LinearHead, write_linear_head
from curate.models.packs import ModelRef, load_pack
from curate.models.weights import write_tensors


def _head(activation: str = "identity") -> LinearHead:
    return LinearHead(
        weight=np.array([1.0, -2.0, 0.5], np.float32),
        bias=0.25,
        activation=activation,  # type: ignore[arg-type]
        image_text_digest="abc",
    )


def _ref(path: Path) -> ModelRef:
    return ModelRef(kind="linear_head", paths=(path,))


def test_identity_is_the_weighted_sum_plus_bias() -> None:
    scores = _head()(np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]], np.float32))
    np.testing.assert_allclose(scores, [1.25, -0.75], atol=1e-6)
    assert scores.dtype == np.float32


def test_sigmoid_gives_probabilities_without_overflow() -> None:
    head = dataclasses.replace(_head("sigmoid"), weight=np.array([1e6, 0.0, 0.0], np.float32))
    scores = head(np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0]], np.float32))
    np.testing.assert_allclose(scores, [1.0, 0.0, 1 / (1 + np.exp(-0.25))], atol=1e-6)


def test_embeddings_of_another_dimension_are_refused() -> None:
    with pytest.raises(ModelError, match=r"embeddings must be \[N, 3\], got \(2, 4\)"):
        _head()(np.zeros((2, 4), np.float32))


def test_a_head_comes_back_as_written(tmp_path: Path) -> None:
    write_linear_head(tmp_path / "head.safetensors", _head("sigmoid"))
    found = load_head(_ref(tmp_path / "head.safetensors"))
    np.testing.assert_array_equal(found.weight, _head().weight)
    assert (found.bias, found.activation, found.image_text_digest) == (0.25, "sigmoid", "abc")


def test_equal_heads_have_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.safetensors" for index in range(16)]
    for path in paths:
        write_linear_head(path, _head())
    assert len({path.read_bytes() for path in paths}) == 1


def test_an_unknown_activation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    write_tensors(path, {"weight": torch.zeros(3), "bias": torch.zeros(1)}, {"activation": "relu"})
    with pytest.raises(ModelError, match="activation must be one of"):
        load_head(_ref(path))


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    write_tensors(path, {"weight": torch.zeros(3, 3)}, {"activation": "identity"})
    with pytest.raises(ModelError, match=r"must hold weight \[D\] and bias \[1\]"):
        load_head(_ref(path))


def test_a_missing_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="weights must exist"):
        load_head(_ref(tmp_path / "none.safetensors"))
    with pytest.raises(ModelError, match="kind must be one of linear_head, mlp_head"):
        load_head(ModelRef(kind="open_clip", paths=(tmp_path,)))


@pytest.mark.parametrize("role", ["aesthetic", "watermark", "text_overlay"])
def test_shipped_heads_belong_to_the_shipped_image_text_model(role: str) -> None:
    pack = load_pack("toy")
    assert load_head(pack[role]).image_text_digest == pack["image_text"].digest


def test_embeddings_that_are_not_normalised_are_refused() -> None:
    with pytest.raises(ModelError, match=r"must have norm 1 within 0\.01, got 10; divide each"):
        _head()(np.array([[1.0, 0.0, 0.0], [6.0, 8.0, 0.0]], np.float32))


def test_half_precision_is_normalised_enough() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((64, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    halves = vectors.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(_head()(halves), _head()(vectors), atol=5e-3)
