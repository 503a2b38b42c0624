"""Pairs have one order, however large their row numbers are."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.seed import make_rng
from curate.stages.duplicates.pairs import join_pairs, no_pairs, order_pairs


@pytest.mark.parametrize("largest", [1 << 8, (1 << 32) - 1, 1 << 32, 1 << 33, 1 << 50])
def test_pairs_are_sorted_by_left_then_right_and_keep_their_distance(largest: int) -> None:
    rng = make_rng(largest, "pairs")
    numbers = np.sort(rng.choice(largest, 60, replace=False))
    numbers[-1] = largest
    left, right = np.triu_indices(60, k=1)
    distance = (left * 100 + right).astype(np.float32)
    mixed = rng.permutation(len(left))
    turned = rng.random(len(left)) < 0.5
    one, other = np.where(turned, right, left)[mixed], np.where(turned, left, right)[mixed]
    found = order_pairs(numbers[one], numbers[other], distance[mixed])
    assert found.left.tolist() == numbers[left].tolist()
    assert found.right.tolist() == numbers[right].tolist()
    assert found.distance.tolist() == distance.tolist()
    halves = [
        order_pairs(numbers[one[some]], numbers[other[some]], distance[mixed[some]])
        for some in np.array_split(np.arange(len(left)), 3)
    ]
    assert join_pairs(halves).distance.tolist() == distance.tolist()


def test_no_pairs_are_joined_to_none() -> None:
    assert len(join_pairs([])) == len(join_pairs([no_pairs(), no_pairs()])) == 0
