"""Make an ordinary JPEG smaller: by 2, 4 or 8 inside its inverse DCT, the rest as an array.

The short way for most pictures of the web: from libjpeg-turbo to OpenCV and back, in two thirds of
the time that it takes as PIL pictures. Whatever is not ordinary, or makes libjpeg-turbo complain,
is left to `curate.core.image`, which alone says what is wrong with a picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import simplejpeg

from curate.core.image import REDUCING_GAP, min_side_size
from curate.core.image_header import Header

_DCT_REDUCTIONS = (8, 4, 2, 1)  # those that libjpeg-turbo has SIMD code for, and PIL takes

# Chosen by us on 57 real photographs against Lanczos from the full size: 43.8 dB in the mean;
# .30 43.7, OpenCV's INTER_AREA 43.4, PIL's Hamming 43.3; in a third of their time.
_BLUR_PER_RATIO = 0.32
_MOST_BLURRED = 3.0  # beyond, three taps are too few; only pictures over 24 times their target


def shrink_jpeg(data: bytes, header: Header, side_px: int, quality: int) -> bytes | None:
    """Resize a JPEG so that its shorter side has `side_px`.

    Args:
        data: the file.
        header: what `read_header` gave for it.
        side_px: at most the shorter side.
        quality: of the JPEG that is made, 1 to 100; chroma is halved (4:2:0).

    Returns:
        A JPEG of `min_side_size`; None where PIL has to decide: another format, turned by EXIF, a
        colour profile, not three channels, damaged.
    """
    if not (header.format == "jpg" and header.mode == "RGB" and header.plain):
        return None
    least = math.ceil(REDUCING_GAP * side_px)
    shorter = min(header.height, header.width)
    reduction = next(by for by in _DCT_REDUCTIONS if by == 1 or shorter // by >= least)
    height, width = -(-header.height // reduction), -(-header.width // reduction)
    try:
        pixels = simplejpeg.decode_jpeg(data, "BGR", min_height=height, min_width=width)
    except ValueError:
        return None
    if pixels.shape != (height, width, 3):
        return None
    small = _resize(pixels, *min_side_size(side_px, header.height, header.width))
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Make uint8 [H, W, 3] smaller: blurred for the new size, then sampled by cubic splines."""
    cv2.setNumThreads(1)  # a worker is a process of its own
    ratio = pixels.shape[1] / width
    if ratio > _MOST_BLURRED:
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(pixels, (3, 3), _BLUR_PER_RATIO * ratio)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC)
