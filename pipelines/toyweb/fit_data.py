"""Draw the pictures that the toy model pack is trained on: the web's, from the "fit" split only.

A picture is rendered as the web shows it (any size, jitter, JPEG, WebP, sometimes a watermark or a
text overlay) and then resized to what a network reads. Pictures are kept as uint8 arrays in memory.
Training of the networks is in fit_vae.py, fit_clip.py and fit_heads.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from curate.core.image import resize_cover
from curate.core.seed import make_rng
from pipelines.toyweb.faults import Pixels, draw_text, draw_watermark, encode
from pipelines.toyweb.scene import Scene, Split, random_split_scene, render

# Of the pictures that reach buckets; chosen by us: what a watermark and a text filter let pass.
MARK_FRAC = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPicture:
    """Hold one picture of the web with its truth; `pixels` is [H, W, 3], uint8."""

    scene: Scene
    pixels: Pixels
    has_watermark: bool
    has_text: bool


def compress(pixels: Pixels, image_format: str, quality: int) -> Pixels:
    """Pass pixels through a lossy codec."""
    data = encode(pixels, image_format, quality)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def web_picture(
    rng: np.random.Generator, split: Split = "fit", mark_frac: float = 0.15
) -> WebPicture:
    """Draw one picture as a site would serve it, any size and aspect.

    Sizes, aspects and qualities are chosen by us to span what `site.py` plants.

    Args:
        rng: of all draws.
        split: where the scene comes from.
        mark_frac: share of pictures with a watermark, and of those with a banner of text.
    """
    scene = random_split_scene(rng, split)
    short_side = int(np.exp(rng.uniform(np.log(72), np.log(288))))
    aspect = float(np.exp(rng.uniform(-0.5, 0.5) if rng.random() < 0.6 else 0.0))
    height = int(short_side * max(1.0, 1.0 / aspect))
    width = int(short_side * max(1.0, aspect))
    pixels = render(scene, height, width, jitter=rng if rng.random() < 0.8 else None)
    has_watermark = bool(rng.random() < mark_frac)
    has_text = bool(rng.random() < mark_frac)
    if has_watermark:
        pixels = draw_watermark(pixels, rng)
    if has_text:
        pixels = draw_text(pixels, rng)
    draw = rng.random()
    if draw < 0.5:
        pixels = compress(pixels, "jpeg", int(rng.integers(60, 98)))
    elif draw < 0.7:
        pixels = compress(pixels, "webp", int(rng.integers(60, 98)))
    return WebPicture(scene=scene, pixels=pixels, has_watermark=has_watermark, has_text=has_text)


def web_pictures(
    seed: int, count: int, split: Split, purpose: str, mark_frac: float = 0.15
) -> Iterator[WebPicture]:
    """Draw `count` pictures one by one; equal names give equal pictures."""
    for index in range(count):
        yield web_picture(make_rng(seed, purpose, split, index), split, mark_frac)


def bucket_pictures(
    seed: int, counts: Mapping[tuple[int, int], int], split: Split = "fit"
) -> dict[tuple[int, int], Pixels]:
    """Draw pictures resized to buckets, as the bucket stage would; few are marked, for it filters.

    Args:
        seed: of the draw.
        counts: (height, width) of a bucket to the number of its pictures.
        split: where the scenes come from.

    Returns:
        Per bucket [N, height, width, 3], uint8.
    """
    return {
        (height, width): np.stack(
            [
                np.asarray(resize_cover(Image.fromarray(picture.pixels), height, width))
                for picture in web_pictures(
                    seed, count, split, f"bucket {height}x{width}", MARK_FRAC
                )
            ]
        )
        for (height, width), count in counts.items()
    }
