from __future__ import annotations

import itertools

import numpy as np
import pytest

import eval.kid
from curate.core.errors import DataError
from eval.kid import kernel_distance


def kernel(x: np.ndarray, y: np.ndarray, gamma: float) -> float:
    return float(gamma * x @ y + 1) ** 3


def by_hand(left: np.ndarray, right: np.ndarray, gamma: float) -> float:
    """Average the kernel over all pairs, one at a time."""
    within_left = np.mean([kernel(x, y, gamma) for x, y in itertools.permutations(left, 2)])
    within_right = np.mean([kernel(x, y, gamma) for x, y in itertools.permutations(right, 2)])
    cross = np.mean([kernel(x, y, gamma) for x, y in itertools.product(left, right)])
    return float(within_left + within_right - 2 * cross)


def test_scalar_example_computed_by_hand():
    # k(x, y) = (x y + 1)^3; left 0 0 1: pairs 1 1 1; right 1 1 1: pairs 8; cross: 1 1 8
    left, right = np.array([[0.0], [0.0], [1.0]]), np.ones((3, 1))
    assert kernel_distance(left, right).value == pytest.approx(1 + 8 - 2 * (1 + 1 + 8) / 3)


def test_value_is_the_full_u_statistic_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 0.4
    expected = by_hand(left, right, gamma=1 / 3)
    assert kernel_distance(left, right).value == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(eval.kid, "_CHUNK", 2)
    assert kernel_distance(left, right).value == pytest.approx(expected, rel=1e-12)


def test_biased_value_counts_the_diagonal():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    pairs = [(left, left, 1), (right, right, 1), (left, right, -2)]
    expected = sum(
        sign * np.mean([kernel(x, y, 0.5) for x, y in itertools.product(a, b)])
        for a, b, sign in pairs
    )
    assert kernel_distance(left, right).biased == pytest.approx(expected, rel=1e-12)


def test_equal_distributions_average_to_zero_and_the_biased_value_does_not():
    rng = np.random.default_rng(2)
    trials = [
        kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(30, 4))) for _ in range(200)
    ]
    values = np.array([trial.value for trial in trials])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() > 0.3
    assert np.mean([trial.biased for trial in trials]) > 5 * abs(values.mean())


def test_standard_error_is_the_jackknife_over_both_sides():
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(6, 2)), rng.normal(size=(5, 2)) + 1
    without_left = [kernel_distance(np.delete(left, i, 0), right).value for i in range(6)]
    without_right = [kernel_distance(left, np.delete(right, i, 0)).value for i in range(5)]
    variance = 5 * np.var(without_left) + 4 * np.var(without_right)
    assert kernel_distance(left, right).standard_error == pytest.approx(np.sqrt(variance))


def test_interval_covers_the_true_distance_of_unit_features():
    rng = np.random.default_rng(4)

    def draw(num: int, shift: float) -> np.ndarray:
        values = rng.normal(size=(num, 4)) + np.array([shift, 0, 0, 0])
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    truth = kernel_distance(draw(5000, 0.5), draw(5000, 0.0), gamma=1.0).value
    intervals = [
        kernel_distance(draw(60, 0.5), draw(90, 0.0), gamma=1.0).interval for _ in range(100)
    ]
    assert 89 <= sum(found.low <= truth <= found.high for found in intervals) <= 100


def test_sides_can_be_swapped():
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=(9, 3)), rng.normal(size=(8, 3))
    forward, backward = kernel_distance(left, right), kernel_distance(right, left)
    assert forward.value == pytest.approx(backward.value, rel=1e-12)
    assert forward.standard_error == pytest.approx(backward.standard_error, rel=1e-12)


def test_two_pictures_are_refused():
    with pytest.raises(DataError, match="at least 3 pictures"):
        kernel_distance(np.ones((2, 3)), np.ones((9, 3)))
