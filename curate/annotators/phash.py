"""Measure perceptual hashes and a colour thumbnail, for near duplicates.

The hashes see luminance alone; dedup joins within a radius and checks every pair by the thumbnail.
The miniature is for copies that were cropped or framed: 3 KB a picture, measured if asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import imagehash
import numpy as np
import PIL
import pyarrow as pa
from PIL import Image

from curate.annotators.annotator import Batch, Column
from curate.annotators.hash_spec import (
    MINIATURE_SIDE,
    SPEC,
    THUMBNAIL_SIDE,
    PerceptualHashes,
    hash_picture,
    pack_bits,
)
from curate.core.image import to_array


class PerceptualHash:
    """Measure phash and dhash (uint64) and thumbnail (bytes of uint8 [8, 8, 3], row by row).

    Args:
        spec: "lm1" (`hash_spec.py`) hashes alike for ever; "imagehash" gives the installed
            library's own hashes, to compare with tables made by it (COYO's image_phash). Those move
            by a few bits between releases of Pillow. The thumbnail is lm1's in both.
        miniatures: also measure miniature (bytes of uint8 [32, 32, 3], row by row).
    """

    name: str = "phash"
    roles: tuple[str, ...] = ()

    def __init__(self, spec: str = SPEC, *, miniatures: bool = False) -> None:
        self.columns: Mapping[str, pa.DataType] = {
            "phash.phash": pa.uint64(),
            "phash.dhash": pa.uint64(),
            "phash.thumbnail": pa.binary(THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3),
        }
        if miniatures:
            self.columns |= {"phash.miniature": pa.binary(MINIATURE_SIDE * MINIATURE_SIDE * 3)}
        self.metadata: Mapping[str, str] = {"spec": spec}
        if spec != SPEC:
            self.metadata |= {"imagehash": imagehash.__version__, "pillow": PIL.__version__}
        self._hash = HASHERS[spec]

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Hash every picture."""
        found = [self._hash(image) for image in batch.images]
        columns: dict[str, Column] = {
            "phash.phash": [hashes.phash for hashes in found],
            "phash.dhash": [hashes.dhash for hashes in found],
            "phash.thumbnail": [hashes.thumbnail.tobytes() for hashes in found],
        }
        if "phash.miniature" in self.columns:
            columns["phash.miniature"] = [hashes.miniature.tobytes() for hashes in found]
        return columns


def _by_lm1(image: Image.Image) -> PerceptualHashes:
    return hash_picture(to_array(image))


def _by_imagehash(image: Image.Image) -> PerceptualHashes:
    """Hash as imagehash does: `phash` and `dhash` with hash_size 8 of the canonical picture."""
    grey = image.convert("L")  # once for both hashes
    return replace(
        _by_lm1(image), phash=_pack(imagehash.phash(grey)), dhash=_pack(imagehash.dhash(grey))
    )


def _pack(image_hash: imagehash.ImageHash) -> int:
    """Pack so that the first bit of the hash's hex text is the highest bit of the integer."""
    return pack_bits(np.asarray(image_hash.hash, dtype=bool))


HASHERS: Mapping[str, Callable[[Image.Image], PerceptualHashes]] = {
    SPEC: _by_lm1,
    "imagehash": _by_imagehash,
}
"""Function of each name in HASH_SPECS."""
