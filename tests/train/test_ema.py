import pytest
import torch

from train.ema import Ema, ema_decay


def test_share_halves_over_the_half_life() -> None:
    steps = 1000 // 50
    assert ema_decay(50, 10**6, 1000) ** steps == pytest.approx(0.5)


def test_batch_size_does_not_change_the_average_over_samples() -> None:
    assert ema_decay(100, 10**6, 1000) == pytest.approx(ema_decay(50, 10**6, 1000) ** 2)


def test_half_life_is_short_at_the_start() -> None:
    assert ema_decay(9, 100, 1000) == pytest.approx(0.5)


def test_no_half_life_keeps_the_last_weights() -> None:
    params = [torch.tensor([1.0])]
    ema = Ema(params)
    params[0].fill_(3.0)
    ema.update(params, ema_decay(8, 8, 0))
    assert ema.averages[0].item() == 3.0


def test_average_moves_by_one_minus_decay() -> None:
    params = [torch.tensor([1.0])]
    ema = Ema(params)
    params[0].fill_(2.0)
    ema.update(params, 0.75)
    assert ema.averages[0].item() == 1.25
    ema.copy_to(params)
    assert params[0].item() == 1.25
