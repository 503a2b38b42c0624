"""Load an autoencoder from a local folder of diffusers, whichever class its config.json names.

The whitening comes from the folder's config.json: diffusers' own fields `latents_mean` and
`latents_std`, else its `shift_factor` and `scaling_factor`, as its pipelines use them:
latents = (raw - shift_factor) * scaling_factor. So SD has std 1 / 0.18215, SDXL 1 / 0.13025, SD3
mean 0.0609 and std 1 / 1.5305, Flux 0.1159 and 1 / 0.3611, Sana's DC-AE 1 / 0.41407.

No hub, no pickle, no code from the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.vae import Member, VaeParts
from curate.models.weights import check_safetensors, read_json

KIND = "autoencoder"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # diffusers' own file name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Say how one of diffusers' classes is used.

    Args:
        network: the class.
        encode: see `VaeParts`.
        member: see `VaeParts`.
        stages: field of the config with an entry for each resolution inside the encoder.
        overlap: of tiles, as a share of their side; source: diffusers' `tile_overlap_factor` of
            AutoencoderKL, and 512 px tiles every 448 px of AutoencoderDC.
    """

    network: Any
    encode: Callable[[Any, Tensor], Tensor]
    member: Member
    stages: str
    overlap: float = 0.0


def load_vae_parts(ref: ModelRef) -> VaeParts:
    """Load the autoencoder of a folder.

    Raises:
        ModelError: the kind or class is unknown, a file is missing, or weights do not fit.
    """
    if ref.kind != KIND:
        raise ModelError(f"vae: kind must be {KIND!r}, got {ref.kind!r}; choose that")
    folder = ref.paths[0]
    config = read_json(folder / "config.json")
    name = str(config.get("_class_name"))
    if name not in FAMILIES:
        raise ModelError(
            f"{folder}/config.json: _class_name must be one of {', '.join(FAMILIES)}, got "
            f"{name!r}; point to such a folder, or add a line to FAMILIES in {__file__}"
        )
    family = FAMILIES[name]
    network = _load_network(family.network, folder)
    channels = int(network.config["latent_channels"])
    latent_mean, latent_std = _whitening(dict(network.config), channels, folder)
    return VaeParts(
        network=network,
        encode=family.encode,
        member=family.member,
        channels=channels,
        downsample=2 ** (len(network.config[family.stages]) - 1),
        latent_mean=latent_mean,
        latent_std=latent_std,
        overlap=family.overlap,
    )


def _load_network(network_class: Any, folder: Path) -> Any:
    weights = folder / WEIGHTS_NAME
    check_safetensors(weights)
    try:
        # diffusers' loader also renames the attention weights of checkpoints from before 0.18.
        loaded = network_class.from_pretrained(
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
    network, info = cast("tuple[Any, dict[str, list[str]]]", loaded)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise ModelError(
                f"{weights}: must fit config.json, got {problem} {info[problem][0]!r} "
                f"and {len(info[problem]) - 1} more; use the weights of this config"
            )
    return network


def _whitening(
    config: Mapping[str, Any], channels: int, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give per-channel mean and std of raw latents, as the config states them."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        mean = [config.get("shift_factor") or 0.0] * channels
        std = [1.0 / (config.get("scaling_factor") or 1.0)] * channels
    whitening = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if any(vector.shape != (channels,) for vector in whitening) or not (whitening[1] > 0).all():
        raise ModelError(
            f"{folder}/config.json: latents_mean and latents_std must have {channels} numbers, the "
            f"latter > 0, got {mean} and {std}; correct them"
        )
    return whitening


def _encode_posterior(network: AutoencoderKL, pixels: Tensor) -> Tensor:
    posterior = cast("Any", network.encode(pixels)).latent_dist
    return torch.cat([posterior.mean, posterior.std], dim=1)  # [B, 2C, h, w]


def _encode_dc(network: AutoencoderDC, pixels: Tensor) -> Tensor:
    return cast("Any", network.encode(pixels)).latent


def _encode_tiny(network: AutoencoderTiny, pixels: Tensor) -> Tensor:
    return cast("Any", network.encode(pixels)).latents


FAMILIES: Mapping[str, _Family] = {
    "AutoencoderKL": _Family(
        network=AutoencoderKL,
        encode=_encode_posterior,
        member="moments",
        stages="block_out_channels",
        overlap=0.25,
    ),
    "AutoencoderDC": _Family(
        network=AutoencoderDC,
        encode=_encode_dc,
        member="latents",
        stages="encoder_block_out_channels",
        overlap=0.125,
    ),
    "AutoencoderTiny": _Family(
        network=AutoencoderTiny,
        encode=_encode_tiny,
        member="latents",
        stages="encoder_block_out_channels",
    ),
}
"""diffusers' class -> how it is used. Those of videos, and AutoencoderKLFlux2, whose latents are
whitened after 2x2 of them are packed together, would need more than a line here."""
