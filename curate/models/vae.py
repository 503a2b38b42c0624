"""Turn pixels into raw latents and back with a diffusers AutoencoderKL from a local folder.

Raw latents are what the network gives. The store keeps raw moments (mean, std); whoever trains
whitens them: latents = (raw - latent_mean) / latent_std, per channel. The two vectors come from the
folder's config.json: diffusers' own fields `latents_mean` and `latents_std`, else its
`shift_factor` and `scaling_factor` (latents = (raw - shift_factor) * scaling_factor).

    B batch   H, W pixels   h = H / downsample, w = W / downsample   C latent channels
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import check_safetensors, read_json

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # diffusers' own file name

# Chosen by us: about 70 MB of activations for the toy VAE; larger pictures go one by one.
MAX_BATCH_PIXELS = 64 * 64 * 64


class Vae:
    """Encode and decode pictures; frozen, float32, on the CPU unless told otherwise."""

    def __init__(
        self,
        network: AutoencoderKL,
        latent_mean: NDArray[np.float32],
        latent_std: NDArray[np.float32],
        device: str = "cpu",
    ) -> None:
        """Hold a network and its whitening.

        Args:
            network: float32.
            latent_mean: [C], float32, raw latents' mean per channel.
            latent_std: [C], float32, raw latents' standard deviation per channel, > 0.
            device: where to run, e.g. "cpu" or "cuda".
        """
        # Channels last is 1.3 times as fast for this network on AVX512 (measured by us). Any: the
        # stubs of diffusers hide torch's `to`.
        self._network = cast("Any", network.eval().requires_grad_(False))
        self._network.to(device, memory_format=torch.channels_last)
        self._device = device
        config = self._network.config
        self.latent_channels: int = config["latent_channels"]
        self.downsample: int = 2 ** (len(config["block_out_channels"]) - 1)
        self.member: Literal["moments", "latents"] = "moments"
        self.latent_mean = latent_mean
        self.latent_std = latent_std

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pictures to raw moments.

        Args:
            images: [B, H, W, 3], uint8, RGB; H and W multiples of `downsample`.

        Returns:
            [B, 2C, h, w], float32: mean, then standard deviation.

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
        posterior = self._network.encode(pixels).latent_dist
        moments = torch.cat([posterior.mean, posterior.std], dim=1)  # [B, 2C, h, w]
        return moments.float().cpu().contiguous().numpy()

    @torch.inference_mode()
    def _decode_batch(self, raw_latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        latents = torch.from_numpy(np.ascontiguousarray(raw_latents)).to(self._device)
        pixels = (self._network.decode(latents).sample.float() + 1.0) * 127.5
        pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def load_vae(ref: ModelRef, device: str = "cpu") -> Vae:
    """Load a VAE from a local folder of diffusers' format.

    Raises:
        ModelError: the kind is unknown, a file is missing, or weights do not fit the config.
    """
    if ref.kind != "autoencoder_kl":
        raise ModelError(f"vae: kind must be 'autoencoder_kl', got {ref.kind!r}; choose that")
    folder = ref.paths[0]
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderKL":
        raise ModelError(
            f"{folder}/config.json: _class_name must be AutoencoderKL, "
            f"got {config.get('_class_name')!r}; point to a VAE's folder"
        )
    latent_mean, latent_std = _whitening(config)
    return Vae(_load_network(folder), latent_mean, latent_std, device)


def _load_network(folder: Path) -> AutoencoderKL:
    weights = folder / WEIGHTS_NAME
    check_safetensors(weights)
    try:
        # diffusers' loader also renames the attention weights of checkpoints from before 0.18.
        loaded = AutoencoderKL.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{weights}: must fit config.json, got {reason}; fetch it again"
        ) from error
    network, info = cast("tuple[AutoencoderKL, dict[str, list[str]]]", loaded)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise ModelError(
                f"{weights}: must fit config.json, got {problem} {info[problem][0]!r} "
                f"and {len(info[problem]) - 1} more; use the weights of this config"
            )
    return network


def _whitening(config: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per-channel mean and std of raw latents, as the config states them."""
    channels = config["latent_channels"]
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return np.asarray(mean, np.float32), np.asarray(std, np.float32)
    shift = config.get("shift_factor") or 0.0
    scaling = config.get("scaling_factor") or 1.0
    return np.full(channels, shift, np.float32), np.full(channels, 1.0 / scaling, np.float32)


def _batches(
    array: NDArray[Any], size: tuple[int, ...], max_pixels: int = MAX_BATCH_PIXELS
) -> list[NDArray[Any]]:
    step = max(1, max_pixels // (size[0] * size[1]))
    return [array[start : start + step] for start in range(0, max(1, len(array)), step)]
