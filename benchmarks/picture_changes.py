"""Change a picture the way the web does: eight changes that leave it the same to a person.

Functions of uint8 [H, W, 3]; all parameters are chosen by us and written here. Only the watermark
draws anything: its text, place and tone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipelines.toyweb.faults import draw_watermark

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]

RESIZE_SCALE = 0.5
JPEG_QUALITY = 30
CROP_FRAC = 0.05  # of each axis, half of it on each side
BORDER_FRAC = 0.04  # of the shorter side, on all four sides, black
STRIP_FRAC = 0.12  # of the height, below the picture, white with black letters
CHANNEL_GAINS = (1.12, 1.0, 0.88)  # of red, green, blue: a warmer white balance


def resize(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Halve both sides by Lanczos."""
    height, width, _ = pixels.shape
    size = (max(8, round(width * RESIZE_SCALE)), max(8, round(height * RESIZE_SCALE)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Go through a JPEG of quality 30, colours at half resolution."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=JPEG_QUALITY)
    return np.asarray(Image.open(stream).convert("RGB"))


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut 5 percent off each axis, around the centre."""
    height, width, _ = pixels.shape
    top, left = round(height * CROP_FRAC / 2), round(width * CROP_FRAC / 2)
    return np.ascontiguousarray(pixels[top : height - top, left : width - left])


def flip(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror left and right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def border(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Put a black frame around the picture."""
    width = max(1, round(min(pixels.shape[:2]) * BORDER_FRAC))
    return np.pad(pixels, ((width, width), (width, width), (0, 0)))


def caption_strip(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Put a line of letters below the picture."""
    height, width, _ = pixels.shape
    strip = max(12, round(height * STRIP_FRAC))
    image = Image.new("RGB", (width, height + strip), (255, 255, 255))
    image.paste(Image.fromarray(pixels), (0, 0))
    place = (width / 2, height + strip / 2)
    font = ImageFont.load_default(max(8, round(strip * 0.5)))
    ImageDraw.Draw(image).text(place, "when you see it", (0, 0, 0), font, anchor="mm")
    return np.asarray(image)


def watermark(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lay half-transparent letters over the picture (the toy web's)."""
    return draw_watermark(pixels, rng)


def color_shift(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Scale the channels as another white balance does."""
    return np.clip(pixels * np.array(CHANNEL_GAINS) + 0.5, 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "resize 50 %": resize,
        "JPEG 30": jpeg,
        "crop 5 %": crop,
        "flip": flip,
        "border 4 %": border,
        "caption strip": caption_strip,
        "watermark": watermark,
        "colour shift": color_shift,
    }
)
"""Changes by the name that tables print."""
