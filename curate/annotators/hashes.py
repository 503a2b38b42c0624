"""Hash a picture's canonical pixels, so that copies in other files or formats are found exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pyarrow as pa
from PIL import Image

from curate.annotators.annotator import Batch, Column


class Hashes:
    """Measure sha256_pixels: equal for a PNG, its palette PNG and its lossless WebP."""

    name: str = "hashes"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {"hashes.sha256_pixels": pa.string()}

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Hash every picture."""
        return {"hashes.sha256_pixels": [hash_pixels(image) for image in batch.images]}


def hash_pixels(image: Image.Image) -> str:
    """Give the sha256 of size and RGB bytes, 64 hex characters.

    The size is hashed too: a 2 x 8 and an 8 x 2 picture of one colour have equal bytes.
    """
    digest = hashlib.sha256(f"{image.width}x{image.height} {image.mode}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()
