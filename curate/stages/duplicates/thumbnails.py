"""Tell how much two pictures differ by a few coloured cells of them, in parts of their contrast.

A perceptual hash sees luminance alone and forgets how strong a picture is; the thumbnail tells a
red circle from a blue one. Its levels are not compared as they are: another white balance, exposure
or a cropped edge moves a few of them far, and faint pictures differ by little though nothing on
them is alike. So each channel may be brighter or darker as a whole, and what then remains is
measured against the contrast of the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_GAIN = 1.25
"""Ratio of two channels' strengths that is still taken for exposure; chosen by us: white balances
of one scene lie within it; beyond, it counts as a change of colour."""
LEAST_CONTRAST = 2.0
"""Standard deviation, in 8-bit steps, that every picture is taken to have; chosen by us: rounding
and JPEG move a flat thumbnail by 1 or 2, which is no change."""


def measure_change(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure the change between pairs of thumbnails: 0 is none, 1 as much as there is on them.

        change^2 = sum_c |sqrt(g) x - y / sqrt(g)|^2 / (|x - mean x| |y - mean y|)

    with the gain g of channel c that makes it least, |y| / |x|, held within `MOST_GAIN`; equal
    pictures give 0, and swapping the two changes nothing.

    Args:
        one: [P, 3 K], K cells of 3 channels, row by row: 64 of thumbnails, 1024 of miniatures.
        other: [P, 3 K].

    Returns:
        [P], float32, >= 0. Sums are of integers, so equal thumbnails give equal changes everywhere.
    """
    x, y = _channels(one), _channels(other)  # [P, 3, K]
    xx, yy, xy = _products(x, x), _products(y, y), _products(x, y)  # [P, 3]
    gain = np.sqrt((yy + 1.0) / (xx + 1.0))  # a black channel has no gain of its own
    gain = np.clip(gain, 1 / MOST_GAIN, MOST_GAIN)
    rest = np.maximum(gain * xx - 2.0 * xy + yy / gain, 0).sum(axis=1)
    return np.sqrt(rest / np.sqrt(_contrast(x, xx) * _contrast(y, yy))).astype(np.float32)


def _channels(thumbnails: NDArray[np.uint8]) -> NDArray[Any]:
    """Lay the channels apart: [P, 3 K] -> [P, 3, K], in a type that holds sums of products."""
    num_cells = thumbnails.shape[1] // 3
    holding = np.float32 if num_cells * 255**2 < 2**24 else np.float64
    return thumbnails.reshape(-1, num_cells, 3).transpose(0, 2, 1).astype(holding, order="C")


def _products(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Sum products over the cells: [P, 3], exact."""
    return np.einsum("pck,pck->pc", x, y).astype(np.float64)


def _contrast(x: NDArray[Any], xx: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum squared deviations from each channel's mean: [P], at least that of `LEAST_CONTRAST`."""
    num_cells = x.shape[2]
    sums = x.sum(axis=2, dtype=np.float64)
    return (xx - sums**2 / num_cells).sum(axis=1) + 3 * num_cells * LEAST_CONTRAST**2
