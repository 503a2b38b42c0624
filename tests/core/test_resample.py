from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.resample import average_area, fit_within, sum_area
from curate.core.seed import make_rng


def make_noise(*shape: int) -> NDArray[np.uint8]:
    return make_rng(1, "noise").integers(0, 256, shape, dtype=np.uint8)


def average_by_fractions(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Average by the definition, cell by cell, in rational numbers."""
    rows, columns = pixels.shape
    out = np.empty((height, width), np.uint8)
    for i, j in np.ndindex(height, width):
        mean = Fraction(0)
        for y, x in np.ndindex(rows, columns):
            tall = min(Fraction(i + 1, height), Fraction(y + 1, rows)) - max(
                Fraction(i, height), Fraction(y, rows)
            )
            wide = min(Fraction(j + 1, width), Fraction(x + 1, columns)) - max(
                Fraction(j, width), Fraction(x, columns)
            )
            if tall > 0 and wide > 0:
                mean += tall * wide * int(pixels[y, x]) * height * width
        out[i, j] = mean + Fraction(1, 2)  # whole part: rounds half up
    return out


@pytest.mark.parametrize(
    ("size", "grid"),
    [((7, 11), (3, 4)), ((5, 3), (8, 9)), ((1, 1), (2, 3)), ((6, 6), (6, 6)), ((40, 2), (1, 5))],
)
def test_cells_are_exact_means_rounded_half_up(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    pixels = make_noise(*size)
    assert (average_area(pixels, *grid) == average_by_fractions(pixels, *grid)).all()


def test_a_half_is_rounded_up() -> None:
    pixels = np.array([[1, 2], [254, 255]], np.uint8)
    assert average_area(pixels, 2, 1).tolist() == [[2], [255]]


def test_channels_are_averaged_apart() -> None:
    pixels = make_noise(67, 101, 3)
    found = average_area(pixels, 20, 13)
    for channel in range(3):
        assert (found[..., channel] == average_area(pixels[..., channel].copy(), 20, 13)).all()


def test_the_extremes_of_a_large_picture_stay_exact() -> None:
    white = np.full((3000, 2000), 255, np.uint8)
    assert (sum_area(white, 7, 9) == 255 * 3000 * 2000).all()
    assert (average_area(white, 1, 1) == 255).all()


def test_sums_do_not_depend_on_how_lines_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make_noise(301, 203, 3)
    first = sum_area(pixels, 32, 45)
    for lines in (1, 7, 1000):
        monkeypatch.setattr("curate.core.resample._ROWS_AT_ONCE", lines)
        monkeypatch.setattr("curate.core.resample._COLUMNS_AT_ONCE", lines + 3)
        assert (sum_area(pixels, 32, 45) == first).all()


def test_pictures_taller_than_float32_holds_are_summed_exactly() -> None:
    tall = make_noise(70_000, 1)
    assert 255 * len(tall) > 2**24
    assert sum_area(tall, 1, 1)[0, 0] == int(tall.sum(dtype=np.int64))


def test_the_finest_grid_gives_the_picture_back() -> None:
    pixels = make_noise(33, 65, 3)
    assert (average_area(pixels, 33, 65) == pixels).all()


def test_fitting_keeps_the_form_and_never_enlarges() -> None:
    assert fit_within(1024, 2048, 512) == (256, 512)
    assert fit_within(2, 5000, 512) == (1, 512)
    assert fit_within(50, 100, 512) == (50, 100)
    assert fit_within(3, 2, 2) == (2, 1)
