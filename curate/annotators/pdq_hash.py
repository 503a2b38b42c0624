"""Compute the PDQ hash of a full picture, 256 bits, and its quality, 0..100.

    canonical picture [H, W, 3] -> luminance, tent-filtered and sampled on 64 x 64 points
                                -> quality: how many strong gradients
                                -> 16 x 16 lowest frequencies but the mean -> bits above the median

Filter and sampling are linear, so both are one product with a banded matrix on each side; only the
64 x 64 points that are needed are ever computed. This gives the library's bits (`pdqhash`, the
oracle of the tests) at a tenth of its time. A smaller copy would be cheap as well, but it moves the
hash by 6 bits (at most 24) at 512 px and by 22 (at most 76) at 256 px, of 31 that make a match.

Source: Dalins, Wilson and Boudry, "PDQ & TMK + PDQF: a test drive of Facebook's perceptual hashing
algorithms" (arXiv 1912.07745), and ThreatExchange's hashing.pdf and pdq/cpp, whose rounding rules
are followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GRID = 64  # points a side
_MIN_SIDE_PX = 5  # below, the hash is all zeros with quality 0
_LUMA = np.array([0.299, 0.587, 0.114])
_QUALITY_SCALE = 90  # gradient sum of quality 1
# Chosen by us: 1e-6 of a luminance level. Coefficients that are equal by a picture's symmetry come
# out of floating point with differences of 1e-12; without this, noise would choose their bits.
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Hold what hash and quality are read from.

    Args:
        frequencies: [16, 16], float64; [i, j] is vertical frequency i + 1, horizontal j + 1.
        quality: 0..100; ThreatExchange advises not to match below 50.
    """

    frequencies: NDArray[np.float64]
    quality: int


def measure_spectrum(pixels: NDArray[np.uint8]) -> Spectrum:
    """Measure a picture: uint8 [H, W, 3]."""
    if min(pixels.shape[:2]) < _MIN_SIDE_PX:
        return Spectrum(frequencies=np.zeros((16, 16)), quality=0)
    points = sample_luminance(pixels)
    return Spectrum(
        frequencies=_to_frequencies(points),
        quality=measure_quality(points),
    )


def pack_hash(frequencies: NDArray[np.float64]) -> bytes:
    """Set the bits of the frequencies above the median, the 128th smallest: 32 bytes.

    Their hex text is ThreatExchange's: bit 16 i + j of the hash is frequency [i, j], and the
    highest bit is written first.
    """
    bits = frequencies > np.sort(frequencies, axis=None)[127]
    return np.packbits(bits.ravel()[::-1]).tobytes()


def measure_turns(pixels: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Measure the frequencies of the eight turned and flipped pictures: uint8 [H, W, 3].

    As if each had been opened: box filter and sampling lean to one side, so the spectrum of the
    picture with other signs, the library's short way, is off by up to 56 bits.

    Returns:
        As it is; turned by 90, 180, 270 degrees counter-clockwise; flipped upside down, left to
        right, along the main and along the other diagonal: the library's order.
    """
    if min(pixels.shape[:2]) < _MIN_SIDE_PX:
        return [np.zeros((16, 16))] * 8
    plain, mirrored = _sample_both_ways(pixels)
    inverted, opposite = _sample_both_ways(pixels[::-1])
    points = [
        plain, mirrored.T, opposite, inverted.T, inverted, mirrored, plain.T, opposite.T,
    ]  # fmt: skip
    return [_to_frequencies(some) for some in points]


def sample_luminance(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Filter a picture by two box passes a side and take 64 x 64 points: float64, 0..255."""
    if pixels.shape[:2] == (_GRID, _GRID):
        return pixels.astype(np.float64) @ _LUMA
    return _sample_rows(pixels) @ _bands(pixels.shape[1]).as_matrix().T


def _sample_both_ways(
    pixels: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sample a picture and its mirror image, left to right."""
    if pixels.shape[:2] == (_GRID, _GRID):
        points = sample_luminance(pixels)
        return points, points[:, ::-1]
    luminance = _sample_rows(pixels)
    columns = _bands(pixels.shape[1]).as_matrix().T
    return luminance @ columns, luminance[:, ::-1] @ columns


def _sample_rows(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Filter rows and take 64 of them: luminance [64, W]."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    bands = _bands(height)
    sampled = np.empty((_GRID, rows.shape[1]))
    for point, (first, weights) in enumerate(zip(bands.first, bands.weights, strict=True)):
        part = rows[first : first + len(weights)].astype(np.float64)
        np.matmul(weights[: len(part)], part, out=sampled[point])
    return sampled.reshape(_GRID, width, 3) @ _LUMA


def _to_frequencies(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(_DCT @ points @ _DCT.T, _DECIMALS)


def measure_quality(points: NDArray[np.float64]) -> int:
    """Count gradients of [64, 64] in whole hundredths of the range: 0..100."""
    total = 0
    for axis in (0, 1):
        steps = np.trunc(np.diff(points, axis=axis) * 100 / 255)
        total += int(np.abs(steps).sum())
    return min(100, total // _QUALITY_SCALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bands:
    """Hold what each of the 64 points along a side averages.

    Args:
        length: of the side, in lines.
        first: [64], first line.
        weights: [64, K] of the K lines from there; 0 beyond the side.
    """

    length: int
    first: NDArray[np.int64]
    weights: NDArray[np.float64]

    def as_matrix(self) -> NDArray[np.float64]:
        """Give the weights of all lines: [64, length]."""
        num_taps = self.weights.shape[1]
        matrix = np.zeros((_GRID, self.length + num_taps))
        lines = self.first[:, None] + np.arange(num_taps)
        np.put_along_axis(matrix, lines, self.weights, axis=1)
        return matrix[:, : self.length]


def _bands(length: int) -> _Bands:
    """Combine two box passes for the points along a side of `length` lines.

    Legend: P 64 points, O lines that the second pass averages, K lines that the first one reads.
    """
    centers = (2 * np.arange(_GRID) + 1) * length // (2 * _GRID)  # [P]
    begin, end = _window(centers, length)
    outer = begin[:, None] + np.arange((end - begin).max())  # [P, O]
    is_inside = outer < end[:, None]
    start, stop = _window(np.minimum(outer, length - 1), length)
    first = start[:, 0]
    lines = (first[:, None] + np.arange((stop - first[:, None]).max()))[:, None]  # [P, 1, K]
    is_read = (start[..., None] <= lines) & (lines < stop[..., None])  # [P, O, K]
    shares = is_inside / ((end - begin)[:, None] * (stop - start))  # [P, O]
    weights = (shares[:, None] @ is_read)[:, 0]  # [P, K]
    return _Bands(length=length, first=first, weights=weights)


def _window(centers: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the lines that one box pass averages at each center: [start, stop), cut at the edges.

    The box is 1 / 128 of the side, rounded up; an even box reaches one line further to the end.
    """
    size = -(-length // (2 * _GRID))
    after = (size + 2) // 2
    return np.maximum(0, centers - (size - after)), np.minimum(length, centers + after)


_DCT = np.sqrt(2 / _GRID) * np.cos(
    np.pi / (2 * _GRID) * np.arange(1, 17)[:, None] * (2 * np.arange(_GRID) + 1)
)  # [16, 64]
