from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from curate.annotators.annotator import Batch
from curate.annotators.pixels import (
    DETAIL_SIDE_PX,
    Pixels,
    measure_entropy,
    measure_light,
    measure_pixels,
    measure_sharpness,
)
from curate.core.seed import make_rng


def make_noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(make_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def histogram(*levels: int) -> Any:
    return np.bincount(levels, minlength=256)


def test_size_columns_are_of_the_full_picture() -> None:
    found = measure_pixels(Image.new("RGB", (1500, 600)))
    assert (found["width"], found["height"], found["min_side_px"]) == (1500, 600, 600)
    assert found["aspect"] == 2.5
    assert found["megapixels"] == pytest.approx(0.9)


def test_aspect_does_not_tell_tall_from_wide() -> None:
    tall, wide = Image.new("RGB", (10, 30)), Image.new("RGB", (30, 10))
    assert measure_pixels(tall)["aspect"] == measure_pixels(wide)["aspect"] == 3.0


def test_a_blank_picture_has_no_entropy_contrast_or_detail() -> None:
    found = measure_pixels(Image.new("RGB", (64, 64), "white"))
    assert (found["entropy"], found["contrast"], found["blur"]) == (0.0, 0.0, 0.0)
    assert (found["brightness"], found["colorfulness"]) == (255.0, 0.0)
    assert found["flat_frac"] == found["uniform_frac"] == found["grey_frac"] == 1.0
    assert found["border_frac"] == 1.0


def test_entropy_of_two_equal_halves_is_one_bit() -> None:
    assert measure_entropy(histogram(0, 255, 0, 255)) == pytest.approx(1.0)


def test_entropy_of_all_levels_is_eight_bits() -> None:
    assert measure_entropy(np.ones(256, np.int64)) == pytest.approx(8.0)


def test_light_is_mean_and_standard_deviation_of_the_levels() -> None:
    levels = make_rng(2, "levels").integers(0, 256, 1000)
    assert measure_light(histogram(*levels)) == pytest.approx((levels.mean(), levels.std()))


def test_contrast_of_black_and_white_halves_is_the_largest() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    assert measure_pixels(Image.fromarray(pixels))["contrast"] == pytest.approx(127.5)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.zeros((5, 5), np.uint8)
    grey[2, 2] = 10  # Laplacian inside: 0 10 0 / 10 -40 10 / 0 10 0, mean 0
    assert measure_sharpness(grey) == pytest.approx((4 * 10**2 + 40**2) / 9)


def test_blurring_lowers_sharpness() -> None:
    sharp = make_noise(64, 64)
    blurred = sharp.filter(ImageFilter.GaussianBlur(2))
    assert measure_pixels(blurred)["blur"] < 0.05 * measure_pixels(sharp)["blur"]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (2000, 1)])
def test_the_smallest_and_thinnest_pictures_are_measured(size: tuple[int, int]) -> None:
    found = measure_pixels(Image.new("RGB", size, "red"))
    assert all(np.isfinite(value) for value in found.values())
    assert found["border_frac"] == 1.0
    assert found["grey_frac"] == 0.0


def test_quality_of_a_large_copy_compares_with_the_original() -> None:
    small = make_noise(32, 32).resize((DETAIL_SIDE_PX, DETAIL_SIDE_PX), Image.Resampling.BICUBIC)
    side = 4 * DETAIL_SIDE_PX
    one, other = measure_pixels(small), measure_pixels(small.resize((side, side)))
    for column in ("blur", "contrast", "entropy", "brightness", "colorfulness", "chroma"):
        assert other[column] == pytest.approx(one[column], rel=0.15), column


def test_a_letterboxed_picture_shows_its_bars() -> None:
    image = Image.new("RGB", (1000, 800), "black")
    image.paste(make_noise(600, 1000), (0, 100))
    found = measure_pixels(image)
    assert found["border_top"] == pytest.approx(0.125, abs=0.004)
    assert found["border_bottom"] == pytest.approx(0.125, abs=0.004)
    assert found["border_left"] == found["border_right"] == 0.0
    assert found["border_frac"] == pytest.approx(0.25, abs=0.008)


def test_the_annotator_gives_every_column_for_every_sample() -> None:
    annotator = Pixels()
    batch = Batch(
        keys=["a", "b"], images=[make_noise(9, 7), make_noise(5, 5)], captions=["", ""], columns={}
    )
    found = annotator(batch)
    assert set(found) == set(annotator.columns)
    assert list(found["pixels.height"]) == [9, 5]
    for name, values in found.items():
        assert pa.array(list(values), annotator.columns[name]).null_count == 0
