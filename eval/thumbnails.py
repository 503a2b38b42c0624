"""Turn pictures of shard sets into small data URIs, so that a report needs no other file.

Only the wanted members are read, by the positions in the side tables. A picture that does not
decode has no thumbnail; the report shows an empty frame in its place. Small pictures are enlarged
without smoothing by the page, not here.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute
from PIL import Image

from curate.core.errors import SampleError
from curate.core.image import decode_reduced, encode_image
from curate.core.schema import KEY
from curate.core.shard import MEMBERS, ShardSet
from eval.features import PICTURE_EXTENSIONS

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

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
    found: dict[str, str] = {}
    for shard in shards.shards() if shards and keys else ():
        assert shards is not None, "an absent shard set has no shards"
        if shards.has_tar(shard):
            for key, data in _read_pictures(shards, shard, keys):
                uri = make_thumbnail(data, side_px)
                found |= {key: uri} if uri else {}
    return found


def make_thumbnail(data: bytes, side_px: int) -> str:
    """Shrink one encoded picture to a data URI; "" when it does not decode."""
    try:
        image = decode_reduced(data, side_px)
    except SampleError:
        return ""
    scale = side_px / max(image.width, image.height)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    encoded = encode_image(image, "webp", _QUALITY)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def _read_pictures(
    shards: ShardSet, shard: str, keys: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield (key, encoded picture) of those keys that the shard has a picture of."""
    table = shards.table(shard, [KEY, MEMBERS])
    rows = table.filter(pc.is_in(table[KEY], value_set=pa.array(sorted(keys), pa.string())))
    if not rows.num_rows:
        return
    with shards.tar_path(shard).open("rb") as tar:
        for row in rows.to_pylist():
            places = {member["ext"]: member for member in row[MEMBERS] or ()}
            member = next((places[ext] for ext in PICTURE_EXTENSIONS if ext in places), None)
            if member:
                tar.seek(member["offset"])
                yield row[KEY], tar.read(member["bytes"])
