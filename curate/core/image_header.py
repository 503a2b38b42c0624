"""Read what a picture says of itself before any pixel is decoded, and hold it against budgets.

    bytes -> read_header: format, mode, size, frames (microseconds) -> verify_pixels: all data read

A JPEG is verified at an eighth of its size: the whole entropy-coded stream is read, as in a full
decode, and 1/64 of the pixels are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from curate.core.errors import SampleError
from curate.core.image import (
    FORMATS,
    MAX_PIXELS,
    PIL_FAULTS,
    load_rgb,
    naming_faults,
    open_image,
)

MAX_FRAMES = 1000
"""Most frames of an animation; chosen by us: a minute at 16 frames a second. Only the first is
ever decoded, the others cost bytes."""

_ORIENTATION_TAG = 0x0112  # Source: EXIF 2.32, table 4
_TIFF_SIZE_TAGS = (0x0100, 0x0101)  # Source: TIFF 6.0, section 3: ImageWidth, ImageLength
_UPRIGHT = 1
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_DCT_SCALE = 8  # libjpeg's largest reduction

# Source: GIF89a specification, sections 18 to 25.
_GIF_EXTENSION, _GIF_IMAGE, _GIF_HEADER_BYTES = 0x21, 0x2C, 13
# Chosen by us: 255 MB of full data blocks, or a file made of empty ones that is walked in 0.1 s.
_MAX_GIF_BLOCKS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Hold what a picture's header says.

    Args:
        format: member extension, e.g. "jpg".
        mode: of the stored pixels, in PIL's names: "RGB", "P", "CMYK", "I;16", ...
        width, height: upright, in pixels.
        frames: of an animation; 1 for a still.
        plain: it is shown as its pixels stand: no EXIF orientation turns it, no profile colours it.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int
    plain: bool


def read_header(data: bytes, max_pixels: int = MAX_PIXELS, max_frames: int = MAX_FRAMES) -> Header:
    """Read a picture's header and refuse what is over a budget; no pixel is decoded.

    Raises:
        SampleError: "empty", "not_image", "too_large", "unsupported_format" or "too_many_frames".
    """
    image = open_image(data, max_pixels)
    orientation = _orientation(image, data)
    width, height = _upright_size(image, orientation)
    mode = image.mode
    extension = FORMATS.get(image.format or "")
    if extension is None:
        raise SampleError("unsupported_format", image.format or "unknown")
    with naming_faults("not_image"):
        frames = _count_frames(image, data, max_frames)
    if frames > max_frames:
        raise SampleError("too_many_frames", f"more than {max_frames} frames")
    return Header(
        format=extension,
        mode=mode,
        width=width,
        height=height,
        frames=frames,
        plain=orientation == _UPRIGHT and not image.info.get("icc_profile"),
    )


def verify_pixels(data: bytes, header: Header) -> None:
    """Decode all of a picture's first frame, a JPEG at an eighth of its size, and drop the pixels.

    Args:
        data: the picture.
        header: what `read_header` gave for it.

    Raises:
        SampleError: "truncated".
    """
    image = open_image(data, header.width * header.height)
    if header.format == "jpg":
        image.draft(None, (image.width // _DCT_SCALE, image.height // _DCT_SCALE))
    load_rgb(image)


def _orientation(image: Image.Image, data: bytes) -> object:
    """Read EXIF's orientation, 1 to 8; broken files say other things, or nothing: upright."""
    try:
        with naming_faults("not_image"):
            return _read_exif(image, data).get(_ORIENTATION_TAG, _UPRIGHT)
    except SampleError:  # as in decoding
        return _UPRIGHT


def _upright_size(image: Image.Image, orientation: object) -> tuple[int, int]:
    """Give (width, height) as they are shown."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # some Pillows turn its size already
        width, height = (int(image.tag_v2[tag]) for tag in _TIFF_SIZE_TAGS)
    return (height, width) if orientation in _TURNED else (width, height)


def _read_exif(image: Image.Image, data: bytes) -> Image.Exif:
    """Read the EXIF tags; a PNG is decoded only where they stand behind its pixels."""
    if image.format == "PNG" and ("exif" in image.info or b"eXIf" not in data):
        return Image.Image.getexif(image)  # PngImageFile's own decodes first
    return image.getexif()


def _count_frames(image: Image.Image, data: bytes, at_most: int) -> int:
    """Count frames without decoding one; a number above `at_most` means more than that."""
    if image.format == "GIF":  # PIL would decode frame by frame
        return _count_gif_frames(data, at_most)
    if image.format == "TIFF":
        return _count_tiff_frames(image, at_most)
    return int(getattr(image, "n_frames", 1))  # from the header


def _count_tiff_frames(image: Image.Image, at_most: int) -> int:
    """Follow a TIFF's directories one by one: their chain may be endless."""
    for frame in range(1, at_most + 1):
        try:
            image.seek(frame)
        except PIL_FAULTS:  # the end, or decoding names the fault
            return frame
    return at_most + 1


def _count_gif_frames(data: bytes, at_most: int) -> int:
    """Walk a GIF's blocks and count its images; stops where the file is cut."""
    position = _GIF_HEADER_BYTES + _color_table_bytes(data[10:11])
    frames = blocks = 0
    while position < len(data) and frames <= at_most:
        kind = data[position]
        if kind == _GIF_IMAGE:
            frames += 1
            position += 11 + _color_table_bytes(data[position + 9 : position + 10])
        elif kind == _GIF_EXTENSION:
            position += 2
        else:
            break
        while position < len(data) and data[position]:
            position += data[position] + 1
            blocks += 1
            if blocks > _MAX_GIF_BLOCKS:
                raise SampleError("too_many_frames", f"more than {_MAX_GIF_BLOCKS} data blocks")
        position += 1
    return max(frames, 1)


def _color_table_bytes(flags: bytes) -> int:
    """Give the size of the color table that a GIF's flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
