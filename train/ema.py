"""Average weights over training; the averaged model is the one that samples."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

# Source: EDM2, training/phema.py TraditionalEMA, rampup_ratio 0.09: early on, the half-life is
# this share of the samples seen, so that the random start is soon forgotten.
_RAMPUP_FRAC = 0.09


def ema_decay(batch_size: int, samples_seen: int, half_life_samples: float) -> float:
    """Give the factor by which the average shrinks in one step.

    Args:
        batch_size: samples of the step.
        samples_seen: after the step, > 0.
        half_life_samples: after this many samples a weight's share has halved; 0 keeps no average.

    Source: EDM2 (Karras et al. 2024), beta = 0.5^(B / min(H, 0.09 n)).
    """
    half_life = min(half_life_samples, _RAMPUP_FRAC * samples_seen)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


class Ema:
    """Keep float32 averages of parameters."""

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.averages = [param.detach().clone() for param in params]

    @torch.no_grad()
    def update(self, params: Iterable[Tensor], decay: float) -> None:
        """Move the averages towards the parameters by 1 - decay."""
        current = [param.detach() for param in params]
        get_ema_multi_avg_fn(decay)(self.averages, current, 0)

    @torch.no_grad()
    def copy_to(self, params: Iterable[Tensor]) -> None:
        """Overwrite parameters with their averages."""
        for param, average in zip(params, self.averages, strict=True):
            param.copy_(average)
