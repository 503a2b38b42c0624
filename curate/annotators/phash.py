"""Measure perceptual hashes and a colour thumbnail, for near duplicates.

The hashes are imagehash's own, so that they compare with hashes made elsewhere. They see luminance
alone and move by a few bits between releases of Pillow; dedup joins within a radius and checks
every pair by the thumbnail.
"""

from __future__ import annotations

from collections.abc import Mapping

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from curate.annotators.table import Batch, Column

# Chosen by us: the grid of the 64-bit hashes. A cell averages 1/64 of the picture, so re-encoding
# and resizing move it by a few levels and a recoloured object by dozens.
THUMBNAIL_SIDE = 8


class PerceptualHash:
    """Measure phash and dhash (uint64) and thumbnail (bytes of uint8 [8, 8, 3], row by row).

    Source: imagehash 4.3, `phash` and `dhash` with hash_size 8; the first bit of the hash's hex
    text is the highest bit of the integer.
    """

    name: str = "phash"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        "phash.phash": pa.uint64(),
        "phash.dhash": pa.uint64(),
        "phash.thumbnail": pa.binary(THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3),
    }

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Hash every picture."""
        grey = [image.convert("L") for image in batch.images]  # once for both hashes
        return {
            "phash.phash": [pack_bits(imagehash.phash(image)) for image in grey],
            "phash.dhash": [pack_bits(imagehash.dhash(image)) for image in grey],
            "phash.thumbnail": [make_thumbnail(image) for image in batch.images],
        }


def pack_bits(image_hash: imagehash.ImageHash) -> int:
    """Pack 64 bits, row by row, into an integer in [0, 2**64)."""
    bits = np.packbits(np.asarray(image_hash.hash, dtype=bool))
    return int.from_bytes(bits.tobytes(), "big")


def make_thumbnail(image: Image.Image) -> bytes:
    """Average the colours over a grid of 8 x 8 cells: 192 bytes, uint8 [8, 8, 3]."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return image.resize(size, Image.Resampling.BOX).tobytes()
