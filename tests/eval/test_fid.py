from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from curate.core.errors import DataError
from curate.core.seed import make_rng
from eval.fid import correct_bias, distance_of_moments, frechet_distance, principal_axes
from eval.statistics import FeatureMoments, measure_moments


def gaussian(mean: list[float], covariance: list[list[float]], count: int = 1000) -> FeatureMoments:
    return FeatureMoments(
        count=count, mean=np.array(mean), scatter=np.array(covariance) * (count - 1)
    )


def test_scalar_gaussians_have_the_closed_form():
    # (2 - 5)^2 + (3 - 1)^2 of standard deviations 3 and 1
    distance = distance_of_moments(gaussian([2.0], [[9.0]]), gaussian([5.0], [[1.0]]))
    assert distance == pytest.approx(13.0)


def test_commuting_covariances_have_the_closed_form():
    left = gaussian([0.0, 1.0], [[4.0, 0.0], [0.0, 1.0]])
    right = gaussian([1.0, 1.0], [[1.0, 0.0], [0.0, 9.0]])
    assert distance_of_moments(left, right) == pytest.approx(1 + (2 - 1) ** 2 + (1 - 3) ** 2)


def test_general_covariances_equal_the_matrix_square_root():
    rng = np.random.default_rng(0)
    left = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    right = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 0.5
    s1, s2 = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    shift = left.mean(axis=0) - right.mean(axis=0)
    expected = shift @ shift + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-9)


def test_distance_is_symmetric_and_zero_to_itself():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(80, 5)), 2 * rng.normal(size=(60, 5))
    assert frechet_distance(left, right) == pytest.approx(frechet_distance(right, left), rel=1e-9)
    assert frechet_distance(left, left) == pytest.approx(0.0, abs=1e-12)


def test_order_of_pictures_does_not_matter():
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    shuffled = frechet_distance(rng.permutation(left), right)
    assert shuffled == pytest.approx(frechet_distance(left, right), rel=1e-9)


def test_fewer_than_twice_the_dimensions_are_refused_in_one_line():
    few, many = np.random.default_rng(3).normal(size=(2, 64, 8))
    with pytest.raises(DataError, match="8 dimensions need at least 16 pictures") as caught:
        frechet_distance(few[:15], many)
    assert "\n" not in str(caught.value)
    assert frechet_distance(few[:16], many) > 0


def test_svd_route_for_few_pictures_equals_the_eigenvalue_route():
    rng = np.random.default_rng(4)
    left, right = rng.normal(size=(12, 20)), rng.normal(size=(90, 20)) + 0.3
    by_svd = frechet_distance(left, right, allow_small=True)
    by_eigh = distance_of_moments(measure_moments(left), measure_moments(right))
    assert by_svd == pytest.approx(by_eigh, rel=1e-6)
    assert frechet_distance(left, left, allow_small=True) == pytest.approx(0.0, abs=1e-12)


def test_features_that_are_not_finite_are_refused():
    values = np.full((40, 2), np.nan)
    with pytest.raises((DataError, np.linalg.LinAlgError)):
        frechet_distance(values, values)


def test_bias_correction_covers_the_true_distance():
    rng = np.random.default_rng(5)
    dims, scale = 8, 1.5
    reference = gaussian([0.0] * dims, np.eye(dims).tolist())
    truth = dims * (scale - 1) ** 2
    covered, plain, corrected = 0, [], []
    for trial in range(40):
        values = scale * rng.normal(size=(64, dims))
        result = correct_bias(values, reference, make_rng(trial, "test"), 100)
        covered += result.interval.low <= truth <= result.interval.high
        plain.append(distance_of_moments(measure_moments(values), reference))
        corrected.append(result.value)
    assert covered >= 35
    assert abs(np.mean(corrected) - truth) < 0.5 * abs(np.mean(plain) - truth)


def test_bias_correction_is_a_function_of_its_seed():
    values = np.random.default_rng(6).normal(size=(40, 3))
    reference = measure_moments(np.random.default_rng(7).normal(size=(90, 3)))
    first, second = (correct_bias(values, reference, make_rng(0, "x"), 20) for _ in range(2))
    assert first == second


def test_principal_axes_are_the_directions_of_largest_variance():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(500, 3)) * np.array([1.0, 10.0, 3.0])
    axes = principal_axes(values, 2)
    assert axes.shape == (3, 2)
    np.testing.assert_allclose(np.abs(axes[:, 0]), [0, 1, 0], atol=0.1)
    np.testing.assert_allclose(np.abs(axes[:, 1]), [0, 0, 1], atol=0.1)
