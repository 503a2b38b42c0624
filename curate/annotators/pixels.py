"""Measure a picture's size and its plainest qualities: detail, contrast, sharpness, flatness.

Size and aspect are of the full picture. The rest is measured on a copy whose longest side is at
most `PROXY_SIDE_PX`, so that numbers of large and small pictures compare and a 20-megapixel picture
costs what a small one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.table import Batch, Column

PROXY_SIDE_PX = 512  # chosen by us: the size that pictures are trained at, or near it

# Source of the reducing gap: PIL documentation of Image.resize, 3.0 is "almost indistinguishable"
# from a full antialiased resize and several times faster on large pictures.
REDUCING_GAP = 3.0


class Pixels:
    """Measure size, entropy, contrast, blur and flatness.

    Columns:
        width, height, min_side_px: pixels.
        aspect: longest side over shortest side, >= 1. Source: DataComp (Gadre et al. 2023, arXiv
            2304.14108) filters on it with 3.0.
        megapixels: 10^6 pixels.
        entropy: of the histogram of 256 luminance levels, in bits, 0..8.
        contrast: standard deviation of luminance, 0..127.5, on the 0..255 scale (RMS contrast).
        blur: variance of the Laplacian of luminance; LOW is blurred. Source: Pech-Pacheco et al.,
            "Diatom autofocusing in brightfield microscopy", ICPR 2000, measure LAPV.
        flat_frac: share of pixels that have the most common colour of 16 levels a channel, 0..1;
            near 1 is a blank or placeholder picture.
    """

    name: str = "pixels"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        "pixels.width": pa.int32(),
        "pixels.height": pa.int32(),
        "pixels.min_side_px": pa.int32(),
        "pixels.aspect": pa.float32(),
        "pixels.megapixels": pa.float32(),
        "pixels.entropy": pa.float32(),
        "pixels.contrast": pa.float32(),
        "pixels.blur": pa.float32(),
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
    proxy = shrink(image, PROXY_SIDE_PX)
    luminance = np.asarray(proxy.convert("L"))
    return {
        "width": width,
        "height": height,
        "min_side_px": min(width, height),
        "aspect": max(width, height) / min(width, height),
        "megapixels": width * height / 1e6,
        "entropy": measure_entropy(luminance),
        "contrast": float(luminance.std()),
        "blur": measure_sharpness(luminance),
        "flat_frac": measure_flatness(np.asarray(proxy)),
    }


def shrink(image: Image.Image, side_px: int) -> Image.Image:
    """Resize so that the longest side is at most `side_px`; a smaller picture stays as it is."""
    scale = side_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)


def measure_entropy(luminance: NDArray[np.uint8]) -> float:
    """Give the Shannon entropy of the histogram of [H, W], in bits, 0..8."""
    shares = np.bincount(luminance.ravel(), minlength=256) / luminance.size
    shares = shares[shares > 0]
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def measure_sharpness(luminance: NDArray[np.uint8]) -> float:
    """Give the variance of the 4-neighbour Laplacian inside [H, W]; 0 below 3 x 3 pixels."""
    grey = luminance.astype(np.int16)
    inside = grey[1:-1, 1:-1]
    if not inside.size:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inside).var())


def measure_flatness(pixels: NDArray[np.uint8]) -> float:
    """Give the share of [H, W, 3] in the most common of 16 x 16 x 16 colours, 0..1."""
    red, green, blue = np.moveaxis(pixels >> 4, -1, 0).astype(np.uint16)
    colors = (red << 8) | (green << 4) | blue
    return float(np.bincount(colors.ravel()).max() / colors.size)
