"""Read the pictures of a shard set and embed them with an image-text model, batch by batch.

    tar members -> decode_image -> (resize to the other side's size) -> embeddings [N, D]

Both sides of a comparison go through here, so they are decoded and resized by the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.core.errors import SampleError, ShardError
from curate.core.image import decode_image, resize_cover
from curate.core.model_ref import ModelRef
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

Features = npt.NDArray[np.float32]
PICTURE_EXTENSIONS = ("png", "webp", "jpg", "jpeg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Hold one decoded picture, its tar extension and the other members of its sample."""

    key: str
    image: Image.Image
    extension: str
    members: dict[str, bytes]


def load_model(ref: ModelRef) -> ImageTextModel:
    """Load the image-text model; torch is imported only now."""
    from curate.models.clip import load_image_text

    return load_image_text(ref)


def iterate_pictures(shards: ShardSet, keys: Collection[str]) -> Iterator[Picture]:
    """Yield the pictures with these keys, from the last shard to the first, in tar order.

    Of a sample that is there at several resolutions that is the largest, as bucket orders them.

    Raises:
        ShardError: a picture is missing or cannot be decoded; numbers over the survivors would be
            numbers of another set.
    """
    wanted = set(keys)
    for shard in reversed(shards.shards()):
        here = wanted & set(shards.table(shard, [KEY])[KEY].to_pylist())
        if not here:
            continue
        for key, members in shards.members(shard):
            if key in here:
                yield decode_picture(key, members, f"{shards.url}/{shard}.tar")
                wanted.discard(key)
    if wanted:
        raise ShardError(
            f"{shards.url}: must hold a picture for every row with status ok, "
            f"got none for {len(wanted)} keys, first {min(wanted)}; rerun its stage"
        )


def decode_picture(key: str, members: dict[str, bytes], where: str) -> Picture:
    """Decode the picture among a sample's members."""
    for extension in PICTURE_EXTENSIONS:
        if extension in members:
            try:
                image = decode_image(members[extension])
            except SampleError as error:
                raise ShardError(
                    f"{where}: {key}.{extension} must be a picture, got {error}; rerun its stage"
                ) from error
            return Picture(key=key, image=image, extension=extension, members=members)
    raise ShardError(
        f"{where}: {key} must have a picture, got members {sorted(members)}; rerun its stage"
    )


def choose_keys(shards: ShardSet, limit: int, seed: int) -> list[str]:
    """Choose up to `limit` usable keys by the hash of seed and key, so that order plays no part."""
    keys: set[str] = set()  # of samples, however many resolutions they are there at
    for _, table in shards.tables([KEY, STATUS]):
        rows = zip(table[KEY].to_pylist(), table[STATUS].to_pylist(), strict=True)
        keys |= {key for key, status in rows if status == OK}
    return rank_keys(keys, seed)[:limit]


def rank_keys(keys: Iterable[str], seed: int) -> list[str]:
    """Order keys by the hash of seed and key: as good as at random, the same every time."""
    return sorted(keys, key=lambda key: hashlib.blake2b(f"{seed}:{key}".encode()).digest())


def embed_images(images: Iterable[Image.Image], model: ImageTextModel, batch_size: int) -> Features:
    """Embed pictures, [N, D] float32, L2-normalised; N may be 0."""
    iterator = iter(images)
    parts: list[Any] = [np.zeros((0, model.dim), np.float32)]
    while batch := list(islice(iterator, batch_size)):
        parts.append(np.asarray(model.embed_images(batch), np.float32))
    return np.concatenate(parts)


def embed_texts(texts: Sequence[str], model: ImageTextModel, batch_size: int) -> Features:
    """Embed texts, [N, D] float32, L2-normalised; equal texts are embedded once."""
    distinct = sorted(set(texts))
    parts: list[Any] = [np.zeros((0, model.dim), np.float32)]
    for start in range(0, len(distinct), batch_size):
        batch = distinct[start : start + batch_size]
        parts.append(np.asarray(model.embed_texts(batch), np.float32))
    rows = {text: row for row, text in enumerate(distinct)}
    return np.concatenate(parts)[[rows[text] for text in texts]]


def resize_to(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Bring a picture to (height, width) in pixels; None or equal sizes leave it as it is."""
    if size is None or (image.height, image.width) == size:
        return image
    return resize_cover(image, *size)
