"""The batch-fill figures are what dropping loses, and what the plan of training does instead."""

from __future__ import annotations

from collections import Counter

import pytest

from curate.core.batch_fill import fill_batches
from train.plan import BatchPlan, PlanSet

SIZES = {"64x64": 200, "56x72": 75, "48x80": 5}


def test_dropping_loses_the_rest_of_each_bucket_and_small_ones_whole() -> None:
    fill = fill_batches(SIZES, 32)
    assert [one.num_lost for one in fill.buckets] == [200 - 192, 75 - 64, 5]
    assert fill.num == 280
    assert fill.lost_frac == (8 + 11 + 5) / 280
    assert [one.bucket for one in fill.small] == ["48x80"]
    assert fill.batches == 280 / 32


def test_repeats_count_how_often_a_sample_is_in_one_batch() -> None:
    assert [one.repeats for one in fill_batches(SIZES, 20).buckets] == [1, 1, 4]


def test_the_plan_of_training_makes_the_batches_that_are_promised_and_starves_no_bucket() -> None:
    epochs = 64
    fill = fill_batches(SIZES, 32)
    plan = BatchPlan([PlanSet(sizes=SIZES)], 32, seed=3)
    batches = [plan.batch(step) for step in range(round(epochs * fill.batches))]
    made = Counter(batch.bucket for batch in batches)
    seen: Counter[tuple[str, int]] = Counter()
    for batch in batches:
        seen.update((batch.bucket, position) for position in batch.positions.tolist())
    for one in fill.buckets:
        assert made[one.bucket] == pytest.approx(epochs * one.batches, abs=1.5)
        times = [seen[one.bucket, position] for position in range(one.num)]
        assert max(times) - min(times) <= 1  # every sample as often as its neighbours
        assert min(times) >= 0.6 * epochs
