"""Find all pairs of embeddings of at least a cosine, exactly, in memory that does not grow.

    embeddings of a cell -> blocks x blocks in float32 -> what may be near enough
                         -> doubtful ones decided in float64 -> pairs with their exact distance

`pairs_above` compares all rows of one cell, `join_cosine` makes the cells on one machine. Block
products are plain numpy: measured (benchmarks/semantic.py) OpenBLAS is ahead of torch here, and a
faiss index returns similarities of unknown rounding, needs a second pass for exact ones, and
leaves the memory of its results to chance.

Order says who leads. The rows come best first (by the keeper policy, or by key), and a row's pairs
are those with earlier ones. Where nearly everything is near everything (blank pictures), N rows
would make N^2 / 2 pairs, so a row keeps its first `max_neighbours`, and of more than 4 equal rows
the later ones take over the pairs of the 4th. Both are counted as crowded, and both keep the pairs
with the best rows, which become the keepers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError
from curate.core.seed import make_rng
from curate.stages.duplicates.cells import (
    CELLS_PER_ROW,
    count_cells,
    count_sample,
    fit_cells,
    nearest_cells,
)
from curate.stages.duplicates.embeddings import (
    Embeddings,
    blocks,
    check_embeddings,
    exact_cosines,
    first_of_equals,
    slack,
)
from curate.stages.duplicates.pairs import Pairs, join_pairs, no_pairs, order_pairs

MAX_NEIGHBOURS = 256  # chosen by us: 5 KB of pairs for a row at most
_SPEAKERS = 4  # chosen by us: equal rows that are compared; a placeholder may have a million
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
class Neighbours:
    """Hold what a join found.

    Args:
        pairs: distance is 1 - cosine of the stored embeddings; 0 for equal ones.
        num_crowded: rows with more earlier neighbours than were kept.
    """

    pairs: Pairs
    num_crowded: int


def pairs_above(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    min_cosine: float,
    *,
    cell: Cell | None = None,
    max_neighbours: int = MAX_NEIGHBOURS,
) -> Neighbours:
    """List the pairs of some rows whose cosine is at least `min_cosine`.

    The same on any machine, thread count and block size. Time is that of N^2 / 2 dot products, less
    where rows are crowded. Memory beyond the arguments, in bytes: 21 * 2048^2 + 8 * 2048 D for
    blocks (about 100 MB), 64 N, and 20 a pair, three times that while they are sorted; a row has
    at most `max_neighbours` + 1 pairs with earlier rows.

    Args:
        embeddings: [N, D], float16 or float32, norm 1, the best row first.
        rows: [N], int64, their row numbers, all different.
        min_cosine: smallest cosine of a pair, in (0, 1].
        cell: leave pairs to other cells that both rows are in; None takes all.
        max_neighbours: earlier rows that a row is paired with at most.

    Raises:
        ConfigError: `min_cosine` or `max_neighbours` is out of range.
        DataError: `check_embeddings` refuses the embeddings.
    """
    _check_limits(min_cosine, max_neighbours)
    check_embeddings(embeddings)
    return _pairs_in_cell(embeddings, rows, min_cosine, cell, max_neighbours)


def join_cosine(
    embeddings: Embeddings,
    min_cosine: float,
    *,
    seed: int,
    num_cells: int | None = None,
    cells_per_row: int = CELLS_PER_ROW,
    max_neighbours: int = MAX_NEIGHBOURS,
) -> Neighbours:
    """List the pairs of all rows on one machine, by cells; row numbers are 0..N - 1.

    Every pair is right; some are missed, of two rows that share none of their nearest cells: fewer
    than 1 in 1000 in benchmarks/semantic.py. Memory in bytes beyond the embeddings: 16 N
    `cells_per_row`, 2 D for each row of the largest cell, and what `fit_cells`, `nearest_cells` and
    `pairs_above` say.

    Args:
        embeddings: [N, D], float16 or float32, norm 1, the best row first.
        min_cosine: smallest cosine of a pair, in (0, 1].
        seed: the run's.
        num_cells: None chooses by `count_cells`.
        cells_per_row: nearest cells of a row in which it is compared.
        max_neighbours: earlier rows that a row is paired with at most, in each cell.

    Raises:
        ConfigError: a number is out of range.
        DataError: `check_embeddings` refuses the embeddings.
    """
    _check_limits(min_cosine, max_neighbours)
    check_embeddings(embeddings)
    num_rows = len(embeddings)
    num_cells = count_cells(num_rows, cells_per_row) if num_cells is None else num_cells
    if num_cells == 1 or not num_rows:
        return _pairs_in_cell(embeddings, np.arange(num_rows), min_cosine, None, max_neighbours)
    near = nearest_cells(embeddings, _fit(embeddings, num_cells, seed), cells_per_row)
    owner = np.argsort(near, axis=None, kind="stable")  # entries of one cell after the other's
    cells, starts = np.unique(near.ravel()[owner], return_index=True)
    parts: list[Neighbours] = []
    for number, entries in zip(cells.tolist(), np.split(owner, starts[1:]), strict=True):
        rows = entries // near.shape[1]
        cell = Cell(number=number, near=near[rows])
        parts.append(_pairs_in_cell(embeddings[rows], rows, min_cosine, cell, max_neighbours))
    return Neighbours(
        pairs=join_pairs([part.pairs for part in parts]),
        num_crowded=sum(part.num_crowded for part in parts),
    )


def _fit(embeddings: Embeddings, num_cells: int, seed: int) -> NDArray[np.float32]:
    size = min(count_sample(num_cells), len(embeddings))
    rng = make_rng(seed, "cells", "sample")
    return fit_cells(
        embeddings[np.sort(rng.choice(len(embeddings), size, replace=False))], num_cells, seed
    )


def _check_limits(min_cosine: float, max_neighbours: int) -> None:
    if not 0 < min_cosine <= 1:
        raise ConfigError(
            f"dedup.semantic_min_cosine: must be above 0 and at most 1, got {min_cosine};"
            " SemDeDup's eps is 1 - min_cosine"
        )
    if max_neighbours < 1:
        raise ConfigError(f"max_neighbours: must be at least 1, got {max_neighbours}; give more")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Hold the rows that are compared, [N], the best first."""

    embeddings: Embeddings  # [N, D]
    cell: Cell | None

    def units(self, num_rows: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first, float32 [B, D] of norm 1) of the rows before `stop`."""
        for start, block in blocks(self.embeddings[:stop], num_rows):
            yield start, block / np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hits:
    """Hold places of near rows, [P], in the order of `later`, then of `earlier`."""

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]

    def only(self, wanted: NDArray[np.bool_]) -> _Hits:
        return _Hits(earlier=self.earlier[wanted], later=self.later[wanted])


def _pairs_in_cell(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    min_cosine: float,
    cell: Cell | None,
    max_neighbours: int,
) -> Neighbours:
    if len(embeddings) < 2:
        return Neighbours(pairs=no_pairs(), num_crowded=0)
    speaker = _find_speakers(embeddings)
    speaks = speaker == np.arange(len(speaker))
    compared = np.flatnonzero(speaks)
    some = _Rows(
        embeddings=embeddings[compared],
        cell=cell and Cell(number=cell.number, near=cell.near[compared]),
    )
    hits, num_full = _find_hits(some, min_cosine, max_neighbours)
    distance = 1 - exact_cosines(some.embeddings, hits.earlier, hits.later)
    earlier, later = compared[hits.earlier], compared[hits.later]
    silent = np.flatnonzero(~speaks)
    taken, heir = _inherit(later, speaker[silent])
    own = np.ones(len(silent), bool) if cell is None else cell.owns(silent, silent)
    pairs = order_pairs(
        rows[np.concatenate([earlier, earlier[taken], speaker[silent][own]])],
        rows[np.concatenate([later, silent[heir], silent[own]])],
        np.concatenate([distance, distance[taken], np.zeros(int(own.sum()))]).astype(np.float32),
    )
    return Neighbours(pairs=pairs, num_crowded=num_full + len(silent))


def _find_speakers(embeddings: Embeddings) -> NDArray[np.int64]:
    """Give each row the one that is compared in its place: [N], itself or the 4th of its equals."""
    first = first_of_equals(embeddings)
    order = np.argsort(first, kind="stable")  # equal rows together, each group in its order
    starts = np.searchsorted(first[order], first[order])
    speaker = np.empty(len(first), np.int64)
    speaker[order] = order[np.minimum(np.arange(len(order)), starts + _SPEAKERS - 1)]
    return speaker


def _inherit(
    later: NDArray[np.int64], speakers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List which pairs silent rows take over, as (number of the pair, number of the heir).

    Args:
        later: [P], sorted; the later row of each pair.
        speakers: [S], the row whose pairs with earlier ones each heir takes over.
    """
    starts = np.searchsorted(later, speakers)
    counts = np.searchsorted(later, speakers, side="right") - starts
    shifts = np.repeat(starts - np.cumsum(counts) + counts, counts)
    return shifts + np.arange(len(shifts)), np.repeat(np.arange(len(speakers)), counts)


