"""Keras SavedModels are read without TensorFlow; what is not of the known kind is refused.

That LAION's own files are read as TensorFlow reads them is in test_laion_heads.py: the shipped
heads were made from them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ModelError
from curate.core.seed import make_rng
from curate.models.converting.keras_saved import is_saved_model, read_keras_head
from curate.models.golden import golden_embeddings
from tests.models.converting.keras_files import Array, write_saved_model

RNG = make_rng(0, "test_keras_saved")
LAYERS = [
    (RNG.standard_normal((into, out)).astype(np.float32), RNG.random(out).astype(np.float32))
    for into, out in ((6, 5), (5, 300), (300, 1))  # 300: sizes that need two bytes
]
MEAN, VARIANCE = RNG.random(6).astype(np.float32), RNG.random(6).astype(np.float32)
WORDS = {1: ["0.500000", "-0.062500"], 4: ["0.125488"]}


def _write(folder: Path) -> Path:
    return write_saved_model(folder / "model", LAYERS, MEAN, VARIANCE, WORDS)


def _by_hand(embeddings: Array) -> Array:
    hidden = (embeddings - MEAN) / np.sqrt(VARIANCE)
    for number, (kernel, bias) in enumerate(LAYERS):
        hidden = hidden @ kernel + bias
        hidden = np.maximum(hidden, 0) if number + 1 < len(LAYERS) else hidden
    return hidden[:, 0]


def test_scores_are_those_of_the_layers_with_words_by_their_number(tmp_path: Path) -> None:
    head = read_keras_head(_write(tmp_path))
    embeddings = golden_embeddings(6)
    embeddings[0] = [0.5, 0.5, 0.5, 0.4769, 0.125488, 0.0]
    embeddings[0] /= np.linalg.norm(embeddings[0])
    embeddings[0, [1, 4]] = 0.5, 0.12548828125
    worded = embeddings.copy()
    worded[:, [1, 4]] = 0.0
    worded[0, [1, 4]] = 1.0
    np.testing.assert_allclose(head.raw(embeddings), _by_hand(worded), rtol=1e-4, atol=1e-4)
    assert head.activation == "sigmoid"


def test_a_zip_is_read_as_its_folder_is(tmp_path: Path) -> None:
    folder = _write(tmp_path)
    archive = Path(shutil.make_archive(str(tmp_path / "head"), "zip", tmp_path, "model"))
    assert is_saved_model(archive) and is_saved_model(folder)
    embeddings = golden_embeddings(6)
    np.testing.assert_array_equal(
        read_keras_head(archive)(embeddings), read_keras_head(folder)(embeddings)
    )


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    names = ["InputLayer", "Custom>MultiCategoryEncoding", "Normalization", "Conv2D"]
    folder = write_saved_model(tmp_path / "model", LAYERS, MEAN, VARIANCE, WORDS, names)
    with pytest.raises(
        ModelError, match=r"got the layers Custom>.*Conv2D, Activation; take LAION's"
    ):
        read_keras_head(folder)


@pytest.mark.parametrize("name", ["keras_metadata.pb", "variables/variables.index"])
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    folder = _write(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"got no file {Path(name).name}") as caught:
        read_keras_head(folder)
    assert "\n" not in str(caught.value)


def test_cut_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    folder = _write(tmp_path)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for length in range(0, len(whole), max(1, len(whole) // 23)):
            path.write_bytes(whole[:length])
            with pytest.raises(ModelError, match="must be a Keras SavedModel"):
                read_keras_head(folder)
        path.write_bytes(whole)


def test_other_files_are_no_saved_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert not is_saved_model(tmp_path / "file") and not is_saved_model(tmp_path)
