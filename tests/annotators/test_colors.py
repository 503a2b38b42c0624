import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.colors import (
    GREY_TOLERANCE,
    measure_chroma,
    measure_colorfulness,
    measure_flatness,
    measure_uniformity,
)
from curate.core.seed import make_rng


def make_noise(*shape: int) -> NDArray[np.uint8]:
    return make_rng(1, "noise").integers(0, 256, shape, dtype=np.uint8)


def test_grey_pictures_are_not_colorful() -> None:
    assert measure_colorfulness(np.repeat(make_noise(20, 20, 1), 3, axis=2)) == 0.0


def test_colorfulness_of_one_colour_is_its_distance_from_grey() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200  # rg = 200, yb = 100, no spread
    assert measure_colorfulness(red) == pytest.approx(0.3 * np.hypot(200, 100))


def test_colorfulness_of_two_colours_adds_their_spread() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, :, 0], pixels[1, :, 2] = 255, 255  # red: rg 255, yb 127.5; blue: rg 0, yb -255
    spread = np.hypot(127.5, 191.25)
    assert measure_colorfulness(pixels) == pytest.approx(spread + 0.3 * np.hypot(127.5, 63.75))


def test_colorfulness_is_the_formula_in_floating_point() -> None:
    pixels = make_noise(31, 17, 3)
    red, green, blue = np.moveaxis(pixels.astype(float), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert measure_colorfulness(pixels) == pytest.approx(expected, rel=1e-12)


def test_chroma_is_the_distance_of_the_extreme_channels() -> None:
    pixels = np.array([[[10, 200, 50], [7, 7, 7]], [[255, 0, 0], [0, 9, 3]]], np.uint8)
    assert measure_chroma(pixels).tolist() == [[190, 0], [255, 9]]


def test_a_grey_picture_saved_as_colour_jpeg_stays_grey() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.repeat(make_noise(64, 64, 1), 3, axis=2)).save(stream, "JPEG", quality=60)
    with Image.open(stream) as image:
        assert measure_chroma(np.asarray(image)).max() <= GREY_TOLERANCE


def test_flatness_is_the_share_of_the_most_common_colour() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:3] = (200, 10, 90)
    assert measure_flatness(pixels) == pytest.approx(0.7)


def test_flatness_tells_colours_of_equal_luminance_apart() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0], pixels[1] = (0, 0, 255), (0, 255, 0)
    assert measure_flatness(pixels) == 0.5


def test_uniformity_counts_noise_about_one_colour_as_that_colour() -> None:
    pixels = (make_noise(50, 50, 3) % 9) + np.uint8(124)  # 124..132, over the edge of a bin at 128
    assert measure_uniformity(pixels) == 1.0
    assert measure_flatness(pixels) < 0.5


def test_uniformity_is_the_share_near_the_median() -> None:
    pixels = np.full((10, 10, 3), 200, np.uint8)
    pixels[0, :4, 1] = 100
    assert measure_uniformity(pixels) == pytest.approx(0.96)