def _find_hits(some: _Rows, min_cosine: float, max_neighbours: int) -> tuple[_Hits, int]:
    """Compare all rows; tell also how many have as many neighbours as they may have."""
    parts: list[_Hits] = []
    for start, block in some.units(_LATER_ROWS, len(some.embeddings)):
        parts += _find_earlier(some, start, block, min_cosine, max_neighbours)
    earlier = np.concatenate([np.empty(0, np.int64), *(part.earlier for part in parts)])
    later = np.concatenate([np.empty(0, np.int64), *(part.later for part in parts)])
    order = np.argsort(later, kind="stable")
    num_full = int((np.bincount(later) == max_neighbours).sum())
    return _Hits(earlier=earlier[order], later=later[order]), num_full


def _find_earlier(
    some: _Rows, start: int, block: NDArray[np.float32], min_cosine: float, max_neighbours: int
) -> Iterator[_Hits]:
    """Yield the near earlier rows of a block of rows, whose first is number `start`."""
    places = np.arange(start, start + len(block))  # those of the block that are compared
    room = np.full(len(block), max_neighbours)
    for first, other in some.units(_EARLIER_ROWS, start + len(block) - 1):
        open_ = room[places - start] > 0
        if open_.mean() < 0.5:  # else a copy of the open ones would cost more than it saves
            places, block = places[open_], block[open_]
        if not len(places):
            return
        after = int(np.searchsorted(places, first, side="right"))
        hits = _compare(some, first, other, places[after:], block[after:], min_cosine)
        rank = np.arange(len(hits.later)) - np.searchsorted(hits.later, hits.later)
        hits = hits.only(rank < room[hits.later - start])
        room -= np.bincount(hits.later - start, minlength=len(room))
        yield hits


def _compare(
    some: _Rows,
    first: int,
    other: NDArray[np.float32],
    places: NDArray[np.int64],
    block: NDArray[np.float32],
    min_cosine: float,
) -> _Hits:
    """List the near pairs between the rows from `first` on and later ones at some places."""
    doubt = slack(other.shape[1])
    products = block @ other.T  # [later, earlier]
    row, column = np.nonzero(products >= min_cosine - doubt)
    hits = _Hits(earlier=column + first, later=places[row])
    wanted = hits.earlier < hits.later
    if some.cell is not None:
        wanted &= some.cell.owns(hits.earlier, hits.later)
    unsure = np.flatnonzero(wanted & (products[row, column] < min_cosine + doubt))
    exact = exact_cosines(some.embeddings, hits.earlier[unsure], hits.later[unsure])
    wanted[unsure] = exact >= min_cosine
    return hits.only(wanted)
