import pytest
import torch

from curate.core.errors import ConfigError
from train.objective import ObjectiveConfig, make_pair, make_timesteps, sample_losses


def test_exact_prediction_has_no_loss() -> None:
    objective = ObjectiveConfig()
    latents, noise = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    t = torch.tensor([0.25, 0.75])
    pair = make_pair(objective, latents, noise, t)
    assert sample_losses(objective, pair.velocity, pair, t).tolist() == [0.0, 0.0]


def test_loss_is_one_number_a_sample() -> None:
    objective = ObjectiveConfig()
    latents, noise = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    t = torch.tensor([0.25, 0.75])
    pair = make_pair(objective, latents, noise, t)
    predicted = torch.tensor([1.0, 2.0])[:, None, None, None].expand(2, 1, 2, 2)
    assert sample_losses(objective, predicted, pair, t).tolist() == [1.0, 4.0]


def test_uniform_density_keeps_draws() -> None:
    uniform = torch.tensor([0.1, 0.9], dtype=torch.float64)
    drawn = make_timesteps(ObjectiveConfig(density="uniform"), uniform)
    assert drawn.tolist() == pytest.approx([0.1, 0.9])


def test_training_timesteps_are_shifted() -> None:
    uniform = torch.tensor([0.5], dtype=torch.float64)
    assert make_timesteps(ObjectiveConfig(shift=3.0), uniform).item() == pytest.approx(0.75)


def test_timesteps_stay_inside_the_open_interval() -> None:
    uniform = torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64)
    drawn = make_timesteps(ObjectiveConfig(), uniform)
    assert ((drawn > 0) & (drawn < 1)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": "mode"}, "train.objective.density must be one of logit_normal, uniform"),
        ({"path": "cosine"}, "train.objective.path must be one of rectified_flow"),
        ({"weighting": "min_snr"}, "train.objective.weighting must be one of none"),
        ({"logit_std": 0.0}, "train.objective.logit_std must be > 0, got 0.0"),
        ({"shift": -1.0}, "train.objective.shift must be > 0, got -1.0"),
    ],
)
def test_what_is_no_objective_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**changes)
