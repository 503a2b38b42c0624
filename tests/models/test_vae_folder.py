"""Every class of autoencoder gives what diffusers gives, from tiny folders with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny

from curate.core.errors import ConfigError, ModelError
from curate.core.seed import make_rng
from curate.models.packs import ModelRef, load_pack
from curate.models.vae import Vae, load_vae
from curate.models.weights import seeded_weights


def kl(**config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        **config,
    )


def sd1() -> AutoencoderKL:
    return kl(latent_channels=4, scaling_factor=0.18215)


def sd3() -> AutoencoderKL:
    return kl(
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def dc() -> AutoencoderDC:
    blocks = ("ResBlock", "EfficientViTBlock")
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        scaling_factor=0.41407,
    )


def tiny() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )


def save(folder: Path, build: Callable[[], Any]) -> ModelRef:
    with seeded_weights(0):
        network = build()
    network.save_pretrained(folder)
    return ModelRef(kind="autoencoder", paths=(folder,))


def pictures(count: int = 2, height: int = 16, width: int = 24) -> np.ndarray:
    return make_rng(0, "pictures").integers(0, 256, (count, height, width, 3), np.uint8)


def to_input(images: np.ndarray) -> torch.Tensor:
    """As diffusers' VaeImageProcessor: [B, 3, H, W] in [-1, 1]."""
    return 2.0 * torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0 - 1.0


@pytest.mark.parametrize(("build", "channels"), [(sd1, 4), (sd3, 16)])
def test_posterior_is_mean_and_standard_deviation_of_diffusers(
    tmp_path: Path, build: Callable[[], AutoencoderKL], channels: int
) -> None:
    vae = load_vae(save(tmp_path, build))
    network = AutoencoderKL.from_pretrained(tmp_path).eval()
    images = pictures()
    with torch.inference_mode():
        posterior = network.encode(to_input(images)).latent_dist
        decoded = network.decode(posterior.mean).sample
    moments = vae.encode(images)
    assert (vae.member, vae.latent_channels, vae.downsample) == ("moments", channels, 2)
    assert moments.shape == (2, 2 * channels, 8, 12)
    np.testing.assert_allclose(moments[:, :channels], posterior.mean, atol=1e-5)
    np.testing.assert_allclose(moments[:, channels:], posterior.std, atol=1e-5)
    wanted = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
    found = vae.decode(moments[:, :channels])
    assert np.abs(found.astype(int) - wanted.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("build", "network_class", "field"),
    [(dc, AutoencoderDC, "latent"), (tiny, AutoencoderTiny, "latents")],
)
def test_autoencoders_without_posterior_give_latents(
    tmp_path: Path, build: Callable[[], Any], network_class: Any, field: str
) -> None:
    vae = load_vae(save(tmp_path, build))
    network = network_class.from_pretrained(tmp_path).eval()
    images = pictures()
    with torch.inference_mode():
        wanted = getattr(network.encode(to_input(images)), field)
    latents = vae.encode(images)
    assert (vae.member, vae.downsample) == ("latents", 2)
    np.testing.assert_allclose(latents, wanted, atol=1e-5)
    assert vae.decode(latents).shape == images.shape


@pytest.mark.parametrize(
    ("build", "mean", "std"),
    [(sd1, 0.0, 1 / 0.18215), (sd3, 0.0609, 1 / 1.5305), (dc, 0.0, 1 / 0.41407), (tiny, 0.0, 1.0)],
)
def test_whitening_is_the_pipelines_shift_and_scale(
    tmp_path: Path, build: Callable[[], Any], mean: float, std: float
) -> None:
    vae = load_vae(save(tmp_path, build))
    np.testing.assert_allclose(vae.latent_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(vae.latent_std, std, rtol=1e-6)


def test_whitening_of_other_lengths_is_refused(tmp_path: Path) -> None:
    ref = save(tmp_path, lambda: kl(latent_channels=4, latents_mean=[0.0], latents_std=[1.0]))
    with pytest.raises(ModelError, match="latents_std must have 4 numbers"):
        load_vae(ref)


def test_videos_are_refused_by_the_name_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan"}))
    with pytest.raises(ModelError, match="add a line to FAMILIES") as caught:
        load_vae(ModelRef(kind="autoencoder", paths=(tmp_path,)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", [sd1, dc])
def test_tiles_are_those_of_diffusers(tmp_path: Path, build: Callable[[], Any]) -> None:
    ref = save(tmp_path, build)
    images = pictures(1, 64, 48)
    network = type(build()).from_pretrained(tmp_path).eval()
    network.enable_tiling()
    if isinstance(network, AutoencoderKL):
        network.tile_sample_min_size, network.tile_latent_min_size = 32, 16
    else:
        network.enable_tiling(32, 32, 28, 28)
    with torch.inference_mode():
        found = network.encode(to_input(images))
    wanted = found.latent if isinstance(network, AutoencoderDC) else found.latent_dist.mean
    tiled = load_vae(ref, tile_px=32).encode(images)[:, : wanted.shape[1]]
    np.testing.assert_allclose(tiled, wanted, atol=1e-5)
    whole = load_vae(ref).encode(images)[:, : wanted.shape[1]]
    assert not np.allclose(tiled, whole, atol=1e-4)


def test_pictures_no_larger_than_a_tile_are_not_cut() -> None:
    ref = load_pack("toy")["vae"]
    images = pictures(2, 64, 64)
    np.testing.assert_array_equal(
        load_vae(ref, tile_px=64).encode(images), load_vae(ref).encode(images)
    )


def test_tiles_of_the_toy_vae_differ_little_from_the_whole() -> None:
    from pipelines.toyweb.scene import random_split_scene, render

    ref = load_pack("toy")["vae"]
    scene = random_split_scene(make_rng(0, "tiles"), "heldout")
    image = render(scene, 192, 192)[None]
    whole, tiled = load_vae(ref), load_vae(ref, tile_px=128)
    channels = whole.latent_channels
    mean, other = (vae.encode(image)[:, :channels] for vae in (whole, tiled))
    error = np.sqrt(np.mean((mean - other) ** 2) / np.mean(mean**2))
    assert 0 < error < 0.35
    pixels = [vae.decode(latents).astype(float) for vae, latents in ((whole, mean), (whole, other))]
    assert np.abs(pixels[0] - pixels[1]).mean() < 4


@pytest.mark.parametrize(
    ("build", "tile_px", "told"),
    [
        (sd1, 20, "multiple of 8 px"),
        (dc, 24, "multiple of 16 px"),
        (tiny, 64, "must be 0 for AutoencoderTiny"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(
    tmp_path: Path, build: Callable[[], Any], tile_px: int, told: str
) -> None:
    ref = save(tmp_path, build)
    with pytest.raises(ConfigError, match=told):
        load_vae(ref, tile_px=tile_px)


def test_one_picture_encodes_as_in_a_batch(tmp_path: Path) -> None:
    vae: Vae = load_vae(save(tmp_path, sd3))
    images = pictures(3)
    alone = np.concatenate([vae.encode(image[None]) for image in images])
    np.testing.assert_allclose(vae.encode(images), alone, atol=1e-5)
