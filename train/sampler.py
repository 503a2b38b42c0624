"""Draw pictures with a model: text => embeddings, seed => noise => latents => pixels.

Not for prompts, shards or tasks: see `train/sample.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.models.text_embedding import TextEmbedding, TextEncoder
from curate.models.vae import Vae
from train.backbones.backbone import Backbone
from train.card import TrainCard, check_size
from train.flow import VelocityFn, euler_timesteps, guide, sample_euler
from train.latents import text_length, unwhiten
from train.loop import autocast
from train.prompts import Prompt
from train.space import LatentSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Name one picture to draw: its prompt, its number among the prompt's pictures, its seed."""

    prompt: Prompt
    number: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Hold everything that turns a prompt into a picture.

    Args:
        card: of the model's run.
        backbone: the model.
        text_encoder: the one the model was trained with.
        vae: the one the model was trained with.
        guidance_scale: 1 is none.
        num_steps: Euler steps.
    """

    card: TrainCard
    backbone: Backbone
    text_encoder: TextEncoder
    vae: Vae
    guidance_scale: float
    num_steps: int

    def draw(self, pictures: Sequence[Picture], batch_size: int) -> list[NDArray[np.uint8]]:
        """Draw pictures, batched by size.

        Returns:
            For each picture [height, width, 3], uint8, in the order given.

        Raises:
            ConfigError: a size the model cannot take.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for place, picture in enumerate(pictures):
            prompt = picture.prompt
            groups.setdefault((prompt.height, prompt.width), []).append(place)
        drawn: dict[int, NDArray[np.uint8]] = {}
        for (height, width), places in groups.items():
            origin = f"sample: size {height}x{width}"
            check_size(self.card.config.model, self.card.space.downsample, height, width, origin)
            for first in range(0, len(places), batch_size):
                chosen = places[first : first + batch_size]
                latents = self.draw_latents([pictures[place] for place in chosen], height, width)
                raw = unwhiten(latents, self.card.space).numpy()
                drawn.update(zip(chosen, self.vae.decode(raw), strict=True))
        return [drawn[place] for place in range(len(pictures))]

    @torch.inference_mode()
    def draw_latents(self, pictures: Sequence[Picture], height: int, width: int) -> Tensor:
        """Draw whitened latents [B, C, h, w] of pictures of one size in pixels."""
        space, config = self.card.space, self.card.config
        noise = make_noise([picture.seed for picture in pictures], space, height, width)
        embedded = self.text_encoder.encode([picture.prompt.text for picture in pictures])
        text, pooled = pad_text(embedded, space, config.max_text_tokens)
        velocity = guide(
            self._velocity(text, pooled),
            self._velocity(*self._null_text(text, pooled)),
            self.guidance_scale,
        )
        timesteps = euler_timesteps(self.num_steps, config.objective.shift)
        return sample_euler(velocity, noise, timesteps)

    def _null_text(self, text: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Give what training showed for no caption, in the shapes of these."""
        config = self.card.config
        if config.null_caption == "zeros":
            return torch.zeros_like(text), torch.zeros_like(pooled)
        empty = self.text_encoder.encode([""]) * len(text)
        return pad_text(empty, self.card.space, config.max_text_tokens)

    def _velocity(self, text: Tensor, pooled: Tensor) -> VelocityFn:
        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(self.card.config.precision):
                return self.backbone(x_t, t, text, pooled).float()

        return velocity


def make_noise(seeds: Sequence[int], space: LatentSpace, height: int, width: int) -> Tensor:
    """Draw [B, C, h, w] standard normal noise, one Philox stream a seed."""
    side = space.downsample
    noise = np.empty((len(seeds), space.latent_channels, height // side, width // side), np.float32)
    for out, seed in zip(noise, seeds, strict=True):
        np.random.Generator(np.random.Philox(key=seed)).standard_normal(out=out, dtype=np.float32)
    return torch.from_numpy(noise)


def pad_text(
    embedded: Sequence[TextEmbedding], space: LatentSpace, max_text_tokens: int
) -> tuple[Tensor, Tensor]:
    """Lay embeddings out as in training: zeros after the last real token, rounded to float16.

    Returns:
        Tokens [B, T, D] and pooled [B, P], float32.
    """
    length = text_length(space, max_text_tokens)
    text = np.zeros((len(embedded), length, space.text_dim), np.float16)
    for out, embedding in zip(text, embedded, strict=True):
        tokens = embedding.tokens[:length]
        out[: len(tokens)] = tokens
    pooled = np.stack([embedding.pooled for embedding in embedded]).astype(np.float16)
    return torch.from_numpy(text).float(), torch.from_numpy(pooled).float()
