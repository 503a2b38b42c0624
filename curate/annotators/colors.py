"""Measure a picture's colours: how colourful, how grey, how much of one colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREY_TOLERANCE = 8
"""Levels by which the channels of a grey pixel differ; chosen by us: what JPEG's chroma rounding
adds to a grey picture."""

UNIFORM_TOLERANCE = 8
"""Levels from the median colour; chosen by us: JPEG noise on a plain area."""


def measure_colorfulness(pixels: NDArray[np.uint8]) -> float:
    """Measure [H, W, 3]: 0 is grey, 15 slightly, 33 moderately, 59 quite, 109 extremely colourful.

    Source: Hasler and Suesstrunk, "Measuring colourfulness in natural images", SPIE 5007, 2003,
    the metric of equation 4 (rg = R - G, yb = (R + G) / 2 - B) and its table of words.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    rg_mean, rg_variance = _moments(red - green)
    yb_mean, yb_variance = _moments(red + green - 2 * blue)  # twice yb: whole numbers are exact
    spread = np.sqrt(rg_variance + yb_variance / 4)
    return float(spread + 0.3 * np.hypot(rg_mean, yb_mean / 2))


def measure_chroma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the largest minus the smallest channel of each pixel of [H, W, 3]: [H, W]."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    brightest = np.maximum(np.maximum(red, green), blue)
    return brightest - np.minimum(np.minimum(red, green), blue)


def measure_uniformity(pixels: NDArray[np.uint8]) -> float:
    """Give the share of [H, W, 3] within `UNIFORM_TOLERANCE` of the median of each channel, 0..1.

    Unlike `measure_flatness` it has no bin edges: noise about one colour counts as that colour.
    """
    is_near = np.ones(pixels.shape[:2], bool)
    for channel in np.moveaxis(pixels, -1, 0):
        is_near &= np.abs(channel.astype(np.int16) - _median(channel)) <= UNIFORM_TOLERANCE
    return float(is_near.mean())


def measure_flatness(pixels: NDArray[np.uint8]) -> float:
    """Give the share of [H, W, 3] in the most common of 16 x 16 x 16 colours, 0..1."""
    red, green, blue = np.moveaxis(pixels >> 4, -1, 0).astype(np.uint16)
    colors = (red << 8) | (green << 4) | blue
    return float(np.bincount(colors.ravel()).max() / colors.size)


def _median(levels: NDArray[np.uint8]) -> int:
    """Give the upper median of [H, W], from its histogram."""
    counts = np.bincount(levels.ravel(), minlength=256).cumsum()
    return int(np.searchsorted(counts, levels.size // 2, side="right"))


def _moments(values: NDArray[np.int64]) -> tuple[float, float]:
    """Give mean and variance from sums of whole numbers, which no order of summation changes."""
    total, squares, count = int(values.sum()), int((values * values).sum()), values.size
    return total / count, (squares * count - total * total) / count**2
