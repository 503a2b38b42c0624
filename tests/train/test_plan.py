from collections import Counter

import numpy as np
import pytest

from train.plan import BatchPlan


def visits(plan: BatchPlan, num_steps: int) -> Counter[tuple[str, int, int]]:
    seen: Counter[tuple[str, int, int]] = Counter()
    for step in range(num_steps):
        batch = plan.batch(step)
        pairs = zip(batch.positions.tolist(), batch.epochs.tolist(), strict=True)
        seen.update((batch.bucket, position, epoch) for position, epoch in pairs)
    return seen


def test_plan_is_a_function_of_the_step() -> None:
    forwards = BatchPlan({"a": 10, "b": 7}, 4, 0)
    backwards = BatchPlan({"b": 7, "a": 10}, 4, 0)
    for step in reversed(range(40)):
        backwards.batch(step)
    for step in range(40):
        one, other = forwards.batch(step), backwards.batch(step)
        assert one.bucket == other.bucket
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.epochs, other.epochs)


def test_no_sample_is_met_twice_in_an_epoch() -> None:
    seen = visits(BatchPlan({"a": 10, "b": 7, "c": 1}, 4, 0), 100)
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("sizes", [{"a": 8, "b": 4}, {"a": 10, "b": 7}, {"a": 3, "b": 2, "c": 50}])
def test_every_sample_is_met_equally_often(sizes: dict[str, int]) -> None:
    batch_size = 4
    num_epochs = 4 * batch_size  # after this many, every bucket has a whole number of batches
    num_steps = num_epochs * sum(sizes.values()) // batch_size
    seen = visits(BatchPlan(sizes, batch_size, 0), num_steps)
    count = Counter((bucket, position) for bucket, position, _ in seen)
    assert len(count) == sum(sizes.values())
    assert set(count.values()) == {num_epochs}


def test_batches_are_full_when_the_bucket_is_smaller() -> None:
    batch = BatchPlan({"a": 3}, 8, 0).batch(0)
    assert len(batch.positions) == 8
    assert batch.epochs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_seeds_give_other_orders() -> None:
    sizes = {"a": 64}
    one, other = (BatchPlan(sizes, 32, seed).batch(0).positions for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_epochs_give_other_orders() -> None:
    plan = BatchPlan({"a": 32}, 32, 0)
    assert not np.array_equal(plan.batch(0).positions, plan.batch(1).positions)


def test_distant_steps_are_found_at_once() -> None:
    batch = BatchPlan({"a": 1000, "b": 37}, 16, 0).batch(10**6)
    assert abs(int(batch.epochs[0]) - 16 * 10**6 // 1037) <= 1
