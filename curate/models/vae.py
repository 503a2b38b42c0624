"""Turn pixels into raw latents and back with an autoencoder of diffusers.

Raw latents are what the network gives. The store keeps raw moments (mean, std) of an autoencoder
that has a posterior, and plain latents of one that has none; whoever trains whitens them:
latents = (raw - latent_mean) / latent_std, per channel. `vae_folder.py` says where the two come
from, and loads.

    B batch   H, W pixels   h = H / downsample, w = W / downsample   C latent channels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.core.errors import ConfigError
from curate.models.packs import ModelRef

# Chosen by us: about 70 MB of activations for the toy VAE; larger pictures go one by one.
MAX_BATCH_PIXELS = 64 * 64 * 64
Member = Literal["moments", "latents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeParts:
    """Hold an autoencoder and what its folder says of it.

    Args:
        network: float32.
        encode: (network, pixels [B, 3, H, W] in [-1, 1]) -> moments [B, 2C, h, w] (mean, then
            standard deviation) or latents [B, C, h, w].
        member: which of the two.
        channels: C.
        downsample: pixels on a latent pixel's side.
        latent_mean: [C], float32, raw latents' mean per channel.
        latent_std: [C], float32, raw latents' standard deviation per channel, > 0.
        overlap: share of a tile's side that the next one covers again; 0 if it has no tiles.
    """

    network: Any
    encode: Callable[[Any, Tensor], Tensor]
    member: Member
    channels: int
    downsample: int
    latent_mean: NDArray[np.float32]
    latent_std: NDArray[np.float32]
    overlap: float


class Vae:
    """Encode and decode pictures; frozen, float32, on the CPU unless told otherwise."""

    def __init__(self, parts: VaeParts, device: str = "cpu", tile_px: int = 0) -> None:
        """Hold a network and its whitening.

        Args:
            parts: see `load_vae`.
            device: where to run, e.g. "cpu" or "cuda".
            tile_px: pictures with a longer side are encoded in tiles of at most this side, which
                overlap and are blended as diffusers does; 0 is never.

        Raises:
            ConfigError: the autoencoder has no tiles, or none of this side.
        """
        # Channels last is 1.3 times as fast for the toy VAE on AVX512 (measured by us).
        self._network = parts.network.eval().requires_grad_(False)
        self._network.to(device, memory_format=torch.channels_last)
        self._encode = parts.encode
        self._device = device
        self.member: Member = parts.member
        self.latent_channels = parts.channels
        self.downsample = parts.downsample
        self.latent_mean = parts.latent_mean
        self.latent_std = parts.latent_std
        if tile_px:
            _check_tiles(parts, tile_px)
            _enable_tiles(self._network, parts, tile_px)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pictures to raw moments or raw latents, as `member` says.

        Args:
            images: [B, H, W, 3], uint8, RGB; H and W multiples of `downsample`.

        Returns:
            Moments [B, 2C, h, w], float32: mean, then standard deviation; or latents [B, C, h, w].

        Raises:
            ValueError: another shape or dtype.
        """
        self._check_images(images)
        parts = [self._encode_batch(part) for part in _batches(images, images.shape[1:3])]
        return np.concatenate(parts)

    def decode(self, raw_latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Decode raw latents (not whitened).

        Args:
            raw_latents: [B, C, h, w], float32.

        Returns:
            [B, H, W, 3], uint8, RGB.

        Raises:
            ValueError: another shape.
        """
        if raw_latents.ndim != 4 or raw_latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"raw_latents must be [B, {self.latent_channels}, h, w], got {raw_latents.shape}"
            )
        height, width = (side * self.downsample for side in raw_latents.shape[2:])
        return np.concatenate(
            [self._decode_batch(part) for part in _batches(raw_latents, (height, width))]
        )

    def _check_images(self, images: NDArray[np.uint8]) -> None:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [B, H, W, 3], got {images.dtype} {images.shape}"
            )
        if images.shape[1] % self.downsample or images.shape[2] % self.downsample:
            raise ValueError(
                f"images must have sides divisible by {self.downsample}, got {images.shape[1:3]}; "
                "resize them to a bucket first"
            )

    @torch.inference_mode()
    def _encode_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        pixels = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0  # [B, 3, H, W] in [-1, 1]
        return self._encode(self._network, pixels).float().cpu().contiguous().numpy()

    @torch.inference_mode()
    def _decode_batch(self, raw_latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        latents = torch.from_numpy(np.ascontiguousarray(raw_latents)).to(self._device)
        pixels = (self._network.decode(latents).sample.float() + 1.0) * 127.5
        pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def load_vae(ref: ModelRef, device: str = "cpu", tile_px: int = 0) -> Vae:
    """Load the autoencoder a reference points to.

    Raises:
        ConfigError: it has no tiles, or none of this side.
        ModelError: the kind or class is unknown, a file is missing, or weights do not fit.
    """
    from curate.models.vae_folder import load_vae_parts

    return Vae(load_vae_parts(ref), device, tile_px)


def _check_tiles(parts: VaeParts, tile_px: int) -> None:
    if not parts.overlap:
        name = type(parts.network).__name__
        raise ConfigError(
            f"encode.tile_px: must be 0 for {name}, which encodes no tiles of other than 4 "
            f"channels, got {tile_px}; leave it out"
        )
    step = round(parts.downsample / parts.overlap)
    if tile_px % step:
        raise ConfigError(
            f"encode.tile_px: must be a multiple of {step} px, so that tiles begin at latent "
            f"pixels, got {tile_px}; take {tile_px // step * step or step}"
        )


def _enable_tiles(network: Any, parts: VaeParts, tile_px: int) -> None:
    """Set sides and overlap; diffusers' own defaults are of 512 px."""
    network.enable_tiling()
    if hasattr(network, "tile_overlap_factor"):  # AutoencoderKL
        network.tile_sample_min_size = tile_px
        network.tile_latent_min_size = tile_px // parts.downsample
        return
    stride = round(tile_px * (1 - parts.overlap))
    network.enable_tiling(tile_px, tile_px, stride, stride)


def _batches(
    array: NDArray[Any], size: tuple[int, ...], max_pixels: int = MAX_BATCH_PIXELS
) -> list[NDArray[Any]]:
    step = max(1, max_pixels // (size[0] * size[1]))
    return [array[start : start + step] for start in range(0, max(1, len(array)), step)]
