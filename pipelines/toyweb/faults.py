"""Spoil pictures the way the web does: watermarks, banners, low contrast, odd modes, broken files.

Functions of pixels ([H, W, 3], uint8, RGB) and bytes; which picture gets which fault is decided in
`site.py`. The model pack's trainer uses the same functions on its own split.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

ODD_MODES = ("palette", "cmyk", "alpha", "gray", "deep", "deep_gray")
BOMB_SIDE_PX = 30_000  # 900 million pixels in about 110 KB
_WATERMARKS = ("SAMPLE", "stock photo", "PREVIEW", "(c) toyweb", "photos.test")
_BANNERS = ("SALE 50% OFF", "BUY NOW", "CLICK HERE", "FREE SHIPPING", "BREAKING NEWS")
_ORIENTATION_TAG = 0x0112  # Source: EXIF 2.32, table 4


def draw_watermark(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lay half-transparent letters over a picture: one line, a tiled text or a text on stripes.

    Letters are a seventh of the picture or more, so that they outlast a resize to 64 px, and their
    tone is set against the picture's median.
    """
    height, width, _ = pixels.shape
    short = min(height, width)
    median = float(np.median(pixels))
    dark = median > 150 or (median > 100 and rng.random() < 0.5)
    tone = 40 if dark else 255
    ink = int(rng.integers(110, 190))  # alpha of 255
    text = _WATERMARKS[rng.integers(len(_WATERMARKS))]
    style = rng.integers(3)
    side = round(1.45 * max(height, width))  # a square that covers the picture however turned
    layer = Image.new("L", (side, side))
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(max(8, round(short * float(rng.uniform(0.14, 0.2)))))
    if style == 0:
        draw.text((side / 2, side / 2), text, fill=ink, font=font, anchor="mm")
    else:
        step = round(short * float(rng.uniform(0.3, 0.42)))
        for index, y in enumerate(range(0, side, step)):
            if style == 2:
                draw.line((0, y, side, y), fill=ink, width=max(1, short // 50))
            gap = round(draw.textlength(text + "   ", font=font))
            for x in range(-(index % 2) * gap // 2, side, gap):
                draw.text((x, y + step / 2), text, fill=ink, font=font, anchor="lm")
    turned = layer.rotate(
        float(rng.choice([-1, 1]) * rng.uniform(15, 40)), Image.Resampling.BILINEAR
    )
    top, left = (side - height) // 2, (side - width) // 2
    alpha = turned.crop((left, top, left + width, top + height))
    image = Image.fromarray(pixels)
    image.paste((tone, tone, tone), (0, 0), alpha)
    return _array(image)


def draw_text(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Print one or two opaque banners of letters on a picture."""
    height, width, _ = pixels.shape
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 3))):
        text = _BANNERS[rng.integers(len(_BANNERS))]
        size = max(8, round(min(height, width) * float(rng.uniform(0.13, 0.2))))
        top = round(height * float(rng.uniform(0.0, 0.8)))
        back, ink = (((0, 0, 0), (255, 255, 255)), ((255, 240, 80), (200, 0, 0)))[rng.integers(2)]
        draw.rectangle((0, top, width, top + round(size * 1.3)), fill=back)
        font = ImageFont.load_default(size)
        draw.text((width / 2, top + size * 0.65), text, fill=ink, font=font, anchor="mm")
    return _array(image)


def lower_contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Squeeze all values to within a few percent of their mean, as a broken scan does."""
    mean = pixels.mean()
    return np.clip(mean + (pixels - mean) * rng.uniform(0.02, 0.05), 0, 255).astype(np.uint8)


def reencode(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Rescale and brighten slightly: the near duplicate that another site serves."""
    height, width, _ = pixels.shape
    scale = float(rng.uniform(0.7, 1.2))
    size = (max(48, round(width * scale)), max(48, round(height * scale)))
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return np.clip(resized * rng.uniform(0.95, 1.05) + 0.5, 0, 255).astype(np.uint8)


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut 4 to 10 percent off each axis, at random sides."""
    height, width, _ = pixels.shape
    inner_height = round(height * float(rng.uniform(0.9, 0.96)))
    inner_width = round(width * float(rng.uniform(0.9, 0.96)))
    top = int(rng.integers(0, height - inner_height + 1))
    left = int(rng.integers(0, width - inner_width + 1))
    return np.ascontiguousarray(pixels[top : top + inner_height, left : left + inner_width])


def flip(pixels: Pixels) -> Pixels:
    """Swap left and right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def placeholder() -> Pixels:
    """Draw the card that sites serve for a picture they have lost."""
    image = Image.new("RGB", (160, 120), (204, 204, 204))
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, 155, 115), outline=(150, 150, 150), width=2)
    font = ImageFont.load_default(16)
    for line, text in enumerate(("image no", "longer", "available")):
        draw.text((80, 38 + 22 * line), text, fill=(110, 110, 110), font=font, anchor="mm")
    return _array(image)


def encode(pixels: Pixels, image_format: str, quality: int = 90) -> bytes:
    """Write pixels as "jpeg", "png" or "webp"."""
    return _save(Image.fromarray(pixels), image_format, quality=quality)


def encode_rotated(pixels: Pixels, quality: int) -> bytes:
    """Write a JPEG that lies on its side and says so in its EXIF orientation."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = 6  # "turn 90 degrees clockwise to show"
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    return _save(turned, "jpeg", quality=quality, exif=exif)


def encode_odd_mode(pixels: Pixels, mode: str, background: tuple[int, int, int]) -> bytes:
    """Write a picture in a mode other than 8-bit RGB.

    Args:
        pixels: [H, W, 3], uint8.
        mode: "palette", "cmyk", "alpha" (the background made transparent), "gray", or 16 bits a
            channel, "deep" and "deep_gray".
        background: the colour that "alpha" makes transparent.
    """
    image = Image.fromarray(pixels)
    match mode:
        case "palette":
            return _save(image.quantize(64), "png")
        case "cmyk":
            return _save(image.convert("CMYK"), "jpeg", quality=92)
        case "alpha":
            difference = pixels.astype(np.int16) - np.asarray(background)
            shown = np.abs(difference).max(-1, keepdims=True) > 40
            rgba = np.concatenate([pixels * shown, shown * np.uint8(255)], axis=-1)
            return _save(Image.fromarray(rgba.astype(np.uint8)), "png")
        case "gray":
            return _save(image.convert("L"), "png")
        case "deep":
            return _deep_png(pixels)
        case "deep_gray":
            return _deep_png(np.asarray(image.convert("L"))[..., None])
        case _:
            raise ValueError(f"odd_mode must be one of {ODD_MODES}, got {mode!r}")


@cache
def bomb() -> bytes:
    """Write a valid PNG of 30,000 x 30,000 pixels, 1 bit each."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + BOMB_SIDE_PX // 8)
    packed = b"".join(packer.compress(row * 1000) for _ in range(BOMB_SIDE_PX // 1000))
    return _png(BOMB_SIDE_PX, BOMB_SIDE_PX, 1, 0, packed + packer.flush())


def _deep_png(pixels: Pixels) -> bytes:
    # Pillow writes no 16-bit RGB; 257 = 0x101 maps 255 to 65535.
    height, width, channels = pixels.shape
    deep = (pixels.astype(np.uint16) * 257).astype(">u2").reshape(height, -1)
    rows = b"".join(b"\0" + line.tobytes() for line in deep)
    return _png(height, width, 16, 2 if channels == 3 else 0, zlib.compress(rows))


def _png(height: int, width: int, bit_depth: int, color_type: int, packed: bytes) -> bytes:
    # Source: PNG specification (third edition), 11.2: IHDR, IDAT, IEND.
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _save(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    if image_format == "png":
        options = {"compress_level": 3}  # the size hardly shrinks beyond, the time doubles
    image.save(stream, format=image_format, **options)
    return stream.getvalue()


def _array(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))
