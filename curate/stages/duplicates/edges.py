"""Hold verified edges of all kinds between samples, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.pairs import Pairs


class Kind(IntEnum):
    """Number the kinds of evidence, the strongest first; up to LOOK they are equalities.

    Equal samples form groups that stay together. A group of equal bytes or pixels is one picture;
    groups of looks that share a sample are joined, so one may be wider than its leader's star.
    """

    EXACT = 0  # equal bytes
    PIXELS = 1  # equal canonical pixels
    LOOK = 2  # equal perceptual hash; of pHash also a thumbnail equal or near to its leader's
    NEAR = 3  # pHashes within the radius
    PDQ = 4  # PDQ hashes within the radius
    CROPPED = 5  # one is a window of the other, by pHashes and miniatures
    SEMANTIC = 6  # embeddings of at least the cosine


EQUALITIES = (Kind.EXACT, Kind.PIXELS, Kind.LOOK)
KIND_NAMES = ("exact", "pixels", "near", "near", "pdq", "cropped", "semantic")
"""How tables spell a `Kind`: equal hashes are near ones at a distance of 0 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Hold verified edges between samples, in any order; repeats do no harm.

    Args:
        left: [E], int64, row numbers of samples.
        right: [E], int64, others than `left` at the same place.
        kind: [E], int8, of Kind. Equalities (up to LOOK) may be a star around any one of the equal
            samples, and other edges may then end at that one alone.
        distance: [E], float32, >= 0: bits, or 1 - cosine; 0 for equalities.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    kind: NDArray[np.int8]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)

    def rows(self) -> NDArray[np.int64]:
        """List the samples that have an edge: [N], sorted, without repeats."""
        rows = np.sort(np.concatenate([self.left, self.right]))
        return rows[np.diff(rows, prepend=-1) != 0]


def label_pairs(pairs: Pairs, kind: Kind) -> Edges:
    """Make edges of one kind from pairs."""
    kinds = np.full(len(pairs), kind, np.int8)
    return Edges(left=pairs.left, right=pairs.right, kind=kinds, distance=pairs.distance)


def join_edges(parts: Sequence[Edges]) -> Edges:
    """Join lists of edges into one."""
    return Edges(
        left=np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)]),
        right=np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)]),
        kind=np.concatenate([np.empty(0, np.int8), *(part.kind for part in parts)]),
        distance=np.concatenate([np.empty(0, np.float32), *(part.distance for part in parts)]),
    )
