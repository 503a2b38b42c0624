"""Find the entries of a list whose embeddings lie near those of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ShardError

_BLOCK = 1 << 24  # cosines held at once; chosen by us: 64 MB
# Chosen by us: half precision moves the norm of a unit vector of 1024 numbers by 1e-3 at most.
_NORM_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CosineMatches:
    """Hold matches, sorted by query and entry.

    Args:
        query: [P], int64, row of the sample.
        entry: [P], int64, row of the list.
        cosine: [P], float32.
    """

    query: NDArray[np.int64]
    entry: NDArray[np.int64]
    cosine: NDArray[np.float32]


def search_cosine(
    queries: NDArray[np.floating], entries: NDArray[np.floating], min_cosine: float
) -> CosineMatches:
    """Compare every query with every entry; memory is bounded, the result is exact in float32.

    Args:
        queries: [N, D], unit vectors; half precision will do.
        entries: [M, D], unit vectors.
        min_cosine: inclusive.

    Raises:
        ShardError: widths differ, or a vector is not finite or of another length than 1.
    """
    if queries.shape[1:] != entries.shape[1:]:
        raise ShardError(
            f"decontaminate: embeddings must be of one width, got {queries.shape[1:]} and "
            f"{entries.shape[1:]}; run stage=annotate again with the model of today"
        )
    left, right = _unit(queries), _unit(entries)
    step = max(1, _BLOCK // max(1, len(right)))
    threshold = np.float32(min_cosine)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, len(left), step):
        cosines = left[start : start + step] @ right.T  # [step, M]
        query, entry = np.nonzero(cosines >= threshold)
        found.append((query + start, entry, cosines[query, entry]))
    empty = np.empty(0, np.int64)
    return CosineMatches(
        query=np.concatenate([empty, *(part[0] for part in found)]),
        entry=np.concatenate([empty, *(part[1] for part in found)]),
        cosine=np.concatenate([np.empty(0, np.float32), *(part[2] for part in found)]),
    )


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    rows = np.ascontiguousarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # NaN is wrong too
    if len(wrong):
        raise ShardError(
            f"decontaminate: embeddings must have length 1, got {norms[wrong[0]]:g} in row "
            f"{wrong[0]}; run stage=annotate again"
        )
    return rows / norms[:, None]
