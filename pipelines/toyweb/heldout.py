"""Draw what evaluation uses: prompts and pictures of scenes that no other split has.

A site holds copies of some of the benchmark's pictures, and other benchmark prompts as alt texts,
so that decontamination has something to find.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.seed import make_rng
from pipelines.toyweb.scene import Scene, describe, random_split_scene, render

Pixels = NDArray[np.uint8]

BENCHMARK_SIDE_PX = 192
NUM_BENCHMARK = 64  # benchmark pictures that a site's copies are taken from
NUM_PROMPTS = 192  # of the benchmark; the first 64 are those of its pictures
PICTURES_FOLDER, PROMPTS_FILE = "pictures", "prompts.txt"


class HeldoutPrompt(NamedTuple):
    """Name a held-out scene and the detailed caption that asks a model for it."""

    key: str
    prompt: str
    scene: Scene


class BenchmarkPicture(NamedTuple):
    """Hold a held-out picture; `pixels` is [H, W, 3], uint8."""

    key: str
    caption: str
    pixels: Pixels


def heldout_prompts(seed: int, n: int, max_objects: int = 3) -> list[HeldoutPrompt]:
    """Draw `n` distinct held-out scenes of 1..max_objects objects with their detailed captions.

    The first prompts do not depend on `n`.
    """
    prompts: list[HeldoutPrompt] = []
    seen: set[str] = set()
    rng = make_rng(seed, "heldout prompts", max_objects)
    while len(prompts) < n:
        scene = random_split_scene(rng, "heldout", max_objects)
        prompt = describe(scene)
        if prompt not in seen:
            seen.add(prompt)
            prompts.append(HeldoutPrompt(f"heldout{len(prompts):05d}", prompt, scene))
    return prompts


def write_benchmark(seed: int, folder: Path) -> None:
    """Write the benchmark as a user has one: `pictures/KEY.png` and `prompts.txt`, one a line."""
    pictures = folder / PICTURES_FOLDER
    pictures.mkdir(parents=True, exist_ok=True)
    for picture in benchmark_pictures(seed):
        Image.fromarray(picture.pixels).save(pictures / f"{picture.key}.png")
    lines = [f"{item.prompt}\n" for item in benchmark_prompts(seed)]
    (folder / PROMPTS_FILE).write_text("".join(lines), encoding="utf-8")


@cache
def benchmark_prompts(seed: int) -> tuple[HeldoutPrompt, ...]:
    """Draw the benchmark's 192 prompts, those of its 64 pictures first."""
    return tuple(heldout_prompts(seed, NUM_PROMPTS))


def benchmark_pictures(seed: int) -> Iterator[BenchmarkPicture]:
    """Draw all 64 benchmark pictures; a site of the same seed has copies of some."""
    for index in range(NUM_BENCHMARK):
        yield benchmark_picture(seed, index)


def benchmark_prompt(seed: int, index: int) -> HeldoutPrompt:
    """Look up one of the benchmark's 192 prompts."""
    return benchmark_prompts(seed)[index]


def benchmark_picture(seed: int, index: int) -> BenchmarkPicture:
    """Draw one of the first 64 benchmark pictures, a square of 192 px."""
    prompt = benchmark_prompt(seed, index)
    jitter = make_rng(seed, "benchmark", index)
    pixels = render(prompt.scene, BENCHMARK_SIDE_PX, BENCHMARK_SIDE_PX, jitter=jitter)
    return BenchmarkPicture(prompt.key, prompt.prompt, pixels)
