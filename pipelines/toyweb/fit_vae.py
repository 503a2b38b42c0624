"""Train the toy VAE: pictures of the toy web => 8x smaller latents of 16 channels and back.

A plain diffusers AutoencoderKL without quant convs and without attention, so that any size that is
a multiple of 8 works. The KL weight is large enough to keep the latents near unit scale and smooth,
which is what the diffusion trainer needs, and small enough that the oracle reads every scene.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from curate.core.seed import derive_seed, make_rng
from curate.models.packs import ModelRef
from curate.models.vae import Vae, load_vae
from curate.models.vae_folder import WEIGHTS_NAME
from curate.models.weights import seeded_weights, write_tensors
from pipelines.toyweb.fit_data import Pixels, bucket_pictures
from pipelines.toyweb.fit_optim import MatrixOptimizer
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.scene import random_split_scene, render

logger = logging.getLogger(__name__)

LATENT_CHANNELS = 16
BLOCK_CHANNELS = (16, 32, 64, 128)  # chosen by us: 13 ms a picture to train on one core
NORM_GROUPS = 8
# (height, width) of a bucket to its number of training pictures; chosen by us: areas near 64x64.
BUCKETS: Mapping[tuple[int, int], int] = {
    (64, 64): 6144,
    (48, 80): 2048,
    (80, 48): 2048,
    (56, 72): 1024,
    (72, 56): 1024,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeFit:
    """Set the training; all values chosen by us by trial on two cores."""

    num_steps: int = 3600
    batch_size: int = 16
    kl_weight: float = 1e-3
    squared_weight: float = 5.0


def fit(out: Path, seed: int, setting: VaeFit | None = None) -> dict[str, float]:
    """Train the VAE and write it to `out`/vae.

    Args:
        out: folder of the model pack.
        seed: of pictures, weights and batches.
        setting: length and rates; the shipped pack uses the default.

    Returns:
        Measured quality on held-out pictures, and the seconds it took.
    """
    start = time.monotonic()
    setting = setting or VaeFit()
    pictures = bucket_pictures(seed, BUCKETS)
    logger.info("vae: pictures drawn after %.0f s", time.monotonic() - start)
    network = build_network(seed)
    _train(network, pictures, setting, seed)
    write_vae(out / "vae", network, _latent_moments(network, pictures, seed))
    quality = measure(load_vae(ModelRef(kind="autoencoder", paths=(out / "vae",))), seed)
    return {**quality, "train_s": time.monotonic() - start}


def build_network(seed: int) -> AutoencoderKL:
    """Build the untrained network with weights drawn from the seed."""
    depth = len(BLOCK_CHANNELS)
    with seeded_weights(derive_seed(seed, "vae", "weights")):
        return AutoencoderKL(  # its annotations say tuple[str] for tuples of any length
            down_block_types=cast("Any", ("DownEncoderBlock2D",) * depth),
            up_block_types=cast("Any", ("UpDecoderBlock2D",) * depth),
            block_out_channels=cast("Any", BLOCK_CHANNELS),
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=NORM_GROUPS,
            sample_size=64,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )


def write_vae(folder: Path, network: AutoencoderKL, whitening: Tensor) -> None:
    """Write diffusers' two files, weights as float16.

    Args:
        folder: made if missing.
        network: trained.
        whitening: [2, C], mean and standard deviation of raw latents per channel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mean, std = (torch.round(row, decimals=4).tolist() for row in whitening)
    config = {
        **dict(cast("Any", network.config)),
        "_class_name": "AutoencoderKL",
        "latents_mean": [round(value, 4) for value in mean],
        "latents_std": [round(value, 4) for value in std],
    }
    config = {name: value for name, value in config.items() if name != "_use_default_values"}
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    write_tensors(folder / WEIGHTS_NAME, network.state_dict())


