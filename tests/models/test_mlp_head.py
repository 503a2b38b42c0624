"""Heads of several layers: against torch, vocabularies, files and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from curate.core.errors import ModelError
from curate.core.seed import make_rng
from curate.models.golden import golden_embeddings
from curate.models.heads import load_head
from curate.models.mlp_head import MlpHead, look_up, write_mlp_head
from curate.models.packs import ModelRef
from curate.models.weights import write_tensors


def _head(**changes: object) -> MlpHead:
    rng = make_rng(0, "test_mlp_head")
    layers = [
        (rng.standard_normal((out, into)).astype(np.float32), rng.random(out).astype(np.float32))
        for into, out in ((6, 5), (5, 4), (4, 1))
    ]
    fields = {"layers": layers, "activation": "sigmoid", "image_text": "some/model", **changes}
    return MlpHead(**fields)  # type: ignore[arg-type]


def test_scores_are_those_of_the_same_layers_in_torch() -> None:
    head = _head()
    parts: list[nn.Module] = []
    for weight, bias in head.layers:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        parts += [layer, nn.ReLU()]
    network = nn.Sequential(*parts[:-1], nn.Sigmoid())
    embeddings = golden_embeddings(6)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(embeddings))[:, 0].numpy()
    np.testing.assert_allclose(head(embeddings), wanted, rtol=1e-5)


def test_a_value_is_replaced_by_its_place_among_the_known_ones() -> None:
    vocabulary = np.array([125488, -62683, 500000], np.int32)
    values = np.array([0.5, 0.12548828125, -0.06268311, 0.3, 0.5000004], np.float32)
    assert look_up(values, vocabulary).tolist() == [3, 1, 2, 0, 3]


def test_dimensions_with_a_vocabulary_count_by_their_number() -> None:
    plain, worded = _head(), _head(vocabularies={2: np.array([400000], np.int32)})
    known = np.array([[0.6, 0.0, 0.4, 0.0, 0.0, 0.48**0.5]], np.float32)
    as_number = known.copy()
    as_number[0, 2] = 1.0
    hidden = np.maximum(as_number @ plain.layers[0][0].T + plain.layers[0][1], 0)
    hidden = np.maximum(hidden @ plain.layers[1][0].T + plain.layers[1][1], 0)
    wanted = hidden @ plain.layers[2][0].T + plain.layers[2][1]
    np.testing.assert_allclose(worded.raw(known), wanted[:, 0], rtol=1e-5)


def test_a_head_comes_back_as_written(tmp_path: Path) -> None:
    head = _head(vocabularies={2: np.array([5, 3], np.int32), 4: np.array([1], np.int32)})
    write_mlp_head(tmp_path / "head.safetensors", head, {"source": "here"})
    found = load_head(ModelRef(kind="mlp_head", paths=(tmp_path / "head.safetensors",)))
    assert isinstance(found, MlpHead)
    assert {name: list(words) for name, words in found.vocabularies.items()} == {2: [5, 3], 4: [1]}
    embeddings = golden_embeddings(6)
    np.testing.assert_array_equal(found(embeddings), head(embeddings))
    assert (found.activation, found.image_text, found.dim) == ("sigmoid", "some/model", 6)


@pytest.mark.parametrize(
    "shapes",
    [
        {"0.weight": (4, 6), "0.bias": (4,)},  # four outputs
        {"0.weight": (4, 6), "0.bias": (4,), "1.weight": (1, 5), "1.bias": (1,)},  # 4 is not 5
        {"1.weight": (1, 6), "1.bias": (1,)},
        {"0.weight": (6,), "0.bias": (1,)},
    ],
)
def test_layers_that_do_not_fit_are_refused(tmp_path: Path, shapes: dict[str, tuple[int]]) -> None:
    path = tmp_path / "head.safetensors"
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    write_tensors(path, tensors, {"activation": "identity"})
    with pytest.raises(ModelError, match=r"must hold 0\.weight"):
        load_head(ModelRef(kind="mlp_head", paths=(path,)))


def test_embeddings_that_are_not_normalised_are_refused() -> None:
    with pytest.raises(ModelError, match=r"norm 1 within 0\.01, got 20\.*; divide each"):
        _head()(20 * golden_embeddings(6))
    with pytest.raises(ModelError, match="norm 1"):
        _head()(np.full((1, 6), np.nan, np.float32))
