"""Cross the border between bytes and pictures: decode, orient, resize, encode.

Every picture leaves here as 8-bit RGB in sRGB, upright, first frame, alpha on white. Dimensions
are read from the header and checked before any pixel is decoded. PIL's (width, height) order ends
at this file; everything else says (height, width).
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import warnings
from collections.abc import Generator
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from curate.core.errors import SampleError

MAX_PIXELS = 64_000_000
"""Largest picture decoded, in pixels; chosen by us: 8k x 8k, 192 MB as RGB."""

FORMATS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
}
"""PIL format -> member extension; chosen by us: what browsers and scanners make and PIL reads
without running foreign code (no SVG, no EPS)."""

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,  # as OpenCV's INTER_AREA and torch's antialiased "area"
    "hamming": Image.Resampling.HAMMING,
    "bilinear": Image.Resampling.BILINEAR,
}
"""Name -> filter of a resize; each is widened by the scale when it makes a picture smaller."""

_PARSERS = tuple(name for name in FORMATS if name != "MPO")  # PIL opens MPO as a JPEG

REDUCING_GAP = 1.5
"""How much larger than its target a picture is decoded; chosen by us: PIL takes 2.0 for thumbnails,
"very close to fair resampling". With 1.5 a picture of 900 px comes to 256 px over half its size, in
40 % of the time; 60 real ones differ from those decoded in full by 0.5 of 255 levels in the mean,
1.4 at the 95th percentile."""

# Seen on 52,000 mutated files: TypeError (TIFF without dimensions), RuntimeError (AVIF) and
# struct.error (EXIF of WebP and JPEG); the others are their kin.
PIL_FAULTS = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError, struct.error, LookupError,
    AttributeError, ArithmeticError,
)  # fmt: skip

_STRIP_PIXELS = 1 << 20  # of deep grey turned at once, 16 MB as float64; chosen by us

ImageFormat = Literal["png", "webp", "jpeg"]


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture's header only; pixels are not decoded.

    Raises:
        SampleError: "empty", "not_image" or "too_large".
    """
    if not data:
        raise SampleError("empty", "0 bytes")
    with naming_faults("not_image"):
        try:
            image = Image.open(io.BytesIO(data), formats=_PARSERS)
        except UnidentifiedImageError as error:  # its own text names a memory address
            raise SampleError("not_image", f"no known format, starts with {data[:8]!r}") from error
    if image.width * image.height > max_pixels:
        raise SampleError("too_large", f"{image.width}x{image.height} pixels, at most {max_pixels}")
    return image


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode bytes to an upright RGB picture.

    Returns:
        PIL image, mode RGB, sRGB, EXIF orientation applied, alpha composed on white.

    Raises:
        SampleError: "empty", "not_image", "too_large" or "truncated".
    """
    return load_rgb(open_image(data, max_pixels))


def decode_reduced(data: bytes, side_px: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode bytes to an upright RGB picture that is large enough to be resized to `side_px`.

    A JPEG is reduced by 2, 4 or 8 inside its inverse DCT, to sides of at least 1.5 times `side_px`;
    every other format is decoded in full.

    Raises:
        SampleError: as `decode_image`.
    """
    image = open_image(data, max_pixels)
    least = math.ceil(REDUCING_GAP * side_px)
    image.draft(None, (least, least))
    return load_rgb(image)


