import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from curate.core.errors import ConfigError, DataError
from train.plan import BatchPlan, PlannedBatch, PlanSet


def make_plan(sizes: dict[str, int], batch_size: int, seed: int = 0) -> BatchPlan:
    return BatchPlan([PlanSet(sizes=sizes)], batch_size, seed)


def visits(plan: BatchPlan, num_steps: int) -> Counter[tuple[int, str, int, int]]:
    seen: Counter[tuple[int, str, int, int]] = Counter()
    for step in range(num_steps):
        batch = plan.batch(step)
        samples = zip(batch.sets, batch.positions, batch.epochs, strict=True)
        seen.update((int(s), batch.bucket, int(p), int(e)) for s, p, e in samples)
    return seen


def same(one: PlannedBatch, other: PlannedBatch) -> bool:
    return (one.step, one.bucket, one.first) == (other.step, other.bucket, other.first) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("sets", "positions", "epochs")
    )


def test_plan_is_a_function_of_the_step() -> None:
    forwards = make_plan({"a": 10, "b": 7}, 4)
    backwards = make_plan({"b": 7, "a": 10}, 4)
    later = [backwards.batch(step) for step in reversed(range(40))]
    assert all(same(forwards.batch(step), later[39 - step]) for step in range(40))


@pytest.mark.parametrize("num_parts", [1, 2, 3, 4, 8, 24])
def test_parts_of_any_number_make_the_same_global_batch(num_parts: int) -> None:
    plan = make_plan({"a": 100, "b": 70}, 24)
    for step in (0, 1, 17, 10**6):
        whole = plan.batch(step)
        parts = [whole.part(i, num_parts) for i in range(num_parts)]
        assert [part.first for part in parts] == [i * 24 // num_parts for i in range(num_parts)]
        assert {part.bucket for part in parts} == {whole.bucket}
        for name in ("sets", "positions", "epochs"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(joined, getattr(whole, name))


def test_micro_batches_of_ranks_are_parts_of_parts() -> None:
    batch = make_plan({"a": 100}, 24).batch(3)
    assert same(batch.part(1, 2).part(2, 3), batch.part(5, 6))


def test_batches_that_ranks_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size: must be divisible .* got 10 for 4"):
        BatchPlan([PlanSet(sizes={"a": 5})], 10, 0, world_size=4)
    with pytest.raises(ConfigError, match="choose a multiple of 3"):
        make_plan({"a": 5}, 10).batch(0).part(0, 3)


def test_no_sample_is_met_twice_in_an_epoch() -> None:
    seen = visits(make_plan({"a": 10, "b": 7, "c": 1}, 4), 100)
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("sizes", [{"a": 8, "b": 4}, {"a": 10, "b": 7}, {"a": 3, "b": 2, "c": 50}])
def test_every_sample_is_met_equally_often(sizes: dict[str, int]) -> None:
    total, batch_size = sum(sizes.values()), 4
    num_turns = -(-total // batch_size)
    seen = visits(make_plan(sizes, batch_size), num_turns * total)  # a whole cycle of rounds
    count = Counter((bucket, position) for _, bucket, position, _ in seen)
    assert len(count) == total
    assert set(count.values()) == {num_turns * batch_size}


def test_epochs_of_small_sets_are_even_in_themselves() -> None:
    seen = visits(make_plan({"a": 40, "b": 20, "c": 20}, 4), 20)  # one epoch
    assert len(seen) == 80
    assert {epoch for *_, epoch in seen} == {0}


def test_batches_are_full_when_the_bucket_is_smaller_and_it_is_reported() -> None:
    plan = make_plan({"a": 3, "b": 8}, 8)
    batch = next(b for b in map(plan.batch, range(20)) if b.bucket == "a")
    assert len(batch) == 8
    assert batch.epochs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert plan.repeats() == {"a": 8 / 3}


def test_one_sample_is_a_bucket() -> None:
    batch = make_plan({"a": 1}, 4).batch(5)
    assert batch.positions.tolist() == [0] * 4
    assert batch.epochs.tolist() == [20, 21, 22, 23]


def test_sets_without_samples_are_refused() -> None:
    with pytest.raises(DataError, match="must have samples to train on, got none"):
        make_plan({}, 4)


def test_sets_are_mixed_by_size_times_weight() -> None:
    sets = [PlanSet(sizes={"a": 1000}, weight=0.5), PlanSet(sizes={"a": 300, "b": 200}, weight=2)]
    seen = visits(BatchPlan(sets, 10, 0), 3000)
    assert set(seen.values()) == {1}
    count = Counter((owner, bucket) for owner, bucket, *_ in seen)
    # Rates 500 : 600 : 400 of 1500.
    assert count[0, "a"] / 30_000 == pytest.approx(500 / 1500, abs=0.002)
    assert count[1, "a"] / 30_000 == pytest.approx(600 / 1500, abs=0.002)
    assert count[1, "b"] / 30_000 == pytest.approx(400 / 1500, abs=0.002)


def test_sets_are_mixed_within_batches() -> None:
    sets = [PlanSet(sizes={"a": 1000}), PlanSet(sizes={"a": 1000})]
    shares = [BatchPlan(sets, 64, 0).batch(step).sets.mean() for step in range(200)]
    assert 0.2 < min(shares) < max(shares) < 0.8


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_must_be_positive(weight: float) -> None:
    with pytest.raises(ConfigError, match="weight must be > 0"):
        BatchPlan([PlanSet(sizes={"a": 1}, weight=weight)], 1, 0)


def test_seeds_give_other_orders() -> None:
    one, other = (make_plan({"a": 64}, 32, seed).batch(0).positions for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_spares_are_named_and_lie_in_the_bucket() -> None:
    plan = make_plan({"a": 50, "b": 7}, 8)
    batch = plan.batch(3)
    spares = [plan.spare(batch, place, attempt) for place in range(8) for attempt in range(3)]
    assert spares == [plan.spare(batch, p, a) for p in range(8) for a in range(3)]
    size = {"a": 50, "b": 7}[batch.bucket]
    assert all(0 <= spare < size for spare in spares)
    assert len(set(spares)) > 3
    # A rank's part names the same spare as the whole batch.
    assert plan.spare(batch.part(1, 2), 1, 0) == plan.spare(batch, 5, 0)


def test_digest_names_everything_that_decides_the_order() -> None:
    sizes = {"a": 5}
    digests = {
        make_plan(sizes, 4).digest(),
        make_plan(sizes, 8).digest(),
        make_plan(sizes, 4, 1).digest(),
        make_plan({"a": 6}, 4).digest(),
        BatchPlan([PlanSet(sizes=sizes, weight=2)], 4, 0).digest(),
        BatchPlan([PlanSet(sizes=sizes, digest="other")], 4, 0).digest(),
    }
    assert len(digests) == 6
    assert make_plan(sizes, 4).digest() == make_plan(sizes, 4).digest()


def test_any_step_of_a_billion_samples_is_found_in_milliseconds_and_little_memory() -> None:
    rng = np.random.default_rng(0)
    sizes = {f"{i}x{i}": int(size) + 1 for i, size in enumerate(rng.dirichlet(np.ones(40)) * 1e9)}
    tracemalloc.start()
    try:
        plan = make_plan(sizes, 256)
        for step in rng.integers(0, 10**9, 40).tolist():  # 256 epochs
            plan.batch(step)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 48e6
    started = time.process_time()
    for step in rng.integers(0, 10**9, 20).tolist():
        plan.batch(step)
    assert (time.process_time() - started) / 20 < 0.010
