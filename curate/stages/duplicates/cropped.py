"""Tell whether a picture is a window of another: lay the miniatures over each other and compare.

    near hashes name the window -> its 8 x 8 cells against the part's: most strangers end here
    -> its ends moved by 3 %, then by 1.5 %, rows and columns in turn -> the least change of 32 x 32

The window that a hash stands for is near the true one, not it: a copy may have lost anything from
4 to 10 % of a side. Sampling a window between the cells softens it, so both sides are softened
before they are compared; that tells crops from strangers where sharp cells do not. Windows are
sampled in whole numbers, so changes are equal everywhere.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.thumbnails import measure_change
from curate.stages.duplicates.windows import SIDE, WINDOWS, Span, sample_span

STRANGERS = 9.0
"""The change of those that are not compared in full."""

LOOSE_CHANGE = 0.5
"""Largest change of 8 x 8 cells and a window that was not moved, before a pair is compared in full.
Chosen by us: of copies of real pictures and of the toy web 98 % are below (of those with a border
90 %), of strangers with near windows 1 in 60."""
_STEP = 0.015  # of a side; chosen by us: half a cell
_MOVES = (2, 1)  # steps that an end is moved by, then again from the best; chosen by us
_SOFT = 0.15  # share of each neighbour; chosen by us: .1 to .25 part crops of the toy web as well
_COARSE = 8
_SHARE = 256  # shares are of it; 255 * 256 * 256 is below 2**24, so float32 holds all sums exactly
_AT_ONCE = 256  # pairs; chosen by us: 20 MB

Cells = NDArray[np.uint8]
"""[P, N, N, 3]."""


def measure_crop(part: Cells, whole: Cells, form: int) -> NDArray[np.float32]:
    """Measure how much pictures differ from a window of others, at best.

    Args:
        part: [P, 32, 32, 3], miniatures.
        whole: [P, 32, 32, 3], that the window is cut out of.
        form: number of the window in WINDOWS; 0 is all of it, then either may be the part.

    Returns:
        [P], float32: `measure_change` of 32 x 32 cells, of the best of the windows near to it;
        STRANGERS where 8 x 8 cells of the window itself differ too much.
    """
    changes = _measure_one_way(part, whole, form)
    return changes if form else np.minimum(changes, _measure_one_way(whole, part, form))


def _measure_one_way(part: Cells, whole: Cells, form: int) -> NDArray[np.float32]:
    window = WINDOWS[form]
    shares = _shares(window.rows, _COARSE), _shares(window.columns, _COARSE)
    all_of = _shares((0.0, 1.0), _COARSE)
    coarse = _compare(_cut_all(whole, *shares), _cut_all(part, all_of, all_of))
    changes = np.full(len(part), STRANGERS, np.float32)
    close = np.flatnonzero(coarse <= np.float32(LOOSE_CHANGE))
    soft = _soft_shares((0.0, 1.0))
    for low in range(0, len(close), _AT_ONCE):
        some = close[low : low + _AT_ONCE]
        changes[some] = _least_change(_cut_all(part[some], soft, soft), whole[some], form)
    return changes


def _least_change(part: Cells, whole: Cells, form: int) -> NDArray[np.float32]:
    """Move the window's top and bottom, then its left and right, twice; keep what fits best."""
    pairs = np.arange(len(part))
    shares = tuple(_moved_shares(span) for span in WINDOWS[form])
    ends = np.full((2, 2, len(part)), sum(_MOVES))  # of rows and columns: moves of both ends
    least = np.full(len(part), np.inf, np.float32)
    for step in _MOVES:
        for axis in (0, 1):
            other = _cut_each(whole, shares[1 - axis][tuple(ends[1 - axis])], 2 - axis)
            start = ends[axis].copy()
            for move in np.ndindex(3, 3):
                moved = start + (np.array(move)[:, None] - 1) * step
                changes = _compare(_cut_each(other, shares[axis][tuple(moved)], axis + 1), part)
                better = pairs[changes < least]
                least[better] = changes[better]
                ends[axis][:, better] = moved[:, better]
    return least


def _compare(one: Cells, other: Cells) -> NDArray[np.float32]:
    flat = (len(one), math.prod(one.shape[1:]))
    return measure_change(one.reshape(flat), other.reshape(flat))


def _cut_all(cells: Cells, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Cells:
    """Sample pictures alike: [P, H, W, 3], [N, H], [N, W] -> [P, N, N, 3]."""
    num_pairs = len(cells)
    by_rows = _cut_each(cells, np.broadcast_to(rows, (num_pairs, *rows.shape)), 1)
    return _cut_each(by_rows, np.broadcast_to(columns, (num_pairs, *columns.shape)), 2)


def _cut_each(cells: Cells, shares: NDArray[np.float32], axis: int) -> Cells:
    """Sample one axis of each picture; rounded half up.

    Args:
        cells: [P, H, W, 3].
        shares: [P, N, H] or [P, N, W].
        axis: 1 of rows, 2 of columns.
    """
    values = cells.astype(np.float32)
    if axis == 1:
        num_pairs, height, width, _ = values.shape
        cut = shares @ values.reshape(num_pairs, height, width * 3)
        cut = cut.reshape(num_pairs, shares.shape[1], width, 3)
    else:
        cut = shares[:, None] @ values  # [P, 1, N, W] @ [P, H, W, 3]
    return ((cut + _SHARE // 2) // _SHARE).astype(np.uint8)


@cache
def _moved_shares(span: Span) -> NDArray[np.float32]:
    """Give the shares of a span for all moves of its ends: [M, M, 32, 32]."""
    most = sum(_MOVES)
    moves = (np.arange(-most, most + 1) * _STEP).tolist()
    low, high = span
    return np.stack(
        [
            np.stack([_soft_shares((max(0.0, low + a), min(1.0, high + b))) for b in moves])
            for a in moves
        ]
    )


@cache
def _shares(span: Span, num_cells: int) -> NDArray[np.float32]:
    """Give the shares of 32 cells in those that a part of a side is sampled to: [N, 32]."""
    return _round_shares(sample_span(span).reshape(num_cells, SIDE // num_cells, SIDE).mean(axis=1))


def _soft_shares(span: Span) -> NDArray[np.float32]:
    """Give the shares of 32 cells in 32 of a part of a side, each softened by its neighbours."""
    sampled = np.pad(sample_span(span), ((1, 1), (0, 0)), mode="edge")
    return _round_shares(
        _SOFT * sampled[:-2] + (1 - 2 * _SOFT) * sampled[1:-1] + _SOFT * sampled[2:]
    )


def _round_shares(shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn shares into whole numbers that sum to 256 in every cell."""
    whole = np.floor(shares * _SHARE)
    whole[np.arange(len(shares)), shares.argmax(axis=1)] += _SHARE - whole.sum(axis=1)
    return whole.astype(np.float32)
