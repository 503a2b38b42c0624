"""Cut the space of embeddings into cells, so that only rows of one cell need to be compared.

    sample -> `fit_cells` -> centroids -> `nearest_cells` of every row -> rows of one cell together

Near rows may lie on two sides of a border. So every row goes to its few nearest cells, and two rows
meet in each cell that both are in; `cosine.pairs_above` lets only the smallest of these speak.
One cell per row, as SemDeDup has it, loses 1 to 9 % of the pairs (benchmarks/semantic.py --recall).

All is the same on any number of threads and for any order of the sample: rows and centroids are
held to half precision, similarities that float32 cannot tell apart are decided exactly (see
`embeddings.py`), and sums run in one order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.duplicates.embeddings import (
    Embeddings,
    blocks,
    check_embeddings,
    exact_products,
    slack,
    void_view,
)

CELLS_PER_ROW = 3  # chosen by us: recall 1 of structured rows, 0.998 of random directions
MAX_CELLS = 65_536  # chosen by us: centroids of 200 MB at 768 dimensions, for every worker
FLAT_ROWS = 4096  # chosen by us: fewer are compared in a third of a second without any cells
_SAMPLED_PER_CELL = 32  # chosen by us: faiss warns below 39 (faiss, Clustering.h), it costs less
_ITERATIONS = 4  # chosen by us: on 50,000 rows 3 and 6 find the same pairs
_SUMMED_ROWS = 65_536  # chosen by us: 200 MB at 768 dimensions
_SCORES, _RANKED_ROWS = 4_000_000, 8192  # chosen by us: 16 MB of products, 25 MB of rows


def count_cells(num_rows: int, cells_per_row: int = CELLS_PER_ROW) -> int:
    """Choose how many cells keep the work smallest: c sqrt(N / 2), at most 65,536.

    Finding the cells costs N K dot products, comparing rows in cells of c N / K rows costs
    (c N)^2 / (2 K): the sum is smallest at K = c sqrt(N / 2). Source: derived by us; SemDeDup took
    50,000 for 440 million (Abbas et al. 2023, arXiv 2303.09540), this gives 44,498 with c = 3.

    Args:
        num_rows: N, all that will be compared; up to `FLAT_ROWS` make one cell.
        cells_per_row: c.
    """
    if num_rows <= FLAT_ROWS:
        return 1
    return min(math.ceil(cells_per_row * math.sqrt(num_rows / 2)), MAX_CELLS)


def count_sample(num_cells: int) -> int:
    """Tell how many rows `fit_cells` should see: 2 million (3.2 GB) for the most cells."""
    return _SAMPLED_PER_CELL * num_cells


def fit_cells(sample: Embeddings, num_cells: int, seed: int) -> NDArray[np.float32]:
    """Find centroids by spherical k-means: cosine similarity, means brought back to norm 1.

    Equal rows count once, so that copies draw no cells to themselves. A cell that loses all its
    rows starts anew at a row of the largest. Source: Dhillon and Modha 2001, Concept Decompositions
    for Large Sparse Text Data, section 3.

    Memory in bytes: 6 D for each row of the sample, 20 K D, and what `nearest_cells` says. Time is
    that of S K dot products, four times.

    Args:
        sample: [S, D], norm 1, drawn at random; the order does not matter.
        num_cells: how many are wanted.
        seed: the run's.

    Returns:
        [K, D], float32 with values of half precision, norm 1, all different; K is smaller than
        `num_cells` where the sample has fewer different rows.

    Raises:
        ConfigError: `num_cells` below 1.
        DataError: an empty sample, or one that `check_embeddings` refuses.
    """
    if num_cells < 1:
        raise ConfigError(f"num_cells: must be at least 1, got {num_cells}; give more")
    check_embeddings(sample)
    if not len(sample):
        raise DataError("embeddings: a sample must have a row, got none; embed some pictures first")
    rows = _distinct(sample.astype(np.float16))
    if len(rows) <= num_cells:
        return rows.astype(np.float32)
    rng = make_rng(seed, "cells")
    centroids = rows[np.sort(rng.choice(len(rows), num_cells, replace=False))].astype(np.float32)
    labels = np.full(len(rows), -1)
    for _ in range(_ITERATIONS):
        before, labels = labels, nearest_cells(rows, centroids, 1)[:, 0].astype(np.int64)
        if np.array_equal(before, labels):
            break
        labels = _fill_empty(labels, num_cells, rng)
        centroids = _mean_directions(rows, labels, centroids)
    return _distinct(centroids.astype(np.float16)).astype(np.float32)


def nearest_cells(
    embeddings: Embeddings, centroids: NDArray[np.float32], count: int = CELLS_PER_ROW
) -> NDArray[np.int32]:
    """Give the cells whose centroids are most similar to each row, the nearest first.

    Memory: 9 bytes for each of at most 4 million products (or of the K of one row), the float32 of
    at most 8192 rows, and the result.

    Args:
        embeddings: [N, D], norm 1.
        centroids: [K, D], of `fit_cells`.
        count: how many for each row; all K if these are fewer.

    Returns:
        [N, min(count, K)]; of two equally near cells the smaller number comes first.

    Raises:
        ConfigError: `count` below 1.
        DataError: `check_embeddings` refuses the rows, or they have another D.
    """
    if count < 1:
        raise ConfigError(f"cells_per_row: must be at least 1, got {count}; give more")
    check_embeddings(embeddings, centroids.shape[1])
    found = np.empty((len(embeddings), min(count, len(centroids))), np.int32)
    for start, block in blocks(embeddings, min(_RANKED_ROWS, max(1, _SCORES // len(centroids)))):
        found[start : start + len(block)] = _nearest(block, centroids, found.shape[1])
    return found


def _nearest(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Order the nearest cells of some rows by float32, and exactly where that leaves a doubt."""
    similar = rows @ centroids.T  # [B, K]
    doubt = np.float32(2 * slack(rows.shape[1]))
    last = np.partition(similar, -count, axis=1)[:, -count]
    row, cell = np.nonzero(similar >= (last - doubt)[:, None])
    values = similar[row, cell].astype(np.float64)
    order = np.lexsort((cell, -values, row))
    row, cell, values = row[order], cell[order], values[order]
    close = (row[1:] == row[:-1]) & (values[:-1] - values[1:] <= doubt)
    unsure = np.flatnonzero(np.isin(row, row[1:][close]))
    values[unsure] = exact_products(rows, centroids, row[unsure], cell[unsure])
    order = np.lexsort((cell, -values, row))
    first = np.searchsorted(row, np.arange(len(rows)))  # `row` is sorted before and after
    return cell[order][first[:, None] + np.arange(count)]


