"""Repeat in small what the oracle's constants were chosen by; the figures are in its report."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from curate.core.seed import make_rng
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.scene import (
    BACKGROUNDS,
    COLORS,
    Scene,
    SceneObject,
    random_scene,
    render,
)

Pixels = NDArray[np.uint8]
Make = Callable[[Scene, np.random.Generator], Pixels]


def num_exact(make: Make, count: int) -> int:
    right = 0
    for index in range(count):
        rng = make_rng(11, "oracle", index)
        scene = random_scene(rng)
        right += read_scene(make(scene, rng)).scene == scene
    return right


def num_readable(make: Make, count: int) -> int:
    rngs = [make_rng(12, "oracle", index) for index in range(count)]
    return sum(read_scene(make(random_scene(rng), rng)).readable for rng in rngs)


def through(codec: str, quality: int, pixels: Pixels) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, codec, quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def any_size(rng: np.random.Generator) -> tuple[int, int]:
    short, aspect = rng.uniform(64, 224), rng.uniform(1, 2)
    sides = (round(short), round(short * aspect))
    return sides if rng.random() < 0.5 else sides[::-1]


@pytest.mark.parametrize("side", [48, 64, 96])
def test_clean_pictures_read_exactly(side: int):
    assert num_exact(lambda scene, rng: render(scene, side, side), 200) == 200


def test_jittered_pictures_of_any_size_read_exactly():
    assert num_exact(lambda scene, rng: render(scene, *any_size(rng), jitter=rng), 200) == 200


@pytest.mark.parametrize("codec", ["JPEG", "WEBP"])
def test_compressed_pictures_read_exactly(codec: str):
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        return through(codec, 75, render(scene, *any_size(rng), jitter=rng))

    assert num_exact(make, 100) == 100


def test_blur_of_a_small_vae_is_survived():
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        pixels = render(scene, 64, 64, jitter=rng).astype(np.float32)
        return gaussian_filter(pixels, (1.2, 1.2, 0)).astype(np.uint8)  # 29 dB

    assert num_exact(make, 200) >= 198


def test_noise_of_26_db_is_survived():
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        noise = rng.normal(0, 255 * 10 ** (-26 / 20), (64, 64, 3))
        return np.clip(render(scene, 64, 64) + noise, 0, 255).astype(np.uint8)

    assert num_exact(make, 200) >= 198


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_background_is_a_scene_without_objects(background: str):
    empty = Scene(objects=(), background=background)
    reading = read_scene(render(empty, 64, 64))
    assert reading.scene == empty
    assert reading.fit == 1.0


@pytest.mark.parametrize("sigma", [0, 1, 3, 6, 12])
def test_coloured_noise_is_unreadable(sigma: float):
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        noise = gaussian_filter(rng.normal(0, 1, (64, 64, 3)), (sigma, sigma, 0))
        middle = rng.choice([18, 128, 240])
        return np.clip(middle + 70 * noise / noise.std(), 0, 255).astype(np.uint8)

    assert num_readable(make, 100) == 0


@pytest.mark.parametrize("patch", [4, 8])
def test_shuffled_patches_are_unreadable(patch: int):
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        grid = 64 // patch
        blocks = render(scene, 64, 64).reshape(grid, patch, grid, patch, 3).swapaxes(1, 2)
        mixed = blocks.reshape(-1, patch, patch, 3)[rng.permutation(grid * grid)]
        mixed = mixed.reshape(grid, grid, patch, patch, 3).swapaxes(1, 2)
        return np.ascontiguousarray(mixed.reshape(64, 64, 3))

    assert num_readable(make, 100) == 0


def test_soft_colour_blobs_are_unreadable():
    def make(scene: Scene, rng: np.random.Generator) -> Pixels:
        y, x = np.mgrid[:64, :64]
        pixels = np.full((64, 64, 3), rng.choice([18, 128, 248]), np.float32)
        for _ in range(5):
            squared = (y - rng.uniform(0, 64)) ** 2 + (x - rng.uniform(0, 64)) ** 2
            alpha = np.exp(-squared / 2 / rng.uniform(4, 9) ** 2)[..., None]
            pixels += alpha * (np.asarray(tuple(COLORS.values()))[rng.integers(6)] - pixels)
        return pixels.astype(np.uint8)

    assert num_readable(make, 100) <= 1


@pytest.mark.parametrize("color", COLORS)
def test_a_picture_all_in_an_object_colour_is_unreadable(color: str):
    assert not read_scene(np.full((64, 64, 3), COLORS[color], np.uint8)).readable


def test_an_object_that_fits_nothing_is_clutter_not_an_object():
    items = [
        SceneObject(shape=shape, color=color, size="large", place=place)
        for shape, color, place in (
            ("circle", "red", "top left"),
            ("square", "blue", "top right"),
            ("cross", "yellow", "bottom left"),
        )
    ]
    scene = Scene(objects=tuple(items), background="white")
    pixels = render(scene, 64, 64)
    pixels[58:61, 44:63] = COLORS["green"]  # a bar in the bottom right cell
    reading = read_scene(pixels)
    assert reading.scene == scene
    assert reading.clutter == 1
    assert 0.6 < reading.fit < 0.95


def test_an_object_between_two_cells_has_no_place():
    scene = Scene(
        objects=(SceneObject(shape="square", color="red", size="large", place="center"),),
        background="black",
    )
    shifted = np.roll(render(scene, 66, 66), 11, axis=1)
    assert not read_scene(shifted).readable


def test_pictures_too_long_or_too_small_are_unreadable():
    assert not read_scene(np.full((2, 2, 3), 248, np.uint8)).readable
    assert not read_scene(np.full((10, 100, 3), 248, np.uint8)).readable
