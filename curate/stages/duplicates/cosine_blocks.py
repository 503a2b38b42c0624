"""Compare rows block by block; what `cosine.py` makes pairs of.

    rows x earlier rows, float32 products -> what may be near enough -> pairs of this cell
        -> doubtful ones decided in float64 -> at most so many earlier neighbours for a row

Block products are plain numpy: measured here (benchmarks/semantic.py), its OpenBLAS does 106
GFLOP/s a core, torch 85. A faiss index returns similarities of unknown rounding and everything a
query is near to at once, so that it would need both the exact pass and the bound on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError
from curate.stages.duplicates.embeddings import Embeddings, blocks, exact_cosines, slack

_LATER_ROWS, _EARLIER_ROWS = 2048, 256  # chosen by us: 2 MB of products, which fit a cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Say which pairs belong to a cell: those whose smallest common cell it is.

    Args:
        number: of this cell.
        near: [N, C], int32, the cells of each row, of `nearest_cells`.
    """

    number: int
    near: NDArray[np.int32]

    def owns(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pairs are this cell's: [P], [P] -> [P]."""
        mine, theirs = self.near[one], self.near[other]  # [P, C]
        common = (mine[:, :, None] == theirs[:, None, :]).any(axis=2)
        return np.where(common, mine, np.iinfo(np.int32).max).min(axis=1) == self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hold how near two rows must be, and how many earlier neighbours a row keeps."""

    min_cosine: float
    max_neighbours: int

    def __post_init__(self) -> None:
        if not 0 < self.min_cosine <= 1:
            raise ConfigError(
                "dedup.semantic_min_cosine: must be above 0 and at most 1, got"
                f" {self.min_cosine}; SemDeDup's eps is 1 - min_cosine"
            )
        if self.max_neighbours < 1:
            raise ConfigError(
                f"max_neighbours: must be at least 1, got {self.max_neighbours}; give more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Hold the rows that are compared, [N], the best first."""

    embeddings: Embeddings  # [N, D]
    cell: Cell | None

    def units(self, num_rows: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first, float32 [B, D] of norm 1) of blocks of rows before `stop`."""
        for first, block in blocks(self.embeddings[:stop], num_rows):
            yield first, block / np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Hold places of near rows, [P], in the order of `later`, then of `earlier`."""

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]

    def only(self, wanted: NDArray[np.bool_]) -> Hits:
        return Hits(earlier=self.earlier[wanted], later=self.later[wanted])


def find_hits(some: Rows, limits: Limits) -> tuple[Hits, int]:
    """Compare all rows; tell also how many have as many neighbours as they may have."""
    parts = [
        hits
        for start, block in some.units(_LATER_ROWS, len(some.embeddings))
        for hits in _find_earlier(some, start, block, limits)
    ]
    earlier = np.concatenate([np.empty(0, np.int64), *(part.earlier for part in parts)])
    later = np.concatenate([np.empty(0, np.int64), *(part.later for part in parts)])
    order = np.argsort(later, kind="stable")
    num_full = int((np.bincount(later) == limits.max_neighbours).sum())
    return Hits(earlier=earlier[order], later=later[order]), num_full


def _find_earlier(
    some: Rows, start: int, block: NDArray[np.float32], limits: Limits
) -> Iterator[Hits]:
    """Yield the near earlier rows of a block of rows, whose first is number `start`."""
    places = np.arange(start, start + len(block))  # those of the block that are compared
    room = np.full(len(block), limits.max_neighbours)
    for first, other in some.units(_EARLIER_ROWS, start + len(block) - 1):
        has_room = room[places - start] > 0
        if has_room.mean() < 0.5:  # else the copy would cost more than it saves
            places, block = places[has_room], block[has_room]
        if not len(places):
            return
        after = int(np.searchsorted(places, first, side="right"))
        hits = _compare(some, first, other, places[after:], block[after:], limits.min_cosine)
        rank = np.arange(len(hits.later)) - np.searchsorted(hits.later, hits.later)
        hits = hits.only(rank < room[hits.later - start])
        room -= np.bincount(hits.later - start, minlength=len(room))
        yield hits


def _compare(
    some: Rows,
    first: int,
    other: NDArray[np.float32],
    places: NDArray[np.int64],
    block: NDArray[np.float32],
    min_cosine: float,
) -> Hits:
    """List the near pairs between the rows from `first` on and later ones at some places."""
    doubt = slack(other.shape[1])
    products = block @ other.T  # [later, earlier]
    row, column = np.nonzero(products >= min_cosine - doubt)
    hits = Hits(earlier=column + first, later=places[row])
    wanted = hits.earlier < hits.later
    if some.cell is not None:
        wanted &= some.cell.owns(hits.earlier, hits.later)
    unsure = np.flatnonzero(wanted & (products[row, column] < min_cosine + doubt))
    exact = exact_cosines(some.embeddings, hits.earlier[unsure], hits.later[unsure])
    wanted[unsure] = exact >= min_cosine
    return hits.only(wanted)
