"""The pack's trainer: its optimiser, its determinism in small, its card and its arguments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.toyweb import fit_clip, fit_heads, fit_models, fit_vae
from pipelines.toyweb.fit_clip_model import build_network
from pipelines.toyweb.fit_data import web_pictures
from pipelines.toyweb.fit_optim import MatrixOptimizer
from pipelines.toyweb.scene import split_of


def test_kernels_and_vectors_both_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 1, 1))
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    images = torch.randn(16, 2, 3, 3, generator=generator)
    target = images.sum(dim=(1, 2, 3), keepdim=True)
    optimizer = MatrixOptimizer(
        network.named_parameters(), num_steps=150, matrix_lr=0.1, is_end=lambda n: n == "1.weight"
    )
    start = [parameter.detach().clone() for parameter in network.parameters()]
    losses = []
    for _ in range(150):
        loss = (network(images) - target).square().mean()
        losses.append(loss.item())
        optimizer.step(loss)
    assert losses[-1] < 0.05 * losses[0]
    moved = zip(start, network.parameters(), strict=True)
    assert all(not torch.equal(before, after) for before, after in moved)


def test_frozen_parameters_stay() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[0].weight.requires_grad_(False)
    before = [layer.weight.detach().clone() for layer in network]
    optimizer = MatrixOptimizer(network.named_parameters(), num_steps=5)
    optimizer.step(network(torch.ones(1, 3)).square().sum())
    assert torch.equal(before[0], network[0].weight)
    assert not torch.equal(before[1], network[1].weight)


@pytest.mark.parametrize("build", [fit_vae.build_network, build_network])
def test_first_weights_are_a_function_of_the_seed(build: object) -> None:
    first, again, other = (
        torch.cat([p.flatten() for p in build(seed).parameters()])  # type: ignore[operator]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pictures_are_of_their_split_and_equal_for_equal_names() -> None:
    first, again = (list(web_pictures(0, 4, "fit", "x")) for _ in range(2))
    assert all(split_of(picture.scene) == "fit" for picture in first)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)


def test_logistic_fit_separates_and_ridge_recovers_a_line() -> None:
    rng = np.random.Generator(np.random.Philox(0))
    features = rng.standard_normal((400, 5)).astype(np.float32)
    line = features @ np.array([1, 0, -2, 0, 0.5], np.float32) + 3
    weight, bias = fit_heads.fit_ridge(features, line, 1e-6)
    np.testing.assert_allclose(weight, [1, 0, -2, 0, 0.5], atol=1e-3)
    assert bias == pytest.approx(3, abs=1e-3)
    labels = (line > 3).astype(np.float32)
    weight, bias = fit_heads.fit_logistic(features, labels, 1e-4)
    assert fit_clip.auc((features @ weight)[labels == 1], (features @ weight)[labels == 0]) > 0.99


def test_the_card_keeps_the_numbers_of_other_parts(tmp_path: Path) -> None:
    fit_models.write_card(tmp_path, "vae", {"psnr_db": 30.0}, 0, 1)
    fit_models.write_card(tmp_path, "heads", {"watermark_auc": 0.98765}, 0, 1)
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert quality == {"heads": {"watermark_auc": 0.9877}, "vae": {"psnr_db": 30.0}}
    assert "| vae | psnr_db | 30 |" in (tmp_path / "README.md").read_text()


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fit_models.main(["--parts", "vae,unet"])
    assert caught.value.code == 2
    assert "--parts: must be of vae, clip, heads, captioner, got unet" in capsys.readouterr().err


def test_the_shipped_pack_reaches_its_numbers() -> None:
    quality = json.loads((fit_models.SHIPPED / "quality.json").read_text())
    assert quality["vae"]["psnr_db"] >= 26
    assert quality["vae"]["oracle_read_frac"] >= 0.98
    assert quality["clip"]["mismatched_auc"] >= 0.95
    assert quality["heads"]["watermark_auc"] >= 0.97
    assert quality["heads"]["text_overlay_auc"] >= 0.99
    assert quality["heads"]["watermark_confused"] == quality["heads"]["text_overlay_confused"] == 0
    assert quality["captioner"]["detailed_exact"] >= 0.90


def test_the_shipped_pack_is_small_and_safe() -> None:
    files = [path for path in fit_models.SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24_000_000
    kinds = {".safetensors", ".json", ".jinja", ".md"}
    assert {path.suffix for path in files} <= kinds
