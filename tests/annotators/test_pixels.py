import numpy as np
import pytest
from PIL import Image, ImageFilter

from curate.annotators.pixels import (
    PROXY_SIDE_PX,
    measure_entropy,
    measure_flatness,
    measure_pixels,
    measure_sharpness,
    shrink,
)
from curate.annotators.table import Batch
from curate.core.seed import make_rng


def make_noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(make_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


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
    assert found["flat_frac"] == 1.0


def test_entropy_of_two_equal_halves_is_one_bit() -> None:
    assert measure_entropy(np.array([[0, 255], [0, 255]], np.uint8)) == pytest.approx(1.0)


def test_entropy_of_all_levels_is_eight_bits() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert measure_entropy(levels) == pytest.approx(8.0)


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


def test_flatness_is_the_share_of_the_most_common_colour() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:3] = (200, 10, 90)
    assert measure_flatness(pixels) == pytest.approx(0.7)


def test_flatness_tells_colours_of_equal_luminance_apart() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0], pixels[1] = (0, 0, 255), (0, 255, 0)
    assert measure_flatness(pixels) == 0.5


def test_shrinking_keeps_the_form_and_never_enlarges() -> None:
    assert shrink(Image.new("RGB", (2048, 1024)), 512).size == (512, 256)
    assert shrink(Image.new("RGB", (5000, 2)), 512).size == (512, 1)
    assert shrink(Image.new("RGB", (100, 50)), 512).size == (100, 50)


def test_quality_of_a_large_copy_compares_with_the_original() -> None:
    small = make_noise(32, 32).resize((PROXY_SIDE_PX, PROXY_SIDE_PX), Image.Resampling.BICUBIC)
    large = small.resize((4 * PROXY_SIDE_PX, 4 * PROXY_SIDE_PX), Image.Resampling.BICUBIC)
    one, other = measure_pixels(small), measure_pixels(large)
    assert other["blur"] == pytest.approx(one["blur"], rel=0.15)
    assert other["contrast"] == pytest.approx(one["contrast"], rel=0.02)


def test_the_annotator_gives_every_column_for_every_sample() -> None:
    from curate.annotators.pixels import Pixels

    annotator = Pixels()
    batch = Batch(
        keys=["a", "b"], images=[make_noise(9, 7), make_noise(5, 5)], captions=["", ""], columns={}
    )
    found = annotator(batch)
    assert set(found) == set(annotator.columns)
    assert list(found["pixels.height"]) == [9, 5]
