"""Load the networks that score pictures by themselves, by kind.

open_nsfw.py and nudenet.py judge unsafe content, laion_watermark.py watermarks; heads on embeddings
are in heads.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError
from curate.models.packs import ModelRef


class PictureModel(Protocol):
    """Score RGB pictures of any size: [N], float32, 0..1."""

    name: str

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Score the pictures."""
        ...


def load_picture_model(role: str, ref: ModelRef) -> PictureModel:
    """Load the model a reference points to.

    Raises:
        ModelError: the kind is not in `LOADERS`, or its files are missing or do not fit.
    """
    if ref.kind not in LOADERS:
        raise ModelError(
            f"models: {role} must be of kind {', '.join(LOADERS)} or a head, got {ref.kind!r}; "
            "choose one"
        )
    return LOADERS[ref.kind](ref)


def _open_nsfw(ref: ModelRef) -> PictureModel:
    from curate.models.nsfw import load_nsfw

    return load_nsfw(ref)


def _nudenet(ref: ModelRef) -> PictureModel:
    from curate.models.nudenet import load_nudenet

    return load_nudenet(ref)


def _laion_watermark(ref: ModelRef) -> PictureModel:
    from curate.models.laion_watermark import load_laion_watermark

    return load_laion_watermark(ref)


LOADERS: Mapping[str, Callable[[ModelRef], PictureModel]] = {
    "open_nsfw": _open_nsfw,
    "nudenet": _nudenet,
    "laion_watermark": _laion_watermark,
}
"""Kind to loader; a loader imports its libraries when it is called."""
