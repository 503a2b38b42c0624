import numpy as np
from numpy.typing import NDArray

from train.draws import Draws, number_visits

KEYS = np.zeros((4000, 10), np.uint8)
VISITS = number_visits(KEYS, np.arange(4000))  # one sample, epoch after epoch


def number(key: bytes, epoch: int) -> NDArray[np.uint64]:
    return number_visits(np.frombuffer(key, np.uint8)[None], np.array([epoch]))


def test_uniform_draws_depend_on_every_name() -> None:
    k, last = bytes(10), bytes(9) + b"\x01"
    names = [(0, "timestep", k, 0), (1, "timestep", k, 0), (0, "dropout", k, 0)]
    names += [(0, "timestep", b"\x01" + bytes(9), 0), (0, "timestep", k, 1)]
    names += [(0, "timestep", last, 0)]  # a key's last bytes count, too
    draws = [float(Draws(s, p).uniform(number(key, e))[0]) for s, p, key, e in names]
    assert len(set(draws)) == len(names)
    assert draws == [float(Draws(s, p).uniform(number(key, e))[0]) for s, p, key, e in names]


def test_draw_of_a_visit_does_not_depend_on_its_batch() -> None:
    coins = Draws(0, "flip")
    assert np.array_equal(coins.uniform(VISITS)[70:90], coins.uniform(VISITS[70:90]))
    out, alone = np.empty((3, 8), np.float32), np.empty((1, 8), np.float32)
    coins.fill_normal(VISITS[5:8], out)
    coins.fill_normal(VISITS[6:7], alone)
    assert np.array_equal(out[1], alone[0])


def test_visits_have_numbers_of_their_own() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (200, 10), np.uint8).repeat(50, axis=0)
    assert len(np.unique(number_visits(keys, np.tile(np.arange(50), 200)))) == 10_000


def test_uniform_draws_are_uniform() -> None:
    rng = np.random.default_rng(0)
    others = number_visits(rng.integers(0, 256, KEYS.shape, np.uint8), np.zeros(4000, np.int64))
    for visits in (VISITS, others):
        draws = np.sort(Draws(0, "timestep").uniform(visits))
        gap = np.abs(draws - (np.arange(4000) + 0.5) / 4000).max()
        assert gap < 1.63 / 4000**0.5  # Kolmogorov-Smirnov at 1 %


def test_draws_for_two_purposes_are_independent() -> None:
    one, other = (Draws(0, purpose).uniform(VISITS) for purpose in ("dropout", "caption"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 3.3 / 4000**0.5
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 3.3 / 4000**0.5  # nor are epochs alike


def test_coins_fall_as_often_as_they_should() -> None:
    assert abs(Draws(0, "dropout").below(VISITS, 0.1).mean() - 0.1) < 3.3 * (0.09 / 4000) ** 0.5
    assert not Draws(0, "dropout").below(VISITS, 0.0).any()
    assert Draws(0, "dropout").below(VISITS, 1.0).all()


def test_normal_draws_are_standard_normal() -> None:
    out = np.empty((64, 64), np.float32)
    Draws(0, "noise").fill_normal(VISITS[:64], out)
    assert abs(out.mean()) < 4 / 64
    assert abs(out.std() - 1) < 4 / 64
    again = np.empty_like(out)
    Draws(0, "noise").fill_normal(VISITS[:64], again)
    assert np.array_equal(out, again)