def load_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened picture to upright RGB.

    Raises:
        SampleError: "truncated".
    """
    with naming_faults("truncated"):
        image.load()
        _turn_upright(image)
        return to_rgb(image)


@contextlib.contextmanager
def naming_faults(status: str) -> Generator[None]:
    """Turn what PIL's parsers raise on damaged files into a sample's failure.

    Only what reads and converts a picture may stand inside: a TypeError there is the file's fault.

    Raises:
        SampleError: with the status, or "too_large" for PIL's own bound.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs: our own bound decides; "corrupt EXIF data"
            yield
    except SampleError:
        raise
    except Image.DecompressionBombError as error:
        raise SampleError("too_large", str(error)) from error
    except PIL_FAULTS as error:
        raise SampleError(status, _brief(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL mode to RGB in sRGB: palette, CMYK, alpha, 16-bit, grey."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    icc = image.info.get("icc_profile")
    if image.mode in ("RGBA", "LA"):
        rgba = image.convert("RGBA")
        base = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(base, rgba).convert("RGB")
    if icc:
        image = _to_srgb(image, icc)
    return image if image.mode == "RGB" else image.convert("RGB")


def resize_cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize so that the picture covers (height, width), then crop the centre.

    Source: Lanczos with antialiasing over the crop box in one pass, PIL `Image.resize(box=...)`.
    """
    top, left, crop_height, crop_width = cover_box(image.height, image.width, height, width)
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def resize_box(
    image: Image.Image,
    box: tuple[float, float, float, float],
    height: int,
    width: int,
    filter_name: str = "lanczos",
) -> Image.Image:
    """Resize a window of a picture, in one pass, with antialiasing.

    Args:
        image: the picture.
        box: (top, left, height, width) of the window, pixels; the filter may look beyond it.
        height: of the result, pixels.
        width: likewise.
        filter_name: one of `FILTERS`.
    """
    top, left, box_height, box_width = box
    # Rounding may push the window a hair over the edge, which PIL refuses.
    bottom, right = min(top + box_height, image.height), min(left + box_width, image.width)
    return image.resize((width, height), FILTERS[filter_name], box=(left, top, right, bottom))


def resize_min_side(image: Image.Image, side_px: int, height: int, width: int) -> Image.Image:
    """Resize a picture of (height, width) so that its shorter side has `side_px`.

    Args:
        image: the picture, perhaps decoded smaller than it is.
        side_px: at most the shorter of `height` and `width`.
        height: of the whole picture, so that the aspect does not hang on the decoding.
        width: likewise.

    Source: Hamming is, by PIL's documentation, as sharp as bicubic when scaling down at the cost of
    bilinear.
    """
    return image.resize(min_side_size(side_px, height, width), Image.Resampling.HAMMING)


def min_side_size(side_px: int, height: int, width: int) -> tuple[int, int]:
    """Give the (width, height) of a picture of (height, width) whose shorter side gets `side_px`.

    Source: img2dataset's mode keep_ratio.
    """
    scale = side_px / min(height, width)
    return max(side_px, round(width * scale)), max(side_px, round(height * scale))


def shrink(image: Image.Image, side_px: int) -> Image.Image:
    """Resize so that the longest side has at most `side_px`; a smaller picture stays as it is.

    Source of the reducing gap: PIL's documentation of Image.resize, 3.0 is "almost
    indistinguishable" from a full resize, and several times faster on large pictures.
    """
    scale = side_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def cover_box(
    source_height: int, source_width: int, height: int, width: int
) -> tuple[float, float, float, float]:
    """Find the centred crop of the source that has the target's aspect.

    Returns:
        (top, left, height, width) in source pixels.
    """
    scale = min(source_height / height, source_width / width)
    # Rounding may push the box a hair over the edge, which PIL refuses.
    crop_height = min(height * scale, source_height)
    crop_width = min(width * scale, source_width)
    top, left = (source_height - crop_height) / 2, (source_width - crop_width) / 2
    return top, left, crop_height, crop_width


def to_array(image: Image.Image) -> np.ndarray:
    """Give the pixels: uint8 [H, W, 3]."""
    return np.asarray(image.convert("RGB"))


def encode_image(
    image: Image.Image,
    format: ImageFormat,  # noqa: A002
    quality: int = 95,
    subsampling: str = "4:4:4",
) -> bytes:
    """Encode a picture; PNG and WebP at quality 100 are lossless; `subsampling` is of JPEGs."""
    stream = io.BytesIO()
    if format == "png":
        image.save(stream, "PNG", compress_level=6)
    elif format == "webp":
        image.save(stream, "WEBP", lossless=quality >= 100, quality=quality, method=4)
    else:
        image.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def _turn_upright(image: Image.Image) -> None:
    """Apply EXIF's orientation in place; broken EXIF says none, as browsers have it."""
    with contextlib.suppress(*PIL_FAULTS):
        ImageOps.exif_transpose(image, in_place=True)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Map 16-bit or float grey to 8 bits by its type's full range."""
    values = np.asarray(image)  # [H, W], 2 or 4 bytes
    top = 255.0 if values.max(initial=0) <= 255 else 65535.0
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // max(image.width, 1))
    for start in range(0, len(values), rows):
        strip = values[start : start + rows].astype(np.float64)
        grey[start : start + rows] = np.clip(strip / top * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):  # a broken profile is ignored, as browsers do
        return image
    return converted if converted is not None else image


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
