"""Hold pairs of rows that were found to be near each other, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Name pairs of rows and how far apart they are: each pair once, sorted by (left, right).

    Args:
        left: [P], int64, row numbers.
        right: [P], int64, row numbers; larger than `left` at the same place.
        distance: [P], float32: bits that differ, or 1 - cosine.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)


def no_pairs() -> Pairs:
    """Give an empty list of pairs."""
    rows = np.empty(0, np.int64)
    return Pairs(left=rows, right=rows, distance=np.empty(0, np.float32))


def order_pairs(
    one: NDArray[np.int64], other: NDArray[np.int64], distance: NDArray[np.float32]
) -> Pairs:
    """Bring pairs into their order: smaller row first, then sorted by (left, right).

    Args:
        one: [P], row numbers; no pair may be named twice.
        other: [P], row numbers, different from `one` at the same place.
        distance: [P].
    """
    left, right = np.minimum(one, other), np.maximum(one, other)
    if len(right) and int(right.max()) < 1 << 32:  # one sort of both as one number, 5 times faster
        order = np.argsort((left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64))
    else:
        order = np.lexsort((right, left))
    return Pairs(left=left[order], right=right[order], distance=distance[order])


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Join lists of pairs that share no pair into one sorted list."""
    if not parts:
        return no_pairs()
    return order_pairs(
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.distance for part in parts]),
    )
