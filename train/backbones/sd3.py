"""Adapt diffusers' SD3Transformer2DModel (MM-DiT) to the backbone signature.

Saved folders load with `SD3Transformer2DModel.from_pretrained`. Only the initialisation is ours:
diffusers leaves torch's defaults, under which no block starts as the identity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from curate.core.errors import ModelError
from curate.core.seed import derive_seed
from train.backbones.backbone import BackboneConfig, BackboneShape
from train.backbones.cpu_attention import CpuJointAttention

# SD3 feeds its network 1000 t. Source: diffusers FlowMatchEulerDiscreteScheduler's
# num_train_timesteps.
_TIMESTEP_SCALE = 1000.0
# Source: DiT, models.py initialize_weights: timestep MLP normal(0, 0.02), adaLN and output zero.
_EMBEDDER_STD = 0.02
_ZERO_SUFFIXES = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")


class Sd3Backbone:
    """Hold an SD3 transformer."""

    def __init__(self, model: SD3Transformer2DModel) -> None:
        self._model = model
        if next(model.parameters()).device.type == "cpu":
            model.set_attn_processor(cast("Any", CpuJointAttention()))

    @classmethod
    def build(cls, config: BackboneConfig, shape: BackboneShape, seed: int) -> Sd3Backbone:
        """Make a model whose weights are a function of the seed and of parameter names."""
        hidden = config.num_heads * config.head_dim
        with torch.random.fork_rng(devices=[]):  # torch's default init would advance the global RNG
            model = SD3Transformer2DModel(
                # base size = table size: token positions are one apart in the sine table
                sample_size=config.max_grid * config.patch_size,
                patch_size=config.patch_size,
                in_channels=shape.latent_channels,
                out_channels=shape.latent_channels,
                num_layers=config.depth,
                attention_head_dim=config.head_dim,
                num_attention_heads=config.num_heads,
                joint_attention_dim=shape.text_dim,
                caption_projection_dim=hidden,
                pooled_projection_dim=shape.pooled_dim,
                pos_embed_max_size=config.max_grid,
                qk_norm="rms_norm",
            )
        _initialise(model, seed)
        return cls(model)

    @classmethod
    def load(cls, folder: Path) -> Sd3Backbone:
        """Load what `save` wrote.

        Raises:
            ModelError: the folder holds no SD3 transformer with safetensors weights.
        """
        try:
            model = SD3Transformer2DModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{folder}: must hold a diffusers SD3 transformer, got {reason}; rerun train"
            ) from error
        return cls(model.eval())

    @property
    def module(self) -> nn.Module:
        """Give the diffusers model."""
        return self._model

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Predict the velocity; see `train.backbones.backbone.Backbone`."""
        return self._model(
            hidden_states=x_t,
            timestep=t * _TIMESTEP_SCALE,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]

    def save(self, folder: Path) -> None:
        """Write config.json and diffusion_pytorch_model.safetensors."""
        self._model.save_pretrained(folder, safe_serialization=True)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors' writer makes weights readable by their owner alone


@torch.no_grad()
def _initialise(model: nn.Module, seed: int) -> None:
    """Initialise as DiT does: Xavier matrices, zero biases, identity blocks, zero output."""
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        generator = torch.Generator().manual_seed(derive_seed(seed, "init", path))
        weight: Any = module.weight
        if path.endswith(_ZERO_SUFFIXES):
            weight.zero_()
        elif path.startswith("time_text_embed"):
            weight.normal_(0, _EMBEDDER_STD, generator=generator)
        else:
            nn.init.xavier_uniform_(weight.view(len(weight), -1), generator=generator)
        if module.bias is not None:
            module.bias.zero_()
