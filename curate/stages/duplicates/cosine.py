"""Find all pairs of embeddings of at least a cosine, exactly, in memory that does not grow.

    embeddings of a cell -> equal ones collapsed -> near pairs of `cosine_blocks.py`
                         -> equal ones restored -> pairs with their exact distance

`pairs_above` compares all rows of one cell, `join_cosine` makes the cells on one machine.

Order says who leads. The rows come best first (by the keeper policy, or by key), and a row's pairs
are those with earlier ones. Where nearly everything is near everything (blank pictures), N rows
would make N^2 / 2 pairs, so a row keeps its first `max_neighbours`, and of more than 4 equal rows
the later ones take over the pairs of the 4th. Both are counted as crowded, and both keep the pairs
with the best rows, which become the keepers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import make_rng
from curate.stages.duplicates.cells import (
    CELLS_PER_ROW,
    count_cells,
    count_sample,
    fit_cells,
    nearest_cells,
)
from curate.stages.duplicates.cosine_blocks import Cell, Limits, Rows, find_hits
from curate.stages.duplicates.embeddings import (
    Embeddings,
    check_embeddings,
    exact_cosines,
    first_of_equals,
)
from curate.stages.duplicates.pairs import Pairs, join_pairs, no_pairs, order_pairs

MAX_NEIGHBOURS = 256  # chosen by us: 5 KB of pairs for a row at most
_SPEAKERS = 4  # chosen by us: equal rows that are compared; a placeholder may have a million


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
    where rows are crowded.

    Memory in bytes beyond the arguments: a copy of them and 50 N; 4 D for each of 2304 rows and 5
    for each of 2048 x 256 products, together 10 MB at 768 dimensions, and 60 MB more where all of
    these are pairs; 110 a pair (measured), of which a row has at most `max_neighbours` + 1 with
    earlier rows; 20 a pair stay.

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
    assert len(embeddings) == len(rows), f"{len(embeddings)} embeddings, {len(rows)} row numbers"
    limits = Limits(min_cosine=min_cosine, max_neighbours=max_neighbours)
    check_embeddings(embeddings)
    return _find_pairs(embeddings, rows, limits, cell)


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
    than 1 in 1000 of rows that have any structure (benchmarks/semantic.py --recall).

    Memory in bytes beyond the embeddings: 16 N `cells_per_row`, 2 D for each row of the largest
    cell, and what `fit_cells`, `nearest_cells` and `pairs_above` say.

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
    limits = Limits(min_cosine=min_cosine, max_neighbours=max_neighbours)
    check_embeddings(embeddings)
    num_rows = len(embeddings)
    num_cells = count_cells(num_rows, cells_per_row) if num_cells is None else num_cells
    if num_cells == 1 or not num_rows:
        return _find_pairs(embeddings, np.arange(num_rows), limits, None)
    near = nearest_cells(embeddings, _fit(embeddings, num_cells, seed), cells_per_row)
    owner = np.argsort(near, axis=None, kind="stable")  # entries of one cell after the other's
    cells, starts = np.unique(near.ravel()[owner], return_index=True)
    parts: list[Neighbours] = []
    for number, entries in zip(cells.tolist(), np.split(owner, starts[1:]), strict=True):
        rows = entries // near.shape[1]
        cell = Cell(number=number, near=near[rows])
        parts.append(_find_pairs(embeddings[rows], rows, limits, cell))
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


def _find_pairs(
    embeddings: Embeddings, rows: NDArray[np.int64], limits: Limits, cell: Cell | None
) -> Neighbours:
    if len(rows) < 2:
        return Neighbours(pairs=no_pairs(), num_crowded=0)
    speaker = _find_speakers(embeddings)
    speaks = speaker == np.arange(len(speaker))
    compared = np.flatnonzero(speaks)
    some = Rows(
        embeddings=embeddings[compared],
        cell=cell and Cell(number=cell.number, near=cell.near[compared]),
    )
    hits, num_full = find_hits(some, limits)
    distance = 1 - exact_cosines(some.embeddings, hits.earlier, hits.later)
    earlier, later = compared[hits.earlier], compared[hits.later]
    silent = np.flatnonzero(~speaks)
    taken, heir = _inherit(later, speaker[silent])
    own = silent if cell is None else silent[cell.owns(silent, silent)]
    pairs = order_pairs(
        rows[np.concatenate([earlier, earlier[taken], speaker[own]])],
        rows[np.concatenate([later, silent[heir], own])],
        np.concatenate([distance, distance[taken], np.zeros(len(own))]).astype(np.float32),
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
