import json
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel

from curate.core.errors import ConfigError, ModelError
from train.backbones.backbone import Backbone, BackboneConfig, BackboneShape
from train.backbones.table import BACKBONES

SHAPE = BackboneShape(latent_channels=4, text_dim=6, pooled_dim=5)
TINY = BackboneConfig(depth=2, num_heads=2, head_dim=8, max_grid=8)


def build(seed: int = 0, config: BackboneConfig = TINY) -> Backbone:
    return BACKBONES["sd3"].build(config, SHAPE, seed)


def inputs(height: int = 4, width: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, height, width), (2, 3, 6), (2, 5)]
    x_t, text, pooled = (torch.randn(shape, generator=generator) for shape in shapes)
    return x_t, torch.tensor([0.2, 0.8]), text, pooled


def shake(backbone: Backbone) -> None:
    """Move the weights off the identity start, under which nothing reaches the output."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in backbone.module.parameters():
            param += 0.1 * torch.randn(param.shape, generator=generator)


def test_fresh_model_predicts_nothing() -> None:
    assert build()(*inputs()).abs().max() == 0


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 8), (8, 2), (8, 8)])
def test_any_aspect_within_the_table_keeps_its_shape(height: int, width: int) -> None:
    x_t, *rest = inputs(height, width)
    assert build()(x_t, *rest).shape == x_t.shape


def test_every_input_matters() -> None:
    backbone = build()
    shake(backbone)
    given = inputs()
    reference = backbone(*given)
    for i in range(4):
        changed = [x + 0.1 if j == i else x for j, x in enumerate(given)]
        assert not torch.allclose(backbone(*changed), reference)


def test_weights_are_a_function_of_the_seed() -> None:
    torch_state = torch.random.get_rng_state()
    one, same, other = (build(seed).module.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["pos_embed.proj.weight"], other["pos_embed.proj.weight"])
    assert torch.equal(torch.random.get_rng_state(), torch_state), "the global RNG must not move"


def test_saved_model_loads_in_diffusers_and_here(tmp_path: Path) -> None:
    backbone = build()
    shake(backbone)
    backbone.save(tmp_path)
    x_t, t, text, pooled = inputs()
    expected = backbone(x_t, t, text, pooled)
    assert torch.equal(BACKBONES["sd3"].load(tmp_path)(x_t, t, text, pooled), expected)
    model = SD3Transformer2DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    drawn = model(x_t, text, pooled, timestep=1000 * t).sample
    assert torch.allclose(drawn, expected, atol=1e-6)
    assert json.loads((tmp_path / "config.json").read_text())["qk_norm"] == "rms_norm"


def test_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must hold a diffusers SD3 transformer"):
        BACKBONES["sd3"].load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"depth": 0}, "train.model.depth must be >= 1"), ({"head_dim": 6}, "multiple of 4, got 6")],
)
def test_sizes_that_give_no_model_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BackboneConfig(**changes)
