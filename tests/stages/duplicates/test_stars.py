"""Stars: the keepers are those that one would choose by going through the nodes one by one."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.seed import make_rng
from curate.stages.duplicates.stars import choose_keepers

Pairs = list[tuple[int, int]]


def choose(pairs: Pairs, num_nodes: int) -> list[int]:
    ends = np.array(pairs, np.int32).reshape(-1, 2)
    return np.flatnonzero(choose_keepers(ends[:, 0], ends[:, 1], num_nodes)).tolist()


def choose_one_by_one(pairs: Pairs, num_nodes: int) -> list[int]:
    taken: set[int] = set()
    keepers: list[int] = []
    for node in range(num_nodes):
        if node not in taken:
            keepers.append(node)
            taken |= {b for a, b in pairs if a == node} | {a for a, b in pairs if b == node}
    return keepers


def draw_pairs(num_nodes: int, num_pairs: int, seed: int) -> Pairs:
    drawn = np.sort(make_rng(seed, "stars").integers(0, num_nodes, (num_pairs, 2)), axis=1)
    return [(a, b) for a, b in drawn.tolist() if a != b]


@pytest.mark.parametrize("num_pairs", [0, 1, 20, 60, 200, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_keepers_are_those_of_the_sequential_rule(num_pairs: int, seed: int) -> None:
    pairs = draw_pairs(60, num_pairs, seed)
    assert choose(pairs, 60) == choose_one_by_one(pairs, 60)


def test_a_chain_from_the_best_to_the_worst_keeps_every_second() -> None:
    num = 3001
    assert choose([(n, n + 1) for n in range(num - 1)], num) == list(range(0, num, 2))


def test_the_best_node_of_a_crowd_keeps_alone() -> None:
    assert choose([(a, b) for b in range(50) for a in range(b)], 50) == [0]


def test_a_node_whose_better_neighbour_is_taken_keeps_itself() -> None:
    assert choose([(0, 1), (1, 2), (2, 3)], 4) == [0, 2]


def test_without_pairs_every_node_is_a_keeper() -> None:
    assert choose([], 3) == [0, 1, 2]
    assert choose([], 0) == []


def test_many_repeats_of_a_pair_are_one_pair() -> None:
    assert choose([(0, 1)] * 256 + [(1, 2)] * 512, 3) == [0, 2]
