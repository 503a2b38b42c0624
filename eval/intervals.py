"""Put intervals around rates and means: Wilson, bootstrap by prompt, cluster-robust errors.

A prompt is the unit of resampling: pictures of one prompt share its difficulty, so they are drawn
together or not at all. All draws come from the generator that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Two-sided 95 % point of the standard normal distribution, norm.ppf(0.975).
Z_95 = 1.959963984540054

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Bound a number from below and above at 95 %, and name the method."""

    low: float
    high: float
    method: str


def wilson_interval(rate: float, n: int) -> Interval:
    """Bound a binomial rate.

    Args:
        rate: share of successes, in [0, 1].
        n: number of independent trials, > 0.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z2 = Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n**2))
    low = 0.0 if rate == 0 else centre - half  # exact at the ends, where rounding would show
    high = 1.0 if rate == 1 else centre + half
    return Interval(low=low, high=high, method="Wilson")


def bootstrap_rate(
    sums: Array,
    statistic: Callable[[Array], Array],
    rng: np.random.Generator,
    num_resamples: int,
) -> Interval:
    """Bound a rate in [0, 1] by resampling prompts.

    Where the resamples do not spread (all right or all wrong) the percentiles would claim
    certainty, so Wilson's interval for one trial a prompt stands in.

    Args:
        sums: [G, K], what is summed for each of G prompts (successes, trials, ...).
        statistic: [..., K] sums -> [...] rates.
        rng: draws the resamples.
        num_resamples: how many.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval of a bounded rate).
    """
    num_groups = len(sums)
    counts = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)
    rates = statistic(counts.astype(np.float64) @ sums)  # [num_resamples]
    low, high = np.quantile(rates, [0.025, 0.975])
    if low == high:
        rate = float(statistic(sums.sum(axis=0)))
        return wilson_interval(rate, num_groups)
    return Interval(low=float(low), high=float(high), method="bootstrap by prompt")


def mean_interval(values: Array, groups: Sequence[str]) -> Interval:
    """Bound a mean by the error that lets values of one group depend on each other.

    Args:
        values: [N].
        groups: [N] prompt of each value; at least two different ones.

    Source: Liang and Zeger 1986 (cluster-robust variance) with the factor G / (G - 1).
    """
    error = cluster_error(values, groups)
    mean = float(values.mean())
    return Interval(
        low=mean - Z_95 * error, high=mean + Z_95 * error, method="normal, error by prompt"
    )


def cluster_error(values: Array, groups: Sequence[str]) -> float:
    """Give the standard error of a mean whose values depend on each other within groups."""
    residuals = sum_by_group((values - values.mean())[:, None], groups)[:, 0]
    num_groups = len(residuals)
    if num_groups < 2:
        return math.nan
    variance = num_groups / (num_groups - 1) * float((residuals**2).sum()) / len(values) ** 2
    return math.sqrt(variance)


def sum_by_group(values: Array, groups: Sequence[str]) -> Array:
    """Sum rows of equal group.

    Args:
        values: [N, K].
        groups: [N].

    Returns:
        [G, K], in order of the groups' names.
    """
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums
