"""Tiny shard sets, committed as the engine commits them, and a tiny image-text model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.image import encode_image
from curate.core.manifest import Identity
from curate.core.schema import make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from eval.compositional import Reading

COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220)}
FIELDS = [pa.field("key", pa.string(), nullable=False), pa.field("status", pa.string())]

MakeShards = Callable[..., ShardSet]


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """Give a function that writes one finished shard: rows, members by key, counts, plain files."""

    def make(
        stage: str,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[tuple[str, pa.DataType]] = (),
        *,
        members: Mapping[str, Mapping[str, bytes]] | None = None,
        counts: Mapping[str, int] | None = None,
        files: Mapping[str, str] | None = None,
        unique_keys: bool = True,
    ) -> ShardSet:
        out = tmp_path / "work"
        out.mkdir()
        schema = pa.schema([*FIELDS, *columns])
        with ShardWriter(
            out, "00000", schema, with_tar=members is not None, unique_keys=unique_keys
        ) as writer:
            for row in rows:
                writer.write({"status": "ok", **row}, (members or {}).get(row["key"], {}))
        for name, text in (files or {}).items():
            (out / name).write_text(text)
        folder = tmp_path / "run" / stage
        folder.mkdir(parents=True, exist_ok=True)
        identity = Identity(
            stage=stage, version=1, seed=0, config={}, models={}, inputs={}, params={}
        )
        commit(
            out,
            Output(store=LocalStore(folder)),
            "00000",
            identity,
            dict(counts or {"in": len(rows)}),
        )
        out.rmdir()
        return ShardSet(folder)

    return make


@dataclass(frozen=True)
class Toy:
    """Pictures of one plain colour, named in their prompts: the smallest world to evaluate."""

    def key(self, name: str) -> str:
        return make_key(name)

    def picture(self, color: str, side: int = 16) -> bytes:
        pixels = np.full((side, side, 3), COLORS.get(color, (255, 255, 255)), np.uint8)
        return encode_image(Image.fromarray(pixels), "png")

    def scene(self, color: str) -> dict[str, Any]:
        item = {"shape": "square", "color": color, "size": "large", "place": "center"}
        return {"objects": [item], "background": "white"}

    def read(self, image: np.ndarray) -> Reading:
        """Take one even colour as one object; anything uneven is unreadable."""
        mean = image.reshape(-1, 3).mean(axis=0)
        if image.reshape(-1, 3).std(axis=0).max() > 3:
            return Reading(readable=False, objects=[], background=None)
        near = [c for c in COLORS if np.abs(mean - COLORS[c]).max() < 10]
        objects = self.scene(near[0])["objects"] if near else []
        return Reading(readable=True, objects=objects, background="white")

    def parse(self, prompt: str) -> dict[str, Any] | None:
        named = [color for color in COLORS if color in prompt]
        return self.scene(named[0]) if named else None


@pytest.fixture
def toy() -> Toy:
    return Toy()


class ColorModel:
    """Embed a picture by its mean colour and a text by the colours it names; unit norm."""

    name = "mean-color"
    dim = 3

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        means = [np.asarray(image, np.float64).reshape(-1, 3).mean(axis=0) for image in images]
        return _unit(np.array(means) + 1)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        named = [[COLORS[c] for c in COLORS if c in text] or [(1, 1, 1)] for text in texts]
        return _unit(np.array([np.mean(colors, axis=0) for colors in named]) + 1)

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(text) > 40 for text in texts]


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def color_model() -> ColorModel:
    return ColorModel()
