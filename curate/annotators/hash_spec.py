"""Define perceptual hashes that no release of an imaging library can move: the spec `lm1`.

    canonical picture (`core/image.py`: upright, sRGB, alpha on white, first frame, uint8 [H, W, 3])
      -> exact sums over 32 x 288 cells -> averages, rounded once to 8 bits:
           luminance 32 x 32 -> integer DCT -> phash
           luminance 8 x 9   -> dhash
           colour 8 x 8      -> thumbnail
           colour 32 x 32    -> miniature

All arithmetic is of integers (`core/resample.py` sums exactly too), so equal pictures hash equally
on every machine. A change of any rule below is a new spec with a new name. Rules and bit order
follow imagehash but for the resize and the margin, so hashes of both kinds lie near each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.resample import sum_area

SPEC = "lm1"

THUMBNAIL_SIDE = 8
"""Cells a side; chosen by us: the grid of the 64-bit hashes. A cell averages 1/64 of the picture,
so re-encoding and resizing move it by a few levels and a recoloured object by dozens."""

MINIATURE_SIDE = 32
"""Cells a side; chosen by us: the grid of the pHash. At 16 cells strangers of the toy web come
as near to each other as cropped copies do, at 32 they do not (`stages/duplicates/windows.py`)."""

_HASH_SIDE, _DCT_SIDE = 8, 32  # Source: imagehash 4.3, phash: hash_size 8, highfreq_factor 4
_COLUMNS = _DCT_SIDE * (_HASH_SIDE + 1)  # the finest grid that 32, 9 and 8 columns divide

# Source: ITU-R BT.601 luma 0.299 R + 0.587 G + 0.114 B, in 1 / 65536 (0.299 * 65536 = 19595.3 ...).
_LUMA = np.array([19595, 38470, 7471], np.int64)
_LUMA_ONE = 65536

_DCT_ONE = 2**20  # chosen by us: 255 * 32 * 32 * 2**40 stays below 2**63
# Chosen by us: a coefficient must be this far above the median, in levels summed over 32 x 32
# cells: 3.5 standard deviations of what rounding the cells to 8 bits adds. In symmetric pictures
# many coefficients lie at the median, and without a margin the noise of JPEG chooses their bits: of
# 313 real pictures 10 moved by more than 6 bits (at most 29) at JPEG quality 75, with it 1 (by 7).
_MARGIN = 16 * _DCT_ONE**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptualHashes:
    """Hold what the spec derives from one picture.

    Args:
        phash: 64 bits; the lowest frequency is the highest bit.
        dhash: 64 bits; the upper left pair of cells is the highest bit.
        thumbnail: uint8 [8, 8, 3], sRGB.
        miniature: uint8 [32, 32, 3], sRGB.
    """

    phash: int
    dhash: int
    thumbnail: NDArray[np.uint8]
    miniature: NDArray[np.uint8]


def hash_picture(pixels: NDArray[np.uint8]) -> PerceptualHashes:
    """Hash a canonical picture of any size: uint8 [H, W, 3]."""
    sums = sum_area(pixels, _DCT_SIDE, _COLUMNS).astype(np.int64)  # exact: they are whole numbers
    one = pixels.shape[0] * pixels.shape[1]  # what a level of 1 sums to in a cell
    luma = sums @ _LUMA
    return PerceptualHashes(
        phash=hash_frequencies(_average(luma, _DCT_SIDE, _DCT_SIDE, one * _LUMA_ONE)),
        dhash=hash_differences(_average(luma, _HASH_SIDE, _HASH_SIDE + 1, one * _LUMA_ONE)),
        thumbnail=_average(sums, THUMBNAIL_SIDE, THUMBNAIL_SIDE, one),
        miniature=_average(sums, MINIATURE_SIDE, MINIATURE_SIDE, one),
    )


def hash_frequencies(luma: NDArray[np.uint8]) -> int:
    """Tell which of the 8 x 8 lowest frequencies of [32, 32] are clearly above their median.

    The DCT-II is unscaled, rows are vertical frequencies, [0, 0] is the mean. The median of the
    64 coefficients is the 32nd smallest; a bit is 1 where its coefficient exceeds it by more than
    the margin.
    """
    low = _DCT @ luma.astype(np.int64) @ _DCT.T  # [8, 8]
    return pack_bits(low > np.sort(low, axis=None)[31] + _MARGIN)


def hash_differences(luma: NDArray[np.uint8]) -> int:
    """Tell where [8, 9] grows brighter to the right."""
    return pack_bits(luma[:, 1:] > luma[:, :-1])


def pack_bits(bits: NDArray[np.bool_]) -> int:
    """Pack 64 bits, row by row, the first as the highest, into an integer in [0, 2**64)."""
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _average(sums: NDArray[np.int64], height: int, width: int, one: int) -> NDArray[np.uint8]:
    """Average [32, 288, ...] over height x width cells: uint8, rounded half up.

    Args:
        sums: of the fine cells.
        height: divides 32.
        width: divides 288.
        one: what a level of 1 sums to in a fine cell.
    """
    rows, columns = _DCT_SIDE // height, _COLUMNS // width
    cells = sums.reshape(height, rows, width, columns, *sums.shape[2:]).sum(axis=(1, 3))
    total = one * rows * columns
    return ((2 * cells + total) // (2 * total)).astype(np.uint8)


def _make_dct() -> NDArray[np.int64]:
    """Make cos(pi k (2 n + 1) / 64) in units of 2**-20, rounded: [8, 32].

    No entry lies near a half (a test says so), so the C library's cosine cannot move one.
    """
    return np.array(
        [
            [
                round(_DCT_ONE * math.cos(math.pi * k * (2 * n + 1) / (2 * _DCT_SIDE)))
                for n in range(_DCT_SIDE)
            ]
            for k in range(_HASH_SIDE)
        ],
        np.int64,
    )


_DCT = _make_dct()
