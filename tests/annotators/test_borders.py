import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.borders import TOLERANCE, measure_borders
from curate.core.seed import make_rng


def frame(
    height: int, width: int, top: int, bottom: int, left: int, right: int, level: int = 0
) -> NDArray[np.uint8]:
    """Put noise into a plain frame; its edges differ from the frame by more than the tolerance."""
    pixels = np.full((height, width), level, np.uint8)
    inside = (height - top - bottom, width - left - right)
    noise = make_rng(1, "noise").integers(60, 200, inside, dtype=np.uint8)
    pixels[top : height - bottom, left : width - right] = noise
    return pixels


def sides(pixels: NDArray[np.uint8]) -> list[float]:
    found = measure_borders(pixels)
    return [found.top, found.bottom, found.left, found.right]


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize(
    "bands", [(0, 0, 0, 0), (10, 10, 0, 0), (0, 0, 25, 25), (5, 20, 10, 0), (1, 0, 0, 1)]
)
def test_each_side_is_measured_as_a_share_of_its_own_direction(
    bands: tuple[int, int, int, int], level: int
) -> None:
    top, bottom, left, right = bands
    pixels = frame(100, 200, *bands, level)
    assert sides(pixels) == [top / 100, bottom / 100, left / 200, right / 200]
    inner = (100 - top - bottom) * (200 - left - right) / 20_000
    assert measure_borders(pixels).frac == pytest.approx(1 - inner)


def test_flipping_the_picture_swaps_the_sides() -> None:
    top, bottom, left, right = sides(frame(60, 80, 6, 12, 4, 8))
    assert sides(frame(60, 80, 6, 12, 4, 8)[::-1, ::-1]) == [bottom, top, right, left]


def test_bars_of_different_levels_are_both_seen() -> None:
    pixels = frame(100, 100, 10, 10, 0, 0)
    pixels[-10:] = 255
    pixels[10:90, :20] = 30
    assert sides(pixels) == [0.1, 0.1, 0.2, 0.0]


def test_a_band_ends_where_its_levels_leave_the_tolerance() -> None:
    ramp = np.repeat(np.arange(0, 200, dtype=np.uint8)[:, None], 10, axis=1)
    ramp[:, 5] += 40  # no line is plain, so no column band hides the rows
    ramp[: TOLERANCE + 1, 5] -= 40
    assert measure_borders(ramp).top == (TOLERANCE + 1) / 200


def test_a_blank_picture_is_all_border_and_symmetric() -> None:
    found = measure_borders(np.full((30, 40), 77, np.uint8))
    assert (found.top, found.bottom, found.left, found.right) == (0.5, 0.5, 0.0, 0.0)
    assert found.frac == 1.0


def test_two_plain_halves_are_a_picture_and_no_frame() -> None:
    halves = np.zeros((20, 30), np.uint8)
    halves[10:] = 255
    assert measure_borders(halves).frac == 0.0
    assert measure_borders(halves.T.copy()).frac == 0.0


def test_a_single_line_of_detail_is_inside() -> None:
    pixels = np.zeros((21, 30), np.uint8)
    pixels[10, ::2] = 255
    found = measure_borders(pixels)
    assert (found.top, found.bottom) == (10 / 21, 10 / 21)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_bars_survive_jpeg(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(frame(320, 480, 40, 40, 0, 0)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        found = measure_borders(np.asarray(image))
    assert found.top == pytest.approx(0.125, abs=0.02)
    assert found.bottom == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_pictures_of_a_few_pixels_have_a_share_between_0_and_1(size: tuple[int, int]) -> None:
    noise = make_rng(2, "noise").integers(0, 256, size, dtype=np.uint8)
    assert 0 <= measure_borders(noise).frac <= 1
