"""A model that a pack names twice runs once, and its numbers stand under both names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Annotator, Batch, Column, Options, measure
from curate.annotators.clip_copy import copy_repeated
from curate.annotators.table import build_annotator
from curate.models import clip
from curate.models.packs import ModelRef


class CountingModel:
    """Embed a picture by its mean colour; count what is embedded."""

    name = "counting"
    dim = 3

    def __init__(self) -> None:
        self.embedded = 0

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.embedded += len(images)
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if "" in texts:
            raise ValueError("no words")
        return np.stack([np.eye(3, dtype=np.float32)[len(text) % 3] for text in texts])

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        return [False for _ in texts]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[CountingModel]:
    """Give the models that get loaded."""
    models: list[CountingModel] = []

    def load(ref: ModelRef) -> CountingModel:
        models.append(CountingModel())
        return models[-1]

    monkeypatch.setitem(clip.LOADERS, "counting", load)  # type: ignore[arg-type]
    return models


@pytest.fixture
def pack(tmp_path: Path) -> dict[str, ModelRef]:
    for name in ("large", "base"):
        (tmp_path / name).write_bytes(name.encode())
    large, base = (
        ModelRef(kind="counting", paths=(tmp_path / name,)) for name in ("large", "base")
    )
    return {"image_text": large, "clip_l14": large, "clip_b32": base}


def run(names: Sequence[str], pack: dict[str, ModelRef]) -> tuple[list[Annotator], Batch]:
    """Run annotators as the stage does."""
    options = Options(text_embeddings=True)
    annotators = copy_repeated([build_annotator(name, pack, options) for name in names], pack)
    batch = Batch(
        keys=["a", "b", "c"],
        images=[Image.new("RGB", (8, 8), color) for color in ("red", "lime", "navy")],
        captions=["one", "", "three"],
        columns={},
    )
    for annotator in annotators:
        annotator.setup()
        batch.columns.update(measure(annotator, batch))
    return annotators, batch


def plain(column: Column) -> list[object]:
    return [value.tolist() if hasattr(value, "tolist") else value for value in column]


def test_one_model_under_two_names_is_loaded_and_run_once(
    pack: dict[str, ModelRef], loaded: list[CountingModel]
) -> None:
    annotators, batch = run(["clip", "clip_l14", "clip_b32"], pack)
    assert [annotator.name for annotator in annotators] == ["clip", "clip_l14", "clip_b32"]
    large, base = loaded
    assert large.embedded == base.embedded  # each model saw each picture equally often
    for field in ("similarity", "image_embedding", "text_embedding"):
        column = plain(batch.columns[f"clip.{field}"])
        assert plain(batch.columns[f"clip_l14.{field}"]) == column
        assert column[1] is None and column[0] is not None  # what was not measured stays so


def test_a_copy_has_the_types_roles_and_facts_of_its_model(
    pack: dict[str, ModelRef], loaded: list[CountingModel]
) -> None:
    (first, copy), _ = run(["clip", "clip_l14"], pack)
    assert list(copy.columns) == [name.replace("clip.", "clip_l14.") for name in first.columns]
    assert list(copy.columns.values()) == list(first.columns.values())
    assert copy.columns["clip_l14.image_embedding"] == pa.list_(pa.float16(), 3)
    assert copy.roles == ("clip_l14",)
    assert getattr(copy, "metadata") == {"model": "counting", "precision": "fp32"}  # noqa: B009


def test_a_name_that_stands_alone_is_measured_itself(
    pack: dict[str, ModelRef], loaded: list[CountingModel]
) -> None:
    _, batch = run(["clip_l14"], pack)
    assert len(loaded) == 1 and loaded[0].embedded
    assert set(batch.columns) == {
        "clip_l14.similarity", "clip_l14.similarity_other", "clip_l14.image_embedding",
        "clip_l14.text_embedding",
    }  # fmt: skip
