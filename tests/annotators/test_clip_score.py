from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Batch, measure
from curate.annotators.clip_score import EMBEDDING, SIMILARITY, ClipScore, read_embeddings
from curate.annotators.head_score import HeadScore
from curate.core.errors import ModelError, SampleError
from curate.models import clip
from curate.models.linear_head import LinearHead, write_linear_head
from curate.models.packs import ModelRef

COLORS = ("red", "green", "blue")


class ColorModel:
    """An image-text model of three colours: exact, tiny, no network."""

    name = "colors"
    dim = 3

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([np.eye(3, dtype=np.float32)[COLORS.index(text)] for text in texts])

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        return [False for _ in texts]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelRef]:
    (tmp_path / "weights").write_bytes(b"colors")
    monkeypatch.setitem(clip.LOADERS, "colors", lambda ref: ColorModel())  # type: ignore[arg-type]
    return {"image_text": ModelRef(kind="colors", paths=(tmp_path / "weights",))}


def make_batch(*captions: str) -> Batch:
    return Batch(
        keys=[f"{index:020x}" for index in range(len(captions))],
        images=[Image.new("RGB", (8, 8), (255, 0, 0)) for _ in captions],
        captions=captions,
        columns={},
    )


def write_pair(pack: dict[str, ModelRef], folder: Path, digest: str) -> dict[str, ModelRef]:
    head = LinearHead(
        weight=np.array([2, 0, 0], np.float32),
        bias=1.0,
        activation="identity",
        image_text_digest=digest,
    )
    write_linear_head(folder / "aesthetic.safetensors", head)
    ref = ModelRef(kind="linear_head", paths=(folder / "aesthetic.safetensors",))
    return {**pack, "aesthetic": ref}


def test_similarity_is_the_cosine(pack: dict[str, ModelRef]) -> None:
    annotator = ClipScore(pack)
    annotator.setup()
    found = annotator(make_batch("red", "blue"))
    assert np.asarray(found[SIMILARITY]).tolist() == [1.0, 0.0]


def test_other_similarity_pairs_a_picture_with_another_caption(pack: dict[str, ModelRef]) -> None:
    annotator = ClipScore(pack)
    annotator.setup()
    batches = {
        ("red", "blue", "green"): [0.0, 0.0, 1.0],  # the captions one further: blue, green, red
        ("red", "blue", "red", "green"): [None, 0.0, None, 0.0],  # two further; its own is none
        ("red",): [None],
    }
    for captions, expected in batches.items():
        assert annotator(make_batch(*captions))["clip.similarity_other"] == expected


def test_embeddings_are_written_as_half_precision_of_fixed_width(
    pack: dict[str, ModelRef],
) -> None:
    annotator = ClipScore(pack)
    annotator.setup()
    values = annotator(make_batch("red"))[EMBEDDING]
    column = pa.array([values[0], None], annotator.columns[EMBEDDING])
    assert column.type == pa.list_(pa.float16(), 3)
    assert column.to_pylist() == [[1.0, 0.0, 0.0], None]


def test_names_of_columns_are_known_before_models_are_loaded(pack: dict[str, ModelRef]) -> None:
    annotator = ClipScore(pack)
    before = list(annotator.columns)
    annotator.setup()
    assert list(annotator.columns) == before


def test_a_sample_that_cannot_be_embedded_keeps_its_neighbours(pack: dict[str, ModelRef]) -> None:
    annotator = ClipScore(pack)
    annotator.setup()
    found = measure(annotator, make_batch("red", "no colour", "blue"))
    assert list(found[SIMILARITY]) == [1.0, None, 0.0]
    assert found[EMBEDDING][1] is None


def test_a_head_scores_the_stored_embedding(pack: dict[str, ModelRef], tmp_path: Path) -> None:
    annotator = HeadScore("aesthetic", write_pair(pack, tmp_path, pack["image_text"].digest))
    annotator.setup()
    batch = make_batch("red", "red", "red")
    batch.columns[EMBEDDING] = [
        np.array([1, 0, 0], np.float16),
        None,
        np.array([0, 1, 0], np.float16),
    ]
    assert measure(annotator, batch) == {"aesthetic.score": [3.0, None, 1.0]}


def test_a_head_of_another_model_is_refused(pack: dict[str, ModelRef], tmp_path: Path) -> None:
    annotator = HeadScore("aesthetic", write_pair(pack, tmp_path, "0" * 64))
    with pytest.raises(ModelError, match="must be on the embeddings of image_text 000000000000"):
        annotator.setup()


def test_embeddings_that_were_never_measured_are_missed() -> None:
    with pytest.raises(SampleError, match="unmeasured"):
        read_embeddings(make_batch("red"))
