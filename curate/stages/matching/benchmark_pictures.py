"""Hash the pictures of an evaluation set, once: what the samples are held against.

    bytes -> canonical picture -> sha256 of both; of its eight turned and flipped forms PDQ, pHash
                                  and thumbnail
                               -> embeddings, of the models that are asked for

A picture that does not decode keeps its row, with the reason; `check_readable` decides about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.hash_spec import THUMBNAIL_SIDE, hash_picture
from curate.annotators.hashes import hash_pixels
from curate.annotators.pdq import HASH_BYTES
from curate.annotators.pdq_hash import measure_spectrum, pack_hash
from curate.core.errors import DataError, SampleError
from curate.core.image import decode_image, to_array
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet
from curate.stages.matching.benchmark_files import Item
from curate.stages.pictures import Picture, batch_pictures

THUMBNAIL_BYTES = 3 * THUMBNAIL_SIDE**2
NUM_FORMS = 8  # of a picture: four turns, each as it is and mirrored
UNREADABLE = "unreadable"
_BATCH_SIZE = 16  # pictures embedded together; chosen by us, as `models/clip.py` does on a CPU

Embed = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""Embeds RGB pictures: [N, D], float32, L2-normalised."""

BENCHMARK_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("item", pa.string()),
        ("bytes", pa.string()),  # sha256 of the file, hex as ingest has it
        ("pixels", pa.string()),  # sha256 of the canonical pixels
        ("quality", pa.int32()),
        ("forms", pa.list_(pa.binary(HASH_BYTES))),  # PDQ hashes; the next two have this order, too
        ("phashes", pa.list_(pa.uint64())),
        ("thumbnails", pa.list_(pa.binary(THUMBNAIL_BYTES))),
        ("clip", pa.list_(pa.float16())),
        ("descriptor", pa.list_(pa.float16())),
    ]
)


def hash_items(
    shard: str, items: Iterable[Item], embedders: Mapping[str, Embed]
) -> list[dict[str, Any]]:
    """Hash the pictures of a part.

    Args:
        shard: name of the part, for keys.
        items: of the part.
        embedders: column -> model; the columns are clip and descriptor.

    Returns:
        A row of BENCHMARK_SCHEMA for each item, in order.
    """
    rows: dict[str, dict[str, Any]] = {}
    for batch in batch_pictures(_decode(shard, items, rows), _BATCH_SIZE):
        images = [picture.image for picture in batch]
        for column, embed in embedders.items():
            vectors = embed(images).astype(np.float16)  # as annotate stores the samples' own
            for picture, vector in zip(batch, vectors, strict=True):
                rows[picture.key][column] = vector
    return list(rows.values())


def check_readable(own: ShardSet, shards: Sequence[str], benchmark: str, allowed: int) -> None:
    """Refuse an evaluation set with more unreadable pictures than allowed, and name some.

    Args:
        own: the stage's shards.
        shards: the benchmark's parts, all finished.
        benchmark: its name.
        allowed: how many may be unreadable.

    Raises:
        DataError: there are more.
    """
    if sum(own.marker(shard).counts.get(UNREADABLE, 0) for shard in shards) <= allowed:
        return
    tables = [own.table(shard, ["item", "status", "error"]).to_pylist() for shard in shards]
    faults = [row for rows in tables for row in rows if row["status"] != OK]
    named = "; ".join(f"{row['item']} ({row['error']})" for row in faults[:3])
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise DataError(
        f"decontaminate.benchmarks.{benchmark}.pictures: every picture must decode, got "
        f"{len(faults)} that do not: {named}{more}; mend them, or allow them with "
        f"decontaminate.max_unreadable={len(faults)}"
    )


def turn_pixels(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Turn and mirror a picture in all eight ways, itself first: uint8 [H, W, 3] or [W, H, 3] each.

    PDQ's short way gives the eight hashes from one spectrum, but its box filter and its sampling
    lean to one side: a mirrored JPEG is then 26 to 28 bits away at 192 and 256 px, one turned by
    180 degrees up to 56, beyond the radius; by the turned pixels they are 2 to 6 away.
    """
    turned = [np.rot90(pixels, quarter) for quarter in range(4)]
    forms = [*turned, *(form[:, ::-1] for form in turned)]
    return [np.ascontiguousarray(form) for form in forms]


def _decode(
    shard: str, items: Iterable[Item], rows: dict[str, dict[str, Any]]
) -> Iterator[Picture]:
    """Put a row for every item into `rows`, with its hashes, and yield those that decode."""
    for number, item in enumerate(items):
        key = make_key(shard, str(number))
        row = rows[key] = {"key": key, "status": UNREADABLE, "item": item.name}
        if item.data is None:
            row["error"] = item.error
            continue
        row["bytes"] = hashlib.sha256(item.data).hexdigest()
        try:
            image = decode_image(item.data)
        except SampleError as error:
            row["error"] = str(error)
            continue
        rows[key] |= {"status": OK, **_hash_picture(image)}
        yield Picture(key=key, caption="", image=image)


def _hash_picture(image: Image.Image) -> dict[str, Any]:
    forms = turn_pixels(to_array(image))
    spectra = [measure_spectrum(form) for form in forms]
    looks = [hash_picture(form) for form in forms]
    return {
        "pixels": hash_pixels(image),
        "quality": spectra[0].quality,
        "forms": [pack_hash(spectrum.frequencies) for spectrum in spectra],
        "phashes": [look.phash for look in looks],
        "thumbnails": [look.thumbnail.tobytes() for look in looks],
    }
