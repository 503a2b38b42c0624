import numpy as np

from train.draws import Draws, draw_names


def draw_name(key: bytes, epoch: int) -> bytes:
    (name,) = draw_names(np.frombuffer(key, np.uint8)[None], np.array([epoch]))
    return name


KEY = bytes(10)


def test_uniform_draws_depend_on_every_name() -> None:
    names = [(0, "timestep", b"k", 0), (1, "timestep", b"k", 0), (0, "dropout", b"k", 0)]
    names += [(0, "timestep", b"l", 0), (0, "timestep", b"k", 1)]
    draws = [Draws(s, p).uniform(draw_name(k, e)) for s, p, k, e in names]
    assert len(set(draws)) == len(names)
    assert draws == [Draws(s, p).uniform(draw_name(k, e)) for s, p, k, e in names]


def test_uniform_draws_are_uniform() -> None:
    coins = Draws(0, "timestep")
    draws = np.sort([coins.uniform(draw_name(KEY, i)) for i in range(4000)])
    gap = np.abs(draws - (np.arange(4000) + 0.5) / 4000).max()
    assert gap < 1.63 / 4000**0.5  # Kolmogorov-Smirnov at 1 %


def test_draws_for_two_purposes_are_independent() -> None:
    names = [draw_name(KEY, i) for i in range(4000)]
    one, other = ([Draws(0, p).uniform(n) for n in names] for p in ("dropout", "caption"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 3.3 / 4000**0.5


def test_normal_draws_are_standard_normal() -> None:
    out = np.empty((64, 64), np.float32)
    Draws(0, "noise").fill_normal(draw_name(KEY, 0), out)
    assert abs(out.mean()) < 4 / 64
    assert abs(out.std() - 1) < 4 / 64
    again = np.empty_like(out)
    Draws(0, "noise").fill_normal(draw_name(KEY, 0), again)
    assert np.array_equal(out, again)