def _fill_empty(
    labels: NDArray[np.int64], num_cells: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Move a random row of the largest cell into each cell that has none."""
    labels = labels.copy()
    sizes = np.bincount(labels, minlength=num_cells)
    for cell in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        labels[rng.choice(np.flatnonzero(labels == largest))] = cell
        sizes[largest] -= 1
        sizes[cell] = 1
    return labels


def _mean_directions(
    rows: NDArray[np.float16], labels: NDArray[np.int64], centroids: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give the direction of each cell's mean; where rows cancel out the centroid stays.

    scipy adds a cell's rows one after the other, so the sums do not depend on threads.
    """
    from scipy.sparse import csr_array

    sums = np.zeros_like(centroids)  # [K, D]
    for start, block in blocks(rows, _SUMMED_ROWS):
        ends = (labels[start : start + len(block)], np.arange(len(block)))
        sums += csr_array((np.ones(len(block), np.float32), ends), (len(sums), len(block))) @ block
    norms = np.sqrt(np.einsum("kd,kd->k", sums, sums, dtype=np.float64))[:, None]
    directions = np.divide(sums, norms, out=centroids.astype(np.float64), where=norms > 0)
    return directions.astype(np.float16).astype(np.float32)


def _distinct(rows: NDArray[np.float16]) -> NDArray[np.float16]:
    """Drop repeats and bring the rows into an order that depends on their values only."""
    rows = rows + np.float16(0)  # -0.0 becomes 0.0
    return rows[np.unique(void_view(rows), return_index=True)[1]]
