"""Flow math by physics: ends of the path, velocity as derivative, Euler with the true velocity."""

import pytest
import torch

from train.flow import (
    euler_timesteps,
    flow_pair,
    guide,
    logit_normal,
    sample_euler,
    shift_timesteps,
)


def tensors(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, 4, 2, 5, generator=generator),
        torch.randn(count, 4, 2, 5, generator=generator),
    )


def test_path_begins_at_latents_and_ends_at_noise() -> None:
    latents, noise = tensors()
    assert torch.equal(flow_pair(latents, noise, torch.zeros(3)).x_t, latents)
    assert torch.equal(flow_pair(latents, noise, torch.ones(3)).x_t, noise)


def test_velocity_is_the_derivative_of_the_path() -> None:
    latents, noise = (x.double() for x in tensors())
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    step = 1e-6
    ahead = flow_pair(latents, noise, t + step).x_t
    behind = flow_pair(latents, noise, t - step).x_t
    slope = (ahead - behind) / (2 * step)
    assert torch.allclose(slope, flow_pair(latents, noise, t).velocity, atol=1e-8)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1, 1)])
def test_broadcast_timesteps_are_refused(shape: tuple[int, ...]) -> None:
    latents, noise = tensors()
    with pytest.raises(ValueError, match=r"t must have shape \[3\]"):
        flow_pair(latents, noise, torch.zeros(shape))


@pytest.mark.parametrize(("num_steps", "shift"), [(1, 1.0), (7, 1.0), (20, 3.0)])
def test_euler_with_the_true_velocity_recovers_the_data(num_steps: int, shift: float) -> None:
    latents, noise = tensors()
    drawn = sample_euler(lambda x_t, t: noise - latents, noise, euler_timesteps(num_steps, shift))
    assert torch.allclose(drawn, latents, atol=1e-5)


def test_euler_follows_the_gaussian_flow() -> None:
    """For data N(m, s^2) the exact velocity is known; samples must end with that mean and std."""
    mean, std = 1.5, 0.5
    noise = torch.randn(4096, 1, 1, 1, generator=torch.Generator().manual_seed(1))

    def velocity(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t[:, None, None, None]
        variance = (1 - t) ** 2 * std**2 + t**2
        centred = x_t - (1 - t) * mean
        return t / variance * centred - (mean + (1 - t) * std**2 / variance * centred)

    drawn = sample_euler(velocity, noise, euler_timesteps(200, 1.0))
    assert drawn.mean().item() == pytest.approx(mean, abs=0.02)
    assert drawn.std().item() == pytest.approx(std, abs=0.02)


def test_timesteps_descend_from_noise_to_data() -> None:
    levels = euler_timesteps(20, 3.0)
    assert levels[0] == 1 and levels[-1] == 0
    assert (levels.diff() < 0).all()


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        euler_timesteps(0, 1.0)


def test_logit_normal_has_its_quantiles() -> None:
    normal = torch.distributions.Normal(0.0, 1.0)
    uniform = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    expected = torch.sigmoid(0.5 + 2 * normal.icdf(uniform))
    assert torch.allclose(logit_normal(uniform, 0.5, 2.0), expected, atol=1e-6)


def test_positive_logit_mean_leans_to_noise() -> None:
    """SD3's sign; diffusers' scripts have the other one (0.304 instead of 0.697)."""
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    assert logit_normal(uniform, 1.0, 1.0).mean().item() == pytest.approx(0.697, abs=2e-3)


def test_shift_moves_log_snr_by_minus_two_ln_alpha() -> None:
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)

    def log_snr(t: torch.Tensor) -> torch.Tensor:
        return 2 * torch.log((1 - t) / t)

    moved = log_snr(shift_timesteps(t, 3.0)) - log_snr(t)
    assert torch.allclose(moved, torch.full_like(t, -2 * torch.log(torch.tensor(3.0)).item()))


def test_shift_three_maps_tenth_to_quarter() -> None:
    """diffusers, alpha = 3: u = .9 of a descending schedule (t = .1) gives 250 of 1000."""
    t = torch.tensor([0.1], dtype=torch.float64)
    assert shift_timesteps(t, 3.0).item() == pytest.approx(0.25)


def test_guidance_extrapolates_from_unconditional() -> None:
    x_t, t = torch.zeros(2, 1, 1, 1), torch.zeros(2)

    def constant(value: float):
        return lambda x_t, t: torch.full_like(x_t, value)

    for scale, expected in ((0.0, 1.0), (1.0, 2.0), (3.0, 4.0)):
        guided = guide(constant(2.0), constant(1.0), scale)(x_t, t)
        assert guided.flatten().tolist() == [expected] * 2
