"""Accumulate mean and covariance of features in float64, in parts that can be merged.

Covariances use N - 1, as every published Frechet distance does (numpy.cov).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureMoments:
    """Hold count, mean and scatter of a set of feature vectors.

    Args:
        count: number of vectors N.
        mean: [D] float64.
        scatter: [D, D] float64, sum of outer products of the centred vectors.
    """

    count: int
    mean: Array
    scatter: Array

    @property
    def covariance(self) -> Array:
        """Give the unbiased covariance, [D, D]."""
        return self.scatter / (self.count - 1)


def measure_moments(features: npt.ArrayLike) -> FeatureMoments:
    """Take the moments of one batch of features, [N, D] with N >= 1."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"features: must be a non-empty [N, D] array, got shape {values.shape}")
    mean = values.mean(axis=0)
    centred = values - mean
    return FeatureMoments(count=len(values), mean=mean, scatter=centred.T @ centred)


def merge_moments(left: FeatureMoments, right: FeatureMoments) -> FeatureMoments:
    """Combine the moments of two disjoint sets, exactly up to rounding.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm", eq. 2.1.
    """
    count = left.count + right.count
    shift = right.mean - left.mean
    weight = left.count * right.count / count
    return FeatureMoments(
        count=count,
        mean=left.mean + shift * (right.count / count),
        scatter=left.scatter + right.scatter + weight * np.outer(shift, shift),
    )
