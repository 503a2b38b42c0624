"""Turn stored latents into the model's input and back.

stored moments -> mean + std * noise = raw latents -> (raw - mean) / std by channel = latents
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.space import LatentSpace


def draw_raw(moments: Tensor, posterior_noise: Tensor) -> Tensor:
    """Draw raw latents from the VAE's posterior: mean + std * noise.

    Args:
        moments: [B, 2C, h, w], float16, mean then standard deviation.
        posterior_noise: [B, C, h, w], float32, standard normal.

    Returns:
        [B, C, h, w], float32.
    """
    mean, std = moments.float().chunk(2, dim=1)
    return mean + std * posterior_noise


def whiten(raw: Tensor, space: LatentSpace) -> Tensor:
    """Bring raw latents to mean 0 and std 1 by channel: the model's input."""
    mean, std = channel_stats(space)
    return (raw - mean) / std


def unwhiten(latents: Tensor, space: LatentSpace) -> Tensor:
    """Bring latents back to what the VAE decodes."""
    mean, std = channel_stats(space)
    return latents * std + mean


def channel_stats(space: LatentSpace) -> tuple[Tensor, Tensor]:
    """Give mean and std of raw latents, each [C, 1, 1], float32."""
    return (
        torch.tensor(space.latent_mean)[:, None, None],
        torch.tensor(space.latent_std)[:, None, None],
    )


def text_length(space: LatentSpace, max_text_tokens: int) -> int:
    """Give T, the number of tokens every caption is cut or padded to."""
    return min(space.max_tokens, max_text_tokens or space.max_tokens)
