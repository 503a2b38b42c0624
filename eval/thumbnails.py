"""Turn pictures of shard sets into small data URIs, so that a report needs no other file.

Each tar is opened only if a wanted key is in its table. A picture that does not decode has no
thumbnail; the report shows an empty frame in its place. Small pictures are enlarged without
smoothing by the page, not here.
"""

from __future__ import annotations

import base64
from collections.abc import Collection

from PIL import Image

from curate.core.errors import SampleError
from curate.core.image import decode_image, encode_image
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from eval.features import PICTURE_EXTENSIONS

_QUALITY = 82  # WebP; chosen by us: artefacts do not show at this size, about 3 KB a picture


def load_thumbnails(shards: ShardSet | None, keys: Collection[str], side_px: int) -> dict[str, str]:
    """Load pictures as data URIs whose longer side is at most `side_px`.

    Args:
        shards: where the pictures are; None gives none.
        keys: which ones; unknown keys are left out.
        side_px: longer side in pixels; smaller pictures keep their size.

    Returns:
        Key -> "data:image/webp;base64,...".
    """
    wanted = set(keys)
    found: dict[str, str] = {}
    for shard in shards.shards() if shards and wanted else ():
        assert shards is not None, "an absent shard set has no shards"
        here = wanted & set(shards.table(shard, [KEY])[KEY].to_pylist())
        if not here or not shards.has_tar(shard):
            continue
        for key, members in shards.members(shard):
            if key in here:
                data = next((members[e] for e in PICTURE_EXTENSIONS if e in members), b"")
                uri = make_thumbnail(data, side_px)
                found |= {key: uri} if uri else {}
    return found


def make_thumbnail(data: bytes, side_px: int) -> str:
    """Shrink one encoded picture to a data URI; "" when it does not decode."""
    try:
        image = decode_image(data)
    except SampleError:
        return ""
    scale = side_px / max(image.width, image.height)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    encoded = encode_image(image, "webp", _QUALITY)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()
