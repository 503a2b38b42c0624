"""Name what is trained: path x target x timestep density x weighting x shift.

Each factor is a small table of pure functions, so that a new one is a new line. This step of the
project fills one cell: rectified flow, velocity, logit-normal (or uniform) density, no weighting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from train.flow import FlowPair


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """Choose the objective.

    Args:
        path: how latents become noise; a name in `PATHS`.
        density: how timesteps are drawn; a name in `DENSITIES`.
        weighting: weight of a sample's loss by t; a name in `WEIGHTINGS`.
        logit_mean: of the logit-normal density; positive leans to noise.
        logit_std: of the logit-normal density. Source: SD3's best, rf/lognorm(0.00, 1.00).
        shift: resolution shift of training and sampling timesteps, alpha = sqrt(m / n).
    """

    path: str = "rectified_flow"
    density: str = "logit_normal"
    weighting: str = "none"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        """Refuse names outside the tables and values that make no distribution."""
        for field, table in (("path", PATHS), ("density", DENSITIES), ("weighting", WEIGHTINGS)):
            value = getattr(self, field)
            if value not in table:
                raise ConfigError(
                    f"train.objective.{field} must be one of {', '.join(table)}, got {value!r}; "
                    "choose one"
                )
        for field in ("logit_std", "shift"):
            if not getattr(self, field) > 0:
                raise ConfigError(
                    f"train.objective.{field} must be > 0, got {getattr(self, field)}; 1 is neutral"
                )


def make_pair(objective: ObjectiveConfig, latents: Tensor, noise: Tensor, t: Tensor) -> FlowPair:
    """Put latents on the path at t; shapes as `train.flow.flow_pair`."""
    return PATHS[objective.path](latents, noise, t)


def make_timesteps(objective: ObjectiveConfig, uniform: Tensor) -> Tensor:
    """Turn uniform draws into training timesteps.

    Args:
        objective: its density and shift are used.
        uniform: [B], float64, in (0, 1); the density's inverse CDF is applied to it, so
            stratified or quasi-random draws need no other code.

    Returns:
        [B], float32, in (0, 1).
    """
    from train.flow import shift_timesteps

    t = DENSITIES[objective.density](uniform, objective)
    return shift_timesteps(t, objective.shift).float()


def sample_losses(
    objective: ObjectiveConfig, predicted: Tensor, pair: FlowPair, t: Tensor
) -> Tensor:
    """Give each sample's weighted mean squared error.

    Args:
        objective: its weighting is used.
        predicted: [B, C, h, w], any float dtype; compared in float32.
        pair: path point and target.
        t: [B].

    Returns:
        [B], float32.
    """
    losses = (predicted.float() - pair.velocity).square().mean(dim=(1, 2, 3))
    return WEIGHTINGS[objective.weighting](losses, t)


def _rectified_flow(latents: Tensor, noise: Tensor, t: Tensor) -> FlowPair:
    from train.flow import flow_pair

    return flow_pair(latents, noise, t)


def _logit_normal(uniform: Tensor, objective: ObjectiveConfig) -> Tensor:
    from train.flow import logit_normal

    return logit_normal(uniform, objective.logit_mean, objective.logit_std)


PATHS: Mapping[str, Callable[[Tensor, Tensor, Tensor], FlowPair]] = {
    "rectified_flow": _rectified_flow,
}
DENSITIES: Mapping[str, Callable[[Tensor, ObjectiveConfig], Tensor]] = {
    "logit_normal": _logit_normal,
    "uniform": lambda uniform, _objective: uniform,
}
WEIGHTINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda losses, _t: losses,
}
