"""Draw the pictures that the toy captioner is trained on and measured with.

The way of a picture: scene -> rendered with jitter at a web size -> maybe a watermark -> encoded
and decoded as JPEG, WebP or PNG -> maybe cut as bucket cuts it, for recaption shows what is trained
on -> the image processor's 72x72 input, kept as uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import Idefics3Processor

from curate.core.seed import make_rng
from pipelines.toyweb.faults import draw_watermark
from pipelines.toyweb.fit_data import compress
from pipelines.toyweb.scene import BACKGROUNDS, Scene, random_split_scene, render
from pipelines.toyweb.toy_captioner import SIDE_PX

# Chosen by us: enough for a blank picture not to be given objects. There are only three such
# scenes, and `random_scene` draws none of them, so no evaluation meets them.
EMPTY_FRAC = 0.01
# Chosen by us: of 600 pictures as sites serve them the demo's bucket cuts 327, by a fifth at most
# (its max_crop_frac), so a quarter has some room. Objects at the edges are cut through, not off.
CUT_FRAC, MAX_LOST_FRAC = 0.5, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Hold scenes and their pictures as the image processor hands them on, before normalising."""

    pixels: NDArray[np.uint8]  # [N, 3, SIDE_PX, SIDE_PX]
    scenes: Sequence[Scene]


def draw_picture(
    scene: Scene,
    rng: np.random.Generator,
    *,
    watermark_frac: float = 0.0,
    cut_frac: float = CUT_FRAC,
) -> Image.Image:
    """Render a scene as the toy web serves it: jitter, varied size and aspect, lossy encoding.

    A wider range than the web's own (fit_data.web_picture), so that no picture is at its edge.

    Args:
        scene: what is shown.
        rng: of all draws.
        watermark_frac: share of pictures with a watermark.
        cut_frac: share of pictures that are cut in the middle, along one axis.
    """
    # Chosen by us: thumbnails to small web pictures, half of them not square with aspect ratios
    # from 1:2.2 to 2.2:1, the qualities that web servers use and some below.
    side = math.exp(rng.uniform(math.log(64), math.log(320)))
    aspect = math.exp(rng.uniform(-0.8, 0.8) * rng.integers(2))
    height, width = round(side * aspect**-0.5), round(side * aspect**0.5)
    pixels = render(scene, height, width, jitter=rng if rng.random() < 0.9 else None)
    if rng.random() < watermark_frac:
        pixels = draw_watermark(pixels, rng)
    image_format = ("JPEG", "JPEG", "WEBP", "PNG")[rng.integers(4)]
    if image_format != "PNG":
        pixels = compress(pixels, image_format, int(rng.integers(40, 97)))
    if rng.random() < cut_frac:
        pixels = _cut(pixels, rng)
    return Image.fromarray(pixels)


def make_pictures(
    processor: Idefics3Processor, count: int, seed: int, *, watermark_frac: float
) -> Pictures:
    """Draw pictures of the "fit" split at the model's input size."""
    pixels = np.empty((count, 3, SIDE_PX, SIDE_PX), np.uint8)
    scenes: list[Scene] = []
    for index in range(count):
        rng = make_rng(seed, "captioner", "fit", index)
        is_empty = rng.random() < EMPTY_FRAC
        scenes.append(_empty_scene(rng) if is_empty else random_split_scene(rng, "fit"))
        picture = draw_picture(scenes[-1], rng, watermark_frac=watermark_frac)
        values = processor.image_processor(picture, return_tensors="np")["pixel_values"]
        pixels[index] = np.rint((values[0, 0] * 0.5 + 0.5) * 255)
    return Pictures(pixels=pixels, scenes=scenes)


def _cut(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut alike off both ends of one axis."""
    axis = int(rng.integers(2))
    lost = round(pixels.shape[axis] * rng.uniform(0, MAX_LOST_FRAC) / 2)
    kept = slice(lost, pixels.shape[axis] - lost)
    return pixels[kept] if axis == 0 else pixels[:, kept]


def _empty_scene(rng: np.random.Generator) -> Scene:
    return Scene(objects=(), background=tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])