def measure(vae: Vae, seed: int, count: int = 512) -> dict[str, float]:
    """Measure reconstruction through the mean on held-out pictures.

    Returns:
        psnr_db: mean over web pictures of all buckets, dB; psnr_min_db: the worst picture's.
        oracle_read_frac: part of clean held-out scenes at 64x64 that the oracle reads back exactly
        after encode and decode; oracle_read_frac_all_buckets: mean of this over `BUCKETS`, whose
        longest ones (48x80) draw small objects 8 px across.
    """
    share = count // len(BUCKETS)
    pictures = bucket_pictures(seed, dict.fromkeys(BUCKETS, share), "heldout")
    psnr = np.concatenate([_psnr(batch, reconstruct(vae, batch)) for batch in pictures.values()])
    read: dict[tuple[int, int], float] = {}
    for size in BUCKETS:
        rng = make_rng(seed, "vae", "measure", *size)
        scenes = [random_split_scene(rng, "heldout") for _ in range(share)]
        clean = np.stack([render(scene, *size) for scene in scenes])
        seen = [read_scene(pixels).scene for pixels in reconstruct(vae, clean)]
        right = [scene == found for scene, found in zip(scenes, seen, strict=True)]
        read[size] = sum(right) / share
    return {
        "psnr_db": float(psnr.mean()),
        "psnr_min_db": float(psnr.min()),
        "oracle_read_frac": read[64, 64],
        "oracle_read_frac_all_buckets": sum(read.values()) / len(BUCKETS),
    }


def reconstruct(vae: Vae, pixels: Pixels) -> Pixels:
    """Encode to the posterior's mean and decode."""
    return vae.decode(vae.encode(pixels)[:, : vae.latent_channels])


def _psnr(wanted: Pixels, got: Pixels) -> np.ndarray:
    squared = (wanted.astype(np.float64) - got.astype(np.float64)) ** 2
    return 10 * np.log10(255.0**2 / squared.mean(axis=(1, 2, 3)).clip(1e-6))


def _train(
    network: AutoencoderKL,
    pictures: dict[tuple[int, int], Pixels],
    setting: VaeFit,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(derive_seed(seed, "vae", "noise"))
    optimizer = MatrixOptimizer(
        network.named_parameters(),
        num_steps=setting.num_steps,
        is_end=lambda name: name.endswith(("r.conv_in.weight", "r.conv_out.weight")),
    )
    network.train()
    for step, batch in enumerate(_batches(pictures, setting, seed)):
        loss, parts = _loss(network, batch, setting, generator)
        optimizer.step(loss)
        if step % 50 == 0 or step == setting.num_steps - 1:
            logger.info("vae: step %d %s", step, parts)
    network.eval()


def _loss(
    network: AutoencoderKL, batch: Tensor, setting: VaeFit, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Absolute and squared error of a sampled reconstruction, and the KL divergence per element."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = cast("Any", network.encode(batch)).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=generator)
        output = cast("Any", network.decode(mean + (0.5 * logvar).exp() * noise)).sample.float()
    error = output - batch
    absolute, squared = error.abs().mean(), error.square().mean()
    # Source: Kingma and Welling, Auto-Encoding Variational Bayes, appendix B.
    divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    loss = absolute + setting.squared_weight * squared + setting.kl_weight * divergence
    parts = {
        "absolute": round(absolute.item(), 4),
        "psnr_db": round(10 * math.log10(4 / squared.item()), 2),
        "kl": round(divergence.item(), 3),
        "sigma": round((0.5 * logvar).exp().mean().item(), 3),
        "mean_std": round(mean.std().item(), 3),
    }
    return loss, parts


def _batches(
    pictures: dict[tuple[int, int], Pixels], setting: VaeFit, seed: int
) -> Iterator[Tensor]:
    """Yield [B, 3, H, W] in [-1, 1]; one bucket a batch, random mirror images."""
    rng = make_rng(seed, "vae", "batches")
    sizes = list(pictures)
    shares = np.asarray([len(pictures[size]) for size in sizes], np.float64)
    for _ in range(setting.num_steps):
        stack = pictures[sizes[rng.choice(len(sizes), p=shares / shares.sum())]]
        pixels = stack[rng.integers(len(stack), size=setting.batch_size)]
        for axis in (1, 2):
            if rng.random() < 0.5:
                pixels = np.flip(pixels, axis)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        yield tensor.float().contiguous() / 127.5 - 1.0


@torch.inference_mode()
def _latent_moments(
    network: AutoencoderKL, pictures: dict[tuple[int, int], Pixels], seed: int
) -> Tensor:
    """Mean and std per channel of raw latents sampled from the posterior: [2, C]."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "vae", "whitening"))
    parts: list[Tensor] = []
    for stack in pictures.values():
        pixels = torch.from_numpy(stack[:512]).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        posterior = cast("Any", network.encode(pixels)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        sample = posterior.mean + posterior.std * noise  # [N, C, h, w]
        parts.append(sample.transpose(0, 1).flatten(1))
    latents = torch.cat(parts, dim=1)
    return torch.stack([latents.mean(dim=1), latents.std(dim=1)])
