from __future__ import annotations

import numpy as np
import pytest

from eval.statistics import measure_moments, merge_moments


def test_moments_equal_numpy_mean_and_cov():
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    moments = measure_moments(values)
    np.testing.assert_allclose(moments.mean, values.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(moments.covariance, np.cov(values.astype(np.float64), rowvar=False))


def test_merged_parts_equal_the_whole():
    values = np.random.default_rng(1).normal(loc=1e3, size=(37, 3))
    whole = measure_moments(values)
    parts = merge_moments(
        measure_moments(values[:5]),
        merge_moments(measure_moments(values[5:6]), measure_moments(values[6:])),
    )
    assert parts.count == whole.count
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-9)


def test_empty_features_are_refused():
    with pytest.raises(ValueError, match="non-empty"):
        measure_moments(np.zeros((0, 3)))
