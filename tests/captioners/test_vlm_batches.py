"""Planning of batches."""

from __future__ import annotations

import pytest

from curate.captioners.vlm_batches import BatchLimits, Cost, plan_batches
from curate.core.errors import ConfigError
from curate.core.seed import make_rng

LIMITS = BatchLimits(batch_size=8, max_batch_tokens=4_000)


def draw_costs(count: int) -> list[Cost]:
    rng = make_rng(0, "test_vlm_batches")
    return [
        Cost(
            prompt=int(rng.integers(10, 60)),
            visual=int(rng.integers(50, 1_300)),
            answer=int(rng.choice([48, 256])),
        )
        for _ in range(count)
    ]


def test_every_request_is_in_one_batch() -> None:
    batches = plan_batches(draw_costs(101), LIMITS)
    assert sorted(index for batch in batches for index in batch) == list(range(101))


def test_no_batch_is_above_its_limits_padding_included() -> None:
    costs = draw_costs(101)
    for batch in plan_batches(costs, LIMITS):
        rows = [costs[index] for index in batch]
        assert len(rows) <= LIMITS.batch_size
        assert len({row.answer for row in rows}) == 1
        assert len(rows) * max(row.total for row in rows) <= LIMITS.max_batch_tokens


def test_little_of_a_batch_is_padding() -> None:
    costs = draw_costs(400)
    batches = plan_batches(costs, LIMITS)
    padded = sum(len(batch) * max(costs[i].total for i in batch) for batch in batches)
    assert padded / sum(cost.total for cost in costs) < 1.03


def test_a_request_above_the_budget_is_answered_alone() -> None:
    costs = [Cost(prompt=10, visual=9_000, answer=48), Cost(prompt=10, visual=40, answer=48)]
    assert plan_batches(costs, LIMITS) == [[1], [0]]


def test_no_requests_need_no_batches() -> None:
    assert plan_batches([], LIMITS) == []


@pytest.mark.parametrize("name", ["batch_size", "max_batch_tokens", "max_pixels"])
def test_limits_that_leave_no_batch_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"recaption.{name}: must be >= 1, got 0"):
        BatchLimits(**{name: 0})
