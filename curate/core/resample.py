"""Average pictures over coarser grids, exactly: the same bits on every machine and library version.

The value of a cell is the mean of the picture over the cell's area; pixels on a cell's edge count
by the share of them inside. In units of 1 / (rows x columns of the grid) of a pixel all shares are
integers, so a cell's sum is an integer. It is computed by matrix products of floating point, in
which every partial sum is an integer that the type holds exactly: neither the order of summation,
nor fused multiply-add, nor the BLAS can change it. One rounding, half up, gives the 8-bit mean.

Not for making pictures to look at or to train on: `image.py` resizes those with Lanczos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT_FLOAT32 = 2**24  # integers up to here are exact; float64: 2**53, above any picture's sums
# Chosen by us, by time on 1 to 24 megapixels: source lines multiplied at once. Fewer means more
# calls, more means more products with zero shares.
_ROWS_AT_ONCE, _COLUMNS_AT_ONCE = 24, 56


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Hold the shares of some neighbouring cells.

    Args:
        start: first cell.
        stop: cell after the last.
        first: first source line that they cover.
        weights: [stop - start, N], shares of the N lines from there.
    """

    start: int
    stop: int
    first: int
    weights: NDArray[np.float64]


def average_area(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Average a picture over `height` x `width` cells; a finer grid than the picture works too.

    Args:
        pixels: [H, W] or [H, W, C].
        height: rows of the grid, >= 1.
        width: columns of the grid, >= 1.

    Returns:
        [height, width] or [height, width, C], uint8: the exact mean of each cell, rounded half up.
    """
    means = sum_area(pixels, height, width)
    # A quotient that is not a half differs from it by at least 1 / (H W), far above 2**-45.
    means /= pixels.shape[0] * pixels.shape[1]
    means += 0.5
    return means.astype(np.uint8)


def sum_area(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Sum a picture over `height` x `width` cells.

    Args:
        pixels: [H, W] or [H, W, C], H * W < 2**44.
        height: rows of the grid, >= 1.
        width: columns of the grid, >= 1.

    Returns:
        [height, width] or [height, width, C], float64: whole numbers, H * W times the mean.
    """
    rows, columns = pixels.shape[:2]
    num_channels = pixels.size // (rows * columns)
    flat = pixels.reshape(rows, columns * num_channels)
    is_small = 255 * rows < _EXACT_FLOAT32
    partial = _sum_rows(flat, height, np.dtype(np.float32 if is_small else np.float64))
    sums = _sum_columns(partial, columns, width, num_channels)
    return sums.reshape(height, width, *pixels.shape[2:])


def fit_within(height: int, width: int, side_px: int) -> tuple[int, int]:
    """Give the (height, width) of a picture whose longest side is at most `side_px`.

    A smaller picture keeps its size; sides are rounded half up and never 0.
    """
    longest = max(height, width)
    if longest <= side_px:
        return height, width
    sides = ((2 * side * side_px + longest) // (2 * longest) for side in (height, width))
    fitted_height, fitted_width = (max(1, side) for side in sides)
    return fitted_height, fitted_width


def _sum_rows(flat: NDArray[np.uint8], height: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Sum [H, N] over `height` bands of rows: [height, N], H times the mean."""
    sums = np.empty((height, flat.shape[1]), dtype)
    for block in _cut(len(flat), height, _ROWS_AT_ONCE):
        part = flat[block.first : block.first + block.weights.shape[1]].astype(dtype)
        np.matmul(block.weights.astype(dtype), part, out=sums[block.start : block.stop])
    return sums


def _sum_columns(
    partial: NDArray[Any], columns: int, width: int, num_channels: int
) -> NDArray[np.float64]:
    """Sum [h, W * C], channels last, over `width` bands of columns: [h, width * C]."""
    sums = np.empty((len(partial), width * num_channels))
    for block in _cut(columns, width, _COLUMNS_AT_ONCE):
        last = block.first + block.weights.shape[1]
        part = partial[:, block.first * num_channels : last * num_channels].astype(np.float64)
        here = sums[:, block.start * num_channels : block.stop * num_channels]
        np.matmul(part, _per_channel(block.weights.T, num_channels), out=here)
    return sums


def _per_channel(weights: NDArray[np.float64], num_channels: int) -> NDArray[np.float64]:
    """Repeat [N, K] for interleaved channels: [N * C, K * C], the Kronecker product with 1."""
    lines, cells = weights.shape
    spread = np.zeros((lines, num_channels, cells, num_channels))
    for channel in range(num_channels):
        spread[:, channel, :, channel] = weights
    return spread.reshape(lines * num_channels, cells * num_channels)


def _cut(source: int, target: int, lines_at_once: int) -> Iterator[_Block]:
    """Cut `target` cells into blocks that cover about `lines_at_once` of `source` lines."""
    first, weights = _shares(source, target)
    num_taps = weights.shape[1]
    size = max(1, lines_at_once * target // source)
    for start in range(0, target, size):
        stop = min(start + size, target)
        offsets = first[start:stop, None] - first[start] + np.arange(num_taps)
        block = np.zeros((stop - start, int(offsets[-1, -1]) + 1))
        block[np.arange(stop - start)[:, None], offsets] = weights[start:stop]
        begin = int(first[start])
        # Beyond the last line all shares are 0.
        yield _Block(start=start, stop=stop, first=begin, weights=block[:, : source - begin])


def _shares(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give how much each cell covers of its lines, in units of 1 / target of a line.

    Returns:
        First line [target], and the shares [target, K] of the K lines from there; they sum to
        `source`.
    """
    cells = np.arange(target)[:, None]
    first = cells * source // target
    lines = first + np.arange(-(-source // target) + 1)
    ends = np.minimum((cells + 1) * source, (lines + 1) * target)
    begins = np.maximum(cells * source, lines * target)
    return first[:, 0], np.maximum(ends - begins, 0).astype(np.float64)
