"""Encode a shard's pictures, batch by batch, the next one decoded while the VAE runs.

bucket tar -> pixels [B, H, W, 3] -> VAE -> moments [2C, h, w] or latents [C, h, w], fp16
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from curate.core.ahead import map_ahead
from curate.core.batches import batched
from curate.core.errors import ConfigError, SampleError, ShardError
from curate.core.image import decode_image, to_array
from curate.core.seed import make_rng
from curate.stages.bucketing.config import FORMATS

if TYPE_CHECKING:
    from curate.models.vae import Vae

_AHEAD = 2  # batches decoded and waiting; chosen by us: one would do, two even out large pictures
FLIPPED = "flipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureBatch:
    """Hold some pictures of one size.

    Args:
        keys: of the samples.
        pixels: [B, H, W, 3], uint8.
    """

    keys: list[str]
    pixels: NDArray[np.uint8]


def decode_batches(
    members: Iterable[tuple[str, Mapping[str, bytes]]], batch_size: int, size: tuple[int, int]
) -> Iterator[PictureBatch]:
    """Decode the pictures of a bucket's tar, ahead of whoever takes them.

    Args:
        members: (key, extension -> bytes).
        batch_size: pictures together.
        size: (height, width) of all, pixels.

    Raises:
        ShardError: a picture has another size.
    """
    batches = batched(members, batch_size)
    yield from map_ahead(partial(_decode, size=size), batches, ahead=_AHEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentMaker:
    """Turn pixels into the arrays that are stored.

    Args:
        vae: the network.
        seed: of the run.
        is_sampled: draw latents from the moments.
        has_flipped: encode the mirror images too.
    """

    vae: Vae
    seed: int
    is_sampled: bool
    has_flipped: bool

    @property
    def member(self) -> Literal["moments", "latents"]:
        """Name what is stored."""
        return "latents" if self.is_sampled else self.vae.member

    def make(self, batch: PictureBatch) -> list[dict[str, NDArray[np.float16]]]:
        """Give each picture's arrays: member -> array.

        Raises:
            ShardError: the VAE gave numbers that float16 cannot hold.
        """
        parts = {self.member: self._encode(batch, batch.pixels)}
        if self.has_flipped:
            mirrored = np.ascontiguousarray(batch.pixels[:, :, ::-1])
            parts[FLIPPED] = self._encode(batch, mirrored, FLIPPED)
        return [{name: part[i] for name, part in parts.items()} for i in range(len(batch.keys))]

    def _encode(
        self, batch: PictureBatch, pixels: NDArray[np.uint8], *purpose: str
    ) -> NDArray[np.float16]:
        encoded = self.vae.encode(pixels)
        if self.is_sampled and self.vae.member == "moments":
            encoded = self._draw(batch.keys, encoded, *purpose)
        with np.errstate(over="ignore"):  # refused below
            stored = encoded.astype(np.float16)
        finite = np.isfinite(stored).all(axis=(1, 2, 3))
        if not finite.all():
            raise ShardError(
                f"{batch.keys[int(np.argmin(finite))]}: its latents must be finite in float16, got "
                "inf or NaN; use another VAE"
            )
        return stored

    def _draw(
        self, keys: Sequence[str], moments: NDArray[np.float32], *purpose: str
    ) -> NDArray[np.float32]:
        """Draw one latent of each posterior: [B, 2C, h, w] -> [B, C, h, w]."""
        mean, std = np.split(moments, 2, axis=1)
        for i, key in enumerate(keys):
            rng = make_rng(self.seed, "vae", key, *purpose)
            mean[i] += std[i] * rng.standard_normal(mean.shape[1:], dtype=np.float32)
        return mean


def check_size(height: int, width: int, downsample: int) -> None:
    """Refuse a bucket that is no whole number of latent pixels.

    Raises:
        ConfigError: says what to set.
    """
    if height % downsample or width % downsample:
        raise ConfigError(
            f"bucket.step_px: must be a multiple of the VAE's downsample {downsample}, got a "
            f"bucket of {height}x{width}; set bucket.step_px={downsample} or take another VAE"
        )


def _decode(batch: list[tuple[str, Mapping[str, bytes]]], size: tuple[int, int]) -> PictureBatch:
    keys = [key for key, _ in batch]
    pixels = np.empty((len(batch), *size, 3), np.uint8)
    for out, (key, members) in zip(pixels, batch, strict=True):
        image = _pixels(key, members)
        if image.shape[:2] != size:
            raise ShardError(
                f"{key}: all pictures of a shard must be {size[0]}x{size[1]} px, got "
                f"{image.shape[0]}x{image.shape[1]}; run bucket again"
            )
        out[...] = image
    return PictureBatch(keys=keys, pixels=pixels)


def _pixels(key: str, members: Mapping[str, bytes]) -> NDArray[np.uint8]:
    data = next((members[ext] for ext in FORMATS if ext in members), b"")
    try:
        return to_array(decode_image(data))
    except SampleError as error:
        raise ShardError(
            f"{key}: must have a whole picture, got {error} in {sorted(members)}; run bucket again"
        ) from error
