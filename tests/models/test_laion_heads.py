"""LAION's shipped heads give the scores that their authors' own files give.

`laion/ratings.npz`: the ten unit vectors, one for each rating from 0 to 9, that come with
github.com/LAION-AI/aesthetic-predictor (MIT), rounded to half precision.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.models.golden import check_golden, golden_embeddings
from curate.models.head import Head
from curate.models.heads import load_head
from curate.models.laion_packs import HEADS
from curate.models.packs import ModelRef
from curate.models.probes import probe_head

# By the published networks in float32 (torch 2.13), unfolded.
AESTHETIC = {
    "aesthetic_v1_l14": [-2.46, -0.14, 1.90, 3.58, 5.10, 6.47, 7.79, 9.05, 10.23, 11.30],
    "aesthetic_v2_l14": [1.66, 2.36, 3.07, 3.67, 4.24, 4.70, 5.07, 5.37, 5.58, 5.75],
    "aesthetic_v1_b32": [-1.47, 0.27, 1.99, 3.61, 5.09, 6.39, 7.67, 8.92, 9.92, 11.01],
}
# By TensorFlow 2.21 from LAION's SavedModels: the golden embeddings, then the ten ratings.
NSFW = {
    "nsfw_l14": [
        0.0417442, 0.000375184, 0.0140262, 0.000140984, 1.81565e-06, 0.000431555, 0.00140267,
        5.38672e-05, 6.66733e-05, 8.2582e-05, 0.000120685, 0.000102903, 0.000156005, 0.000223534,
        0.000247873, 0.000169922, 0.000101197, 8.84692e-05,
    ],
    "nsfw_b32": [
        2.11382e-06, 8.46819e-11, 0.00167582, 0.000201162, 0.00147566, 9.59745e-16, 5.28428e-05,
        5.02563e-09, 1.7001e-07, 4.18843e-07, 6.60203e-07, 5.3852e-07, 4.92583e-07, 1.88189e-07,
        1.76894e-08, 1.99934e-09, 6.14247e-09, 2.21057e-08,
    ],
}  # fmt: skip


def _load(name: str) -> Head:
    kind = "mlp_head" if name.startswith("nsfw") else "linear_head"
    return load_head(ModelRef(kind=kind, paths=(HEADS / f"{name}.safetensors",)))


def _ratings(name: str) -> NDArray[np.float32]:
    with np.load(Path(__file__).parent / "laion" / "ratings.npz") as arrays:
        return arrays[name.rpartition("_")[2]].astype(np.float32)


@pytest.mark.parametrize("name", AESTHETIC)
def test_aesthetic_scores_are_those_of_the_published_networks(name: str) -> None:
    np.testing.assert_allclose(_load(name)(_ratings(name)), AESTHETIC[name], atol=0.01)


@pytest.mark.parametrize("name", NSFW)
def test_unsafe_probabilities_are_those_of_tensorflow(name: str) -> None:
    head = _load(name)
    embeddings = np.concatenate([golden_embeddings(head.dim), _ratings(name)])
    np.testing.assert_allclose(head(embeddings), NSFW[name], rtol=2e-4, atol=1e-15)


@pytest.mark.parametrize("file", sorted(HEADS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_each_shipped_head_gives_its_golden_values_and_names_its_model(file: Path) -> None:
    kind = "mlp_head" if file.stem.startswith("nsfw") else "linear_head"
    ref = ModelRef(kind=kind, paths=(file,))
    head = load_head(ref)
    distance = check_golden(file.stem, ref, lambda: probe_head(head))
    assert distance is not None and distance < 1e-4
    assert head.image_text in ("ViT-L-14/openai", "ViT-B-32/openai", "ViT-B-16/openai")
