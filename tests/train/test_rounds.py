import numpy as np
import pytest

from train.rounds import Rounds


def test_shares_are_exact_over_a_cycle() -> None:
    rates = [7, 2, 1]
    turns = Rounds(rates, 20, 0, "a").turns(0, 200)
    assert np.bincount(turns.parties).tolist() == [140, 40, 20]


@pytest.mark.parametrize("rates", [[1], [5, 3], [10**9, 1, 12_345], [1] * 700])
def test_each_party_is_less_than_one_turn_off_at_every_round(rates: list[int]) -> None:
    rounds = Rounds(rates, 512, 3, "a")
    for number in (0, 1, 2, 77, 10**6):
        before = rounds.turns_before(number)
        exact = [rate * 512 * number / sum(rates) for rate in rates]
        assert max(abs(b - e) for b, e in zip(before, exact, strict=True)) <= 1.0 + 1e-6 * number


def test_turns_of_a_party_are_numbered_in_time() -> None:
    turns = Rounds([5, 3, 1], 16, 0, "a").turns(0, 1000)
    for party in range(3):
        indices = turns.indices[turns.parties == party]
        assert np.array_equal(indices, np.arange(len(indices)))


@pytest.mark.parametrize("rates", [[1], [5, 3, 1], [1] * 700, [10**6, 1]])
def test_any_stretch_is_the_same_as_in_one_go(rates: list[int]) -> None:
    whole = Rounds(rates, 64, 0, "a").turns(0, 3000)
    fresh = Rounds(rates, 64, 0, "a")
    for first, count in ((2990, 10), (0, 1), (63, 2), (1000, 500), (511, 1)):
        part = fresh.turns(first, count)
        assert np.array_equal(part.parties, whole.parties[first : first + count])
        assert np.array_equal(part.indices, whole.indices[first : first + count])


def test_rare_parties_do_not_come_together() -> None:
    turns = Rounds([1000] + [1] * 50, 64, 0, "a").turns(0, 5000)
    rare = np.flatnonzero(turns.parties > 0)
    assert len(rare) > 150
    assert np.diff(rare).max() < 500
    assert len(np.unique(rare // 64)) > 60
