"""Tell whether a picture is a window of another: lay the miniatures over each other and compare.

    near hashes name the window -> its 8 x 8 cells against the part's: most strangers end here
    -> the window's ends moved by 3 %, rows first, then columns -> the least change of 32 x 32 cells

The window that a hash stands for is near the true one, not it: a copy may have lost anything from
4 to 10 % of a side. Windows are sampled in whole numbers, so changes are equal everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.thumbnails import measure_change
from curate.stages.duplicates.windows import SIDE, WINDOWS, Span, Window, sample_span

LOOSE_CHANGE = 0.5
"""Of 8 x 8 cells and a window that was not moved. Chosen by us: crops of the toy web stay below
.31, as 1 in 500 pairs of strangers with near windows does."""

_MOVES = (-0.03, 0.0, 0.03)  # half of what a window may be off; chosen by us
_COARSE = 8
_SHARE = 256  # shares are of it; 255 * 256 * 256 is below 2**24, so float32 holds all sums exactly
_AT_ONCE = 256  # pairs; chosen by us: 40 MB

Cells = NDArray[np.uint8]
"""[P, N, N, 3]."""


def measure_crop(whole: Cells, part: Cells, form: int) -> NDArray[np.float32]:
    """Measure how much pictures differ from a window of others, at best.

    Args:
        whole: [P, 32, 32, 3], miniatures that the window is cut out of.
        part: [P, 32, 32, 3].
        form: number of the window in WINDOWS.

    Returns:
        [P], float32: `measure_change` of 32 x 32 cells, of the best of the windows near to it; 9
        where 8 x 8 cells already differ by more than LOOSE_CHANGE.
    """
    window = WINDOWS[form]
    changes = np.full(len(whole), 9, np.float32)
    coarse = _cut(
        _cut(whole, _shares(window.rows, _COARSE), 1), _shares(window.columns, _COARSE), 2
    )
    close = np.flatnonzero(_compare(coarse, _shrink(part)) <= np.float32(LOOSE_CHANGE))
    for low in range(0, len(close), _AT_ONCE):
        some = close[low : low + _AT_ONCE]
        changes[some] = _least_change(whole[some], part[some], window)
    return changes


def _least_change(whole: Cells, part: Cells, window: Window) -> NDArray[np.float32]:
    """Move the window's top and bottom, then, at the best of these, its left and right."""
    columns = _shares(window.columns, SIDE)
    by_rows = [_cut(whole, _shares(rows, SIDE), 1) for rows in _near_spans(window.rows)]
    changes = np.stack([_compare(_cut(cut, columns, 2), part) for cut in by_rows])
    best = changes.argmin(axis=0)
    cut = np.stack(by_rows)[best, np.arange(len(whole))]
    moved = [
        _compare(_cut(cut, _shares(span, SIDE), 2), part) for span in _near_spans(window.columns)
    ]
    return np.min([changes.min(axis=0), *moved], axis=0)


def _near_spans(span: Span) -> Sequence[Span]:
    """List the spans whose ends lie near to a span's; ends at the picture's edge may move in."""
    low, high = span
    spans = ((max(0.0, low + first), min(1.0, high + last)) for first in _MOVES for last in _MOVES)
    return list(dict.fromkeys(spans))


def _compare(one: Cells, other: Cells) -> NDArray[np.float32]:
    return measure_change(one.reshape(len(one), -1), other.reshape(len(other), -1))


def _shrink(cells: Cells) -> Cells:
    """Average 32 x 32 cells to 8 x 8."""
    whole = _shares((0.0, 1.0), _COARSE)
    return _cut(_cut(cells, whole, 1), whole, 2)


def _cut(cells: Cells, shares: NDArray[np.float32], axis: int) -> Cells:
    """Sample one axis of [P, H, W, 3]: [N, H] or [N, W] shares of its cells; rounded half up."""
    moved = np.moveaxis(cells, axis, -1).astype(np.float32) @ shares.T
    return np.moveaxis(((moved + _SHARE // 2) // _SHARE).astype(np.uint8), -1, axis)


@cache
def _shares(span: Span, num_cells: int) -> NDArray[np.float32]:
    """Give the shares of 32 cells in those that a part of a side is sampled to: [N, 32].

    Whole numbers; those of a cell sum to 256.
    """
    sampled = sample_span(span).reshape(num_cells, SIDE // num_cells, SIDE).mean(axis=1)
    shares = np.floor(sampled * _SHARE)
    short = _SHARE - shares.sum(axis=1)
    shares[np.arange(num_cells), sampled.argmax(axis=1)] += short
    return shares.astype(np.float32)
