"""Measure the Frechet distance between two sets of features taken as Gaussians.

    |mean_1 - mean_2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

The number is "FID" only on the original Inception weights; here it is always named by its
extractor, `frechet_distance[extractor]`. It is biased upwards by about 1/N, so a value counts only
beside its N; `correct_bias` gives the value and interval for the two distributions themselves.

Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6; bias: Chong and Forsyth 2020 (1911.07023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.core.errors import DataError
from eval.intervals import Interval
from eval.statistics import Array, FeatureMoments, measure_moments

# Eigenvalues and distances below zero by more than this share of the traces are not rounding.
# Chosen by us: float64 eigh at D = 2048 stays below 1e-12; the SVD of N < D below 1e-13.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedDistance:
    """Hold the bias-corrected distance and the interval of the distributions' own distance."""

    value: float
    interval: Interval


def frechet_distance(
    generated: npt.ArrayLike, reference: npt.ArrayLike, *, allow_small: bool = False
) -> float:
    """Measure the distance between two feature sets.

    Args:
        generated: [N, D].
        reference: [M, D].
        allow_small: permit fewer than 2 D vectors, where the bias swamps the distance.

    Raises:
        DataError: a set has fewer than 2 D vectors and `allow_small` is off.

    Source: the bound 2 D is ours, from a coverage simulation: below it no interval is usable.
    """
    left, right = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    check_size(min(len(left), len(right)), left.shape[1], allow_small=allow_small)
    if min(len(left), len(right)) < left.shape[1]:
        return _distance_by_svd(left, right)
    return distance_of_moments(measure_moments(left), measure_moments(right))


def check_size(num_vectors: int, dim: int, *, allow_small: bool = False) -> None:
    """Refuse too few vectors for the dimension.

    Raises:
        DataError: fewer than 2 (never allowed) or fewer than 2 `dim` vectors.
    """
    minimum = 2 if allow_small else 2 * dim
    if num_vectors < minimum:
        raise DataError(
            f"frechet_distance: {dim} dimensions need at least {minimum} pictures a side, "
            f"got {num_vectors}; sample more or lower evaluate.frechet_dims"
        )


def distance_of_moments(left: FeatureMoments, right: FeatureMoments) -> float:
    """Measure the distance of two Gaussians; wants N >= D on both sides."""
    return _distance_to(left, right, square_root(right.covariance))


def square_root(matrix: Array) -> Array:
    """Take the symmetric square root of a positive semi-definite matrix, [D, D]."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(_clip_rounding(values))) @ vectors.T


def principal_axes(features: npt.ArrayLike, num_axes: int) -> Array:
    """Give the directions of largest variance of the reference, [D, num_axes].

    Both sides are projected onto them when there are too few pictures for all dimensions.
    """
    values, vectors = np.linalg.eigh(measure_moments(features).covariance)
    return vectors[:, np.argsort(values)[::-1][:num_axes]]


def correct_bias(
    generated: npt.ArrayLike,
    reference: FeatureMoments,
    rng: np.random.Generator,
    num_resamples: int,
) -> CorrectedDistance:
    """Correct the distance to a fixed reference for finite N, with a reflected bootstrap interval.

    Args:
        generated: [N, D], N >= 2 D.
        reference: moments of the reference, taken as known.
        rng: draws the resamples.
        num_resamples: how many; each costs one D x D eigendecomposition.

    Source: basic bootstrap, Davison and Hinkley 1997, eq. 5.6. A percentile interval never covers
    the truth here, since resampling adds the same upward bias once more.
    """
    values = np.asarray(generated, np.float64)
    root = square_root(reference.covariance)
    plain = _distance_to(measure_moments(values), reference, root)
    draws = np.array(
        [
            _distance_to(
                measure_moments(values[rng.integers(len(values), size=len(values))]),
                reference,
                root,
            )
            for _ in range(num_resamples)
        ]
    )
    low, high = 2 * plain - np.quantile(draws, [0.975, 0.025])
    return CorrectedDistance(
        value=max(0.0, 2 * plain - float(draws.mean())),
        interval=Interval(
            low=max(0.0, float(low)), high=max(0.0, float(high)), method="reflected bootstrap"
        ),
    )


def _distance_to(left: FeatureMoments, right: FeatureMoments, right_root: Array) -> float:
    covariance = left.covariance
    product = np.asarray(np.linalg.eigvalsh(right_root @ covariance @ right_root), np.float64)
    trace = float(np.trace(covariance) + np.trace(right.covariance))
    return _combine(left.mean - right.mean, trace, float(np.sqrt(_clip_rounding(product)).sum()))


def _distance_by_svd(left: Array, right: Array) -> float:
    """tr (S1 S2)^(1/2) is the nuclear norm of A B^T, where S1 = A^T A and S2 = B^T B."""
    factors = [_factor(left), _factor(right)]
    trace = sum(float((factor**2).sum()) for factor in factors)
    singular = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False)
    return _combine(left.mean(axis=0) - right.mean(axis=0), trace, float(singular.sum()))


def _factor(values: Array) -> Array:
    centred = (values - values.mean(axis=0)) / np.sqrt(len(values) - 1)  # [N, D]
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"), np.float64)  # same R^T R, only [D, D]


def _combine(shift: Array, trace: float, root_trace: float) -> float:
    distance = float(shift @ shift) + trace - 2 * root_trace
    if distance < -_ROUNDING * max(trace, 1.0):
        raise DataError(
            f"frechet_distance: must not be negative, got {distance}; are the features finite?"
        )
    return max(0.0, distance)


def _clip_rounding(eigenvalues: Array) -> Array:
    largest = max(float(np.abs(eigenvalues).max()), np.finfo(np.float64).tiny)
    if not float(eigenvalues.min()) >= -_ROUNDING * largest:
        raise DataError(
            "frechet_distance: covariances must be positive semi-definite, "
            f"got eigenvalue {eigenvalues.min()}; are the features finite?"
        )
    return np.maximum(eigenvalues, 0.0)
