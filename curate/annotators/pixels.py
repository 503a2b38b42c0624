"""Measure a picture's size and its plainest qualities: detail, light, colour, borders.

    size and aspect                                 of the full picture
    light, detail, borders                          of luminance, longest side at most 512 px
    colour                                          of RGB, longest side at most 128 px

Reduced copies make numbers of large and small pictures compare, and a 20-megapixel picture cost
little more than a small one. They are area averages (`core/resample.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Batch, Column
from curate.annotators.borders import measure_borders
from curate.annotators.colors import (
    GREY_TOLERANCE,
    measure_chroma,
    measure_colorfulness,
    measure_flatness,
    measure_uniformity,
)
from curate.core.image import to_array
from curate.core.resample import average_area, fit_within

DETAIL_SIDE_PX = 512  # chosen by us: the size that pictures are trained at, or near it
# Chosen by us: colour is coarse. On 85 photographs and clip-arts colorfulness is 2.5 % lower on
# average than of the full picture (9 of 10 within 7 %), for a third of the time of 512 px.
COLOR_SIDE_PX = 128


class Pixels:
    """Measure size, light, detail, borders and colour.

    Columns:
        width, height, min_side_px: pixels.
        aspect: longest side over shortest side, >= 1. Source: DataComp (Gadre et al. 2023, arXiv
            2304.14108) filters on it with 3.0.
        megapixels: 10^6 pixels.
        brightness: mean luminance, 0..255.
        contrast: standard deviation of luminance, 0..127.5, on the 0..255 scale (RMS contrast).
        entropy: of the histogram of 256 luminance levels, in bits, 0..8.
        blur: variance of the Laplacian of luminance; LOW is blurred. Source: Pech-Pacheco et al.,
            "Diatom autofocusing in brightfield microscopy", ICPR 2000, measure LAPV.
        border_top, border_bottom, border_left, border_right: plain band at each side, as a share
            of height or width; border_frac: share of the area of all four, 0..1 (`borders.py`).
        colorfulness: Hasler and Suesstrunk 2003; 0 is grey, 109 extremely colourful (`colors.py`).
        chroma: mean difference of the largest and the smallest channel, 0..255.
        grey_frac: share of pixels whose channels differ by at most 8 levels, 0..1; a grey picture
            has more than 0.99.
        uniform_frac: share of pixels within 8 levels of the median colour, 0..1; near 1 is a blank
            or a placeholder.
        flat_frac: share of pixels that have the most common colour of 16 levels a channel, 0..1.
    """

    name: str = "pixels"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        "pixels.width": pa.int32(),
        "pixels.height": pa.int32(),
        "pixels.min_side_px": pa.int32(),
        "pixels.aspect": pa.float32(),
        "pixels.megapixels": pa.float32(),
        "pixels.brightness": pa.float32(),
        "pixels.contrast": pa.float32(),
        "pixels.entropy": pa.float32(),
        "pixels.blur": pa.float32(),
        "pixels.border_top": pa.float32(),
        "pixels.border_bottom": pa.float32(),
        "pixels.border_left": pa.float32(),
        "pixels.border_right": pa.float32(),
        "pixels.border_frac": pa.float32(),
        "pixels.colorfulness": pa.float32(),
        "pixels.chroma": pa.float32(),
        "pixels.grey_frac": pa.float32(),
        "pixels.uniform_frac": pa.float32(),
        "pixels.flat_frac": pa.float32(),
    }

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every picture."""
        rows = [measure_pixels(image) for image in batch.images]
        return {name: [row[name.removeprefix("pixels.")] for row in rows] for name in self.columns}


def measure_pixels(image: Image.Image) -> dict[str, Any]:
    """Measure one RGB picture; fields as in `Pixels`."""
    width, height = image.size
    detail, color = (
        fit_within(height, width, DETAIL_SIDE_PX),
        fit_within(height, width, COLOR_SIDE_PX),
    )
    return {
        "width": width,
        "height": height,
        "min_side_px": min(width, height),
        "aspect": max(width, height) / min(width, height),
        "megapixels": width * height / 1e6,
        **measure_luminance(average_area(np.asarray(image.convert("L")), *detail)),
        **measure_colors(average_area(to_array(image), *color)),
    }


def measure_luminance(luminance: NDArray[np.uint8]) -> dict[str, float]:
    """Measure light, detail and borders of [H, W]."""
    histogram = np.bincount(luminance.ravel(), minlength=256)
    borders = measure_borders(luminance)
    brightness, contrast = measure_light(histogram)
    return {
        "brightness": brightness,
        "contrast": contrast,
        "entropy": measure_entropy(histogram),
        "blur": measure_sharpness(luminance),
        "border_top": borders.top,
        "border_bottom": borders.bottom,
        "border_left": borders.left,
        "border_right": borders.right,
        "border_frac": borders.frac,
    }


def measure_colors(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure colour of [H, W, 3]."""
    chroma = measure_chroma(pixels)
    return {
        "colorfulness": measure_colorfulness(pixels),
        "chroma": float(chroma.mean()),
        "grey_frac": float((chroma <= GREY_TOLERANCE).mean()),
        "uniform_frac": measure_uniformity(pixels),
        "flat_frac": measure_flatness(pixels),
    }


def measure_light(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Give mean and standard deviation of the levels of a histogram [256]."""
    shares = histogram / histogram.sum()
    levels = np.arange(len(shares))
    mean = float(shares @ levels)
    return mean, float(np.sqrt(shares @ np.square(levels - mean)))


def measure_entropy(histogram: NDArray[np.int64]) -> float:
    """Give the Shannon entropy of a histogram [256], in bits, 0..8."""
    shares = histogram[histogram > 0] / histogram.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def measure_sharpness(luminance: NDArray[np.uint8]) -> float:
    """Give the variance of the 4-neighbour Laplacian inside [H, W]; 0 below 3 x 3 pixels."""
    grey = luminance.astype(np.int16)
    inside = grey[1:-1, 1:-1]
    if not inside.size:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inside).var())
