"""Measure the probability that a picture is pornographic; one aid to safety, not safety itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.table import Batch, Column
from curate.models.packs import ModelRef


class Nsfw:
    """Measure nsfw.score, float32, 0..1."""

    name: str = "nsfw"
    roles: tuple[str, ...] = ("nsfw",)
    columns: Mapping[str, pa.DataType] = {"nsfw.score": pa.float32()}

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self._models = models
        self._score: Callable[[Sequence[Image.Image]], NDArray[np.float32]] | None = None

    def setup(self) -> None:
        """Load the pack's classifier."""
        from curate.models.nsfw import load_nsfw

        self._score = load_nsfw(self._models["nsfw"])

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Score every picture."""
        assert self._score is not None, "setup() comes first"
        return {"nsfw.score": self._score(batch.images)}
