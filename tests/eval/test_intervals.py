from __future__ import annotations

import numpy as np
import pytest

from curate.core.seed import make_rng
from eval.intervals import bootstrap_rate, cluster_error, mean_interval, wilson_interval


def share(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def test_wilson_equals_the_published_example():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    interval = wilson_interval(81 / 263, 263)
    assert interval.low == pytest.approx(0.2553, abs=1e-4)
    assert interval.high == pytest.approx(0.3662, abs=1e-4)


def test_wilson_is_not_certain_at_the_ends():
    assert wilson_interval(0.0, 20).low == 0.0
    assert wilson_interval(0.0, 20).high > 0.1
    assert wilson_interval(1.0, 20).low < 0.9


def test_bootstrap_of_one_trial_a_group_is_near_wilson():
    values = np.repeat([1.0, 0.0], [60, 140])
    sums = np.stack([values, np.ones(200)], axis=1)
    found = bootstrap_rate(sums, share, make_rng(0, "test"), 4000)
    wilson = wilson_interval(0.3, 200)
    assert found.low == pytest.approx(wilson.low, abs=0.01)
    assert found.high == pytest.approx(wilson.high, abs=0.01)


def test_bootstrap_without_spread_falls_back_to_wilson_by_prompt():
    sums = np.stack([np.zeros(10), np.full(10, 4.0)], axis=1)
    found = bootstrap_rate(sums, share, make_rng(0, "test"), 100)
    assert found == wilson_interval(0.0, 10)


def test_pictures_that_repeat_their_prompt_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=30)
    once = cluster_error(prompts, [str(i) for i in range(30)])
    four_times = cluster_error(np.repeat(prompts, 4), [str(i) for i in range(30) for _ in range(4)])
    assert four_times == pytest.approx(once)
    assert once == pytest.approx(prompts.std(ddof=1) / np.sqrt(30))


def test_mean_interval_is_centred():
    interval = mean_interval(np.array([1.0, 2.0, 3.0]), ["a", "b", "c"])
    assert (interval.low + interval.high) / 2 == pytest.approx(2.0)
