"""Say what a backbone is, and what sizes it.

Torch is imported for types alone; the command line reads configs without paying for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from curate.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """Size a transformer backbone.

    Args:
        depth: number of blocks.
        num_heads: attention heads; the hidden size is num_heads * head_dim.
        head_dim: channels of a head, a multiple of 4 (two axes of sine and cosine).
        patch_size: latent pixels on a token's side.
        max_grid: tokens on a side of the positional table; a bucket uses its centre, so every
            aspect ratio up to this many tokens fits.
    """

    depth: int = 4
    num_heads: int = 2
    head_dim: int = 64
    patch_size: int = 1
    max_grid: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes that give no model."""
        for field in ("depth", "num_heads", "head_dim", "patch_size", "max_grid"):
            if getattr(self, field) < 1:
                raise ConfigError(
                    f"train.model.{field} must be >= 1, got {getattr(self, field)}; "
                    "see `curate config`"
                )
        if self.head_dim % 4:
            raise ConfigError(
                f"train.model.head_dim must be a multiple of 4, got {self.head_dim}; try 64"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneShape:
    """Fix what the data decide about a model: channels of latents and of text embeddings."""

    latent_channels: int
    text_dim: int
    pooled_dim: int


class Backbone(Protocol):
    """Predict velocities; the trainer and the sampler see no more of a model than this."""

    @property
    def module(self) -> nn.Module:
        """Give the module whose parameters are trained."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Map x_t [B,C,h,w], t [B] in [0,1], text [B,T,D], pooled [B,P] to velocity [B,C,h,w]."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights and config as the model's own library does."""
        ...
