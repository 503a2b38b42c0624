"""Say what stored latents and text embeddings are, for the model's card and its sampler."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from curate.core.latent_manifest import LatentManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpace:
    """Describe latents and text of one data set; checked against the models when sampling.

    Args:
        vae: digest of the VAE's weights.
        latent_channels: C.
        latent_mean: [C], of raw latents.
        latent_std: [C], of raw latents; latents = (raw - mean) / std.
        downsample: pixels on a latent pixel's side.
        text_encoder: digest of the text encoder's weights.
        text_dim: D, channels of a token.
        pooled_dim: P.
        max_tokens: M, most tokens a caption has.
    """

    vae: str
    latent_channels: int
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    downsample: int
    text_encoder: str
    text_dim: int
    pooled_dim: int
    max_tokens: int

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Build from plain values; others than the fields are left out.

        Raises:
            KeyError: a field is missing.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        plain = {name: values[name] for name in names}
        plain |= {name: tuple(plain[name]) for name in ("latent_mean", "latent_std")}
        return cls(**plain)

    @classmethod
    def from_manifest(cls, manifest: LatentManifest) -> Self:
        """Take the latents and the first text encoder of a store; without one, text is empty."""
        latents = manifest.latents
        text = manifest.texts[0] if manifest.texts else None
        return cls(
            vae=latents.vae,
            latent_channels=latents.channels,
            latent_mean=latents.mean,
            latent_std=latents.std,
            downsample=latents.downsample,
            text_encoder=text.encoder if text else "",
            text_dim=text.dim if text else 0,
            pooled_dim=text.pooled_dim if text else 0,
            max_tokens=text.max_tokens if text else 0,
        )
