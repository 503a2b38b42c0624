import numpy as np

from train.draws import draw_uniform, fill_normal


def test_uniform_draws_depend_on_every_name() -> None:
    names = [(0, "timestep", "k", 0), (1, "timestep", "k", 0), (0, "dropout", "k", 0)]
    names += [(0, "timestep", "l", 0), (0, "timestep", "k", 1)]
    draws = [draw_uniform(*name) for name in names]
    assert len(set(draws)) == len(names)
    assert draws == [draw_uniform(*name) for name in names]


def test_uniform_draws_are_uniform() -> None:
    draws = np.sort([draw_uniform(0, "timestep", "key", i) for i in range(4000)])
    gap = np.abs(draws - (np.arange(4000) + 0.5) / 4000).max()
    assert gap < 1.63 / 4000**0.5  # Kolmogorov-Smirnov at 1 %


def test_normal_draws_are_standard_normal() -> None:
    out = np.empty((64, 64), np.float32)
    fill_normal(0, "noise", "key", 0, out)
    assert abs(out.mean()) < 0.05 and abs(out.std() - 1) < 0.05
