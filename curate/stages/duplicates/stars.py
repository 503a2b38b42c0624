"""Split a graph of verified pairs into stars: every member is a neighbour of its keeper.

Connected components chain: a is near b, b near c, c near d, and a and d are strangers. In a star no
member is farther from the keeper than the threshold, nor two members than twice the threshold.

The best node of all keeps itself and takes its neighbours, then the best of those that are left,
and so on: the greedy maximal independent set. Nodes whose better neighbours are all decided do not
wait for each other, so they are decided together, in rounds.
Source: Blelloch, Fineman, Shun 2012, "Greedy sequential maximal independent set and matching are
parallel on average" (arXiv 1202.3205), algorithm 3: the same set as one by one, linear work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Whole = NDArray[np.signedinteger[Any]]  # scipy indexes by int32 or int64, as the size asks


def choose_keepers(
    left: NDArray[np.int32], right: NDArray[np.int32], num_nodes: int
) -> NDArray[np.bool_]:
    """Choose the keepers of the stars.

    Args:
        left: [E], nodes numbered from the best (0) to the worst.
        right: [E], the pair's worse node; larger than `left`. Repeats do no harm.
        num_nodes: N.

    Returns:
        [N]: no two keepers are a pair, and every other node is in a pair with a better keeper. A
        random order takes about log2(N) rounds, a chain in order of preference N / 2.
    """
    from scipy.sparse import coo_array

    worse = coo_array((np.ones(len(left), bool), (left, right)), (num_nodes, num_nodes)).tocsr()
    starts, neighbours = worse.indptr, worse.indices
    waits_for = np.bincount(neighbours, minlength=num_nodes)  # better nodes that are undecided
    is_keeper = np.zeros(num_nodes, bool)
    is_taken = np.zeros(num_nodes, bool)
    ready = np.flatnonzero(waits_for == 0)
    while len(ready):
        is_keeper[ready] = True
        near = _neighbours(starts, neighbours, ready)
        taken = find_distinct(near[~is_taken[near]])
        is_taken[taken] = True
        released = _neighbours(starts, neighbours, taken)
        np.subtract.at(waits_for, released, 1)
        ready = find_distinct(released[waits_for[released] == 0])  # one taken waits for its keeper
    return is_keeper


def find_distinct(numbers: _Whole) -> _Whole:
    """Sort numbers and drop repeats; 30 times as fast as `np.unique` of numpy 2.4, which hashes."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) != 0]


def _neighbours(starts: _Whole, neighbours: _Whole, nodes: _Whole) -> _Whole:
    """List the worse neighbours of some nodes, one node's after the other's."""
    first = starts[nodes]
    counts = starts[nodes + 1] - first
    shifts = np.repeat(first - np.cumsum(counts) + counts, counts)
    return neighbours[shifts + np.arange(len(shifts))]
