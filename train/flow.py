"""Rectified flow in pure functions: path, velocity, timesteps, Euler sampler, guidance.

t = 0 is data and t = 1 is noise, everywhere. Shapes: B batch, C latent channels, h and w latent
sides. Nothing here draws a random number or knows a model: a `VelocityFn` is all a sampler sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

VelocityFn = Callable[[Tensor, Tensor], Tensor]  # (x_t [B,C,h,w], t [B]) -> velocity [B,C,h,w]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPair:
    """Hold a point of the path and the velocity there.

    Args:
        x_t: [B, C, h, w], (1 - t) * latents + t * noise.
        velocity: [B, C, h, w], noise - latents, the derivative of x_t by t.
    """

    x_t: Tensor
    velocity: Tensor


def flow_pair(latents: Tensor, noise: Tensor, t: Tensor) -> FlowPair:
    """Walk from latents (t = 0) to noise (t = 1) on a straight line.

    Args:
        latents: [B, C, h, w], float32, whitened.
        noise: [B, C, h, w], float32, standard normal.
        t: [B], float32, in [0, 1].

    Raises:
        ValueError: t is not of shape [B]; a broadcast t would train on wrong noise levels silently.

    Source: Esser et al. 2024 (SD3, arXiv:2403.03206), equations 1 and 13.
    """
    if t.shape != latents.shape[:1]:
        raise ValueError(
            f"t must have shape [{latents.shape[0]}], got {list(t.shape)}; give one t each"
        )
    t = t[:, None, None, None]
    return FlowPair(x_t=torch.lerp(latents, noise, t), velocity=noise - latents)


def logit_normal(uniform: Tensor, mean: float, std: float) -> Tensor:
    """Turn uniform draws into logit-normal timesteps: sigmoid(mean + std * n).

    A positive mean leans to the noise side. (Diffusers' scripts index a descending schedule with
    the same draw, so their `logit_mean` has the opposite sign.)

    Args:
        uniform: [B], float64, in the open interval (0, 1).
        mean: of the logit.
        std: of the logit, > 0.

    Returns:
        [B], float64, in (0, 1).

    Source: Esser et al. 2024, equation 19.
    """
    return torch.sigmoid(mean + std * torch.special.ndtri(uniform))


def shift_timesteps(t: Tensor, shift: float) -> Tensor:
    """Move timesteps to the noise side for larger pictures; shift 1 changes nothing.

    Source: Esser et al. 2024, equation 23: alpha t / (1 + (alpha - 1) t), alpha = sqrt(m / n).
    """
    return shift * t / (1 + (shift - 1) * t)


def euler_timesteps(num_steps: int, shift: float) -> Tensor:
    """List the sampler's timesteps from 1 (noise) down to 0 (data), evenly spaced before the shift.

    Returns:
        [num_steps + 1], float64.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}; 20 is a good start")
    return shift_timesteps(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift)


@torch.no_grad()
def sample_euler(velocity: VelocityFn, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Integrate the flow from noise to data with Euler steps.

    Args:
        velocity: the model.
        noise: [B, C, h, w], float32, standard normal.
        timesteps: [num_steps + 1], descending from 1 to 0.

    Returns:
        latents: [B, C, h, w], float32, whitened.
    """
    x_t = noise
    levels: list[float] = timesteps.tolist()
    for now, after in itertools.pairwise(levels):
        t = torch.full((len(x_t),), now, dtype=torch.float32)
        x_t = x_t + (after - now) * velocity(x_t, t).float()
    return x_t


def guide(conditional: VelocityFn, unconditional: VelocityFn, scale: float) -> VelocityFn:
    """Combine two velocities by classifier-free guidance.

    Args:
        conditional: velocity given the prompt.
        unconditional: velocity given the null caption.
        scale: 0 is unconditional, 1 conditional, above 1 extrapolates.

    Source: Ho and Salimans 2022 (arXiv:2207.12598), equation 6, with scale = 1 + w.
    """
    if scale == 1:
        return conditional

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        without = unconditional(x_t, t)
        return without + scale * (conditional(x_t, t) - without)

    return guided
