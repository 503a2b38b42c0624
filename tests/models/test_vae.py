"""The VAE's shapes, refusals and whitening, and the quality of the shipped one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from curate.core.errors import ModelError
from curate.core.seed import make_rng
from curate.models.packs import ModelRef, load_pack
from curate.models.vae import Vae, load_vae
from curate.models.weights import seeded_weights
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.scene import random_split_scene, render


@pytest.fixture(scope="module")
def vae() -> Vae:
    return load_vae(load_pack("toy")["vae"])


def _pictures(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    rng = make_rng(1, "test_vae")
    return np.stack(
        [render(random_split_scene(rng, "heldout"), height, width) for _ in range(count)]
    )


def _tiny(folder: Path, **config: object) -> ModelRef:
    with seeded_weights(0):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            latent_channels=4,
            **config,
        )
    network.save_pretrained(folder)
    return ModelRef(kind="autoencoder", paths=(folder,))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (72, 56), (8, 16)])
def test_moments_are_an_eighth_of_any_size_divisible_by_8(
    vae: Vae, height: int, width: int
) -> None:
    moments = vae.encode(np.zeros((2, height, width, 3), np.uint8))
    assert moments.shape == (2, 2 * vae.latent_channels, height // 8, width // 8)
    assert moments.dtype == np.float32
    pixels = vae.decode(moments[:, : vae.latent_channels])
    assert pixels.shape == (2, height, width, 3)
    assert pixels.dtype == np.uint8


def test_a_picture_encodes_alike_alone_and_in_a_batch(vae: Vae) -> None:
    pictures = _pictures(5)
    alone = np.concatenate([vae.encode(picture[None]) for picture in pictures])
    np.testing.assert_allclose(vae.encode(pictures), alone, atol=1e-3)


def test_more_pictures_than_a_batch_keep_their_order(vae: Vae) -> None:
    pictures = np.zeros((130, 32, 32, 3), np.uint8)
    pictures[129] = 255
    moments = vae.encode(pictures)
    assert len(moments) == 130
    assert not np.allclose(moments[129], moments[0], atol=0.1)
    np.testing.assert_allclose(moments[128], moments[0], atol=1e-3)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((1, 60, 64, 3), np.uint8), "divisible by 8"),
        (np.zeros((1, 64, 64, 3), np.float32), "uint8"),
        (np.zeros((64, 64, 3), np.uint8), r"\[B, H, W, 3\]"),
    ],
)
def test_other_shapes_and_types_are_refused(vae: Vae, images: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        vae.encode(images)


def test_latents_of_other_channels_are_refused(vae: Vae) -> None:
    with pytest.raises(ValueError, match="raw_latents must be"):
        vae.decode(np.zeros((1, 3, 8, 8), np.float32))


def test_held_out_pictures_come_back_sharp_and_readable(vae: Vae) -> None:
    rng = make_rng(2, "test_vae")
    scenes = [random_split_scene(rng, "heldout") for _ in range(48)]
    pictures = np.stack([render(scene, 64, 64) for scene in scenes])
    found = vae.decode(vae.encode(pictures)[:, : vae.latent_channels])
    squared = (pictures.astype(float) - found) ** 2
    psnr = 10 * np.log10(255**2 / squared.mean(axis=(1, 2, 3)))
    assert psnr.mean() >= 26
    read = [
        read_scene(picture).scene == scene for picture, scene in zip(found, scenes, strict=True)
    ]
    assert np.mean(read) >= 0.95


def test_whitened_latents_have_unit_scale(vae: Vae) -> None:
    moments = vae.encode(_pictures(32))
    raw = moments[:, : vae.latent_channels]
    latents = (raw - vae.latent_mean[:, None, None]) / vae.latent_std[:, None, None]
    assert abs(float(latents.mean())) < 0.3
    assert 0.6 < float(latents.std()) < 1.3


def test_whitening_falls_back_to_scaling_and_shift_factor(tmp_path: Path) -> None:
    vae = load_vae(_tiny(tmp_path, scaling_factor=0.5, shift_factor=0.25))
    np.testing.assert_allclose(vae.latent_std, np.full(4, 2.0))
    np.testing.assert_allclose(vae.latent_mean, np.full(4, 0.25))
    assert vae.downsample == 2


def test_an_attention_vae_with_quant_convs_loads_too(tmp_path: Path) -> None:
    vae = load_vae(_tiny(tmp_path))
    assert vae.encode(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 8, 8, 8)


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    ref = _tiny(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"safetensors: weights must exist") as caught:
        load_vae(ref)
    assert "\n" not in str(caught.value)


def test_weights_of_another_config_are_one_line(tmp_path: Path) -> None:
    ref = _tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["latent_channels"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"must fit config\.json") as caught:
        load_vae(ref)
    assert "\n" not in str(caught.value)


def test_another_class_and_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ModelError, match=r"one of AutoencoderKL, .*, got 'UNet2DModel'"):
        load_vae(ModelRef(kind="autoencoder", paths=(tmp_path,)))
    with pytest.raises(ModelError, match="kind must be 'autoencoder'"):
        load_vae(ModelRef(kind="minilm", paths=(tmp_path,)))


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    with seeded_weights(3):
        torch.randn(4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_broken_weight_file_is_one_line(tmp_path: Path) -> None:
    ref = _tiny(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle?")
    with pytest.raises(ModelError, match="must be a safetensors file"):
        load_vae(ref)
