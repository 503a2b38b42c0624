"""Average pictures over coarser grids, exactly: the same bits on every machine and library version.

The value of a cell is the mean of the picture over the cell's area; pixels on a cell's edge count
by the share of them inside. In units of 1 / (rows x columns of the grid) of a pixel all shares are
integers, so a cell's sum is an integer. It is computed by matrix products of floating point, in
which every partial sum is an integer that the type holds exactly: neither the order of summation,
nor fused multiply-add, nor the BLAS can change it. One rounding, half up, gives the 8-bit mean.

Not for making pictures to look at or to train on: `image.py` resizes those with Lanczos.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT_FLOAT32 = 2**24  # integers up to here are exact; float64: 2**53, above any picture's sums
# Chosen by us, by time on 1 to 24 megapixels: source lines multiplied at once. Fewer means more
# calls, more means more products with zero weights.
_LINES_AT_ONCE = 32


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
    rows = len(flat)
    sums = np.empty((height, flat.shape[1]), dtype)
    for start, stop in _blocks(rows, height):
        first, last, weights = _overlaps(rows, height, start, stop)
        part = flat[first:last].astype(dtype)
        np.matmul(weights.astype(dtype), part, out=sums[start:stop])
    return sums


def _sum_columns(
    partial: NDArray[Any], columns: int, width: int, num_channels: int
) -> NDArray[np.float64]:
    """Sum [h, W * C], channels last, over `width` bands of columns: [h, width * C]."""
    sums = np.empty((len(partial), width * num_channels))
    for start, stop in _blocks(columns, width):
        first, last, weights = _overlaps(columns, width, start, stop)
        part = partial[:, first * num_channels : last * num_channels].astype(np.float64)
        here = sums[:, start * num_channels : stop * num_channels]
        np.matmul(part, _per_channel(weights.T, num_channels), out=here)
    return sums


def _per_channel(weights: NDArray[np.float64], num_channels: int) -> NDArray[np.float64]:
    """Repeat [N, K] for interleaved channels: [N * C, K * C], the Kronecker product with 1."""
    lines, cells = weights.shape
    spread = np.zeros((lines, num_channels, cells, num_channels))
    for channel in range(num_channels):
        spread[:, channel, :, channel] = weights
    return spread.reshape(lines * num_channels, cells * num_channels)


def _blocks(source: int, target: int) -> list[tuple[int, int]]:
    """Cut `target` cells into blocks that cover about `_LINES_AT_ONCE` of `source` lines."""
    size = max(1, _LINES_AT_ONCE * target // source)
    return [(start, min(start + size, target)) for start in range(0, target, size)]


def _overlaps(
    source: int, target: int, start: int, stop: int
) -> tuple[int, int, NDArray[np.float64]]:
    """Give how much cells start..stop cover of each line, in units of 1 / target of a line.

    Returns:
        First line, line after the last, and the weights [stop - start, last - first]; a cell's
        weights sum to `source`.
    """
    first, last = start * source // target, -(-stop * source // target)
    cells = np.arange(start, stop)[:, None]
    lines = np.arange(first, last)
    ends = np.minimum((cells + 1) * source, (lines + 1) * target)
    begins = np.maximum(cells * source, lines * target)
    return first, last, np.maximum(ends - begins, 0).astype(np.float64)
