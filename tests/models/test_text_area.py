import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curate.core.errors import ModelError
from curate.models.packs import ModelRef, load_pack

pytest.importorskip("rapidocr")

from curate.models.text_area import (
    TextAreaModel,
    is_line,
    load_text_area,
    quad_frac,
    reading_order,
    union_frac,
)


@pytest.fixture(scope="module")
def measure() -> TextAreaModel:
    return load_text_area(load_pack("offline")["text_area"])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def write_lines(image: Image.Image, num_lines: int) -> Image.Image:
    font_file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"
    font = ImageFont.truetype(str(font_file), image.height // 12)
    image = image.copy()
    for line in range(num_lines):
        place = (image.width // 20, (line + 0.5) * image.height / 7)
        ImageDraw.Draw(image).text(
            place, "SUMMER SALE 50 %", "white", font, stroke_width=2, stroke_fill="black"
        )
    return image


def box(left: float, top: float, width: float, height: float) -> np.ndarray:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_a_photograph_without_text_has_little(measure: TextAreaModel) -> None:
    (frac,) = measure([portrait()])
    assert frac < 0.12  # the rows of ribbons on the uniform are taken for two lines


def test_more_lines_cover_more(measure: TextAreaModel) -> None:
    none, one, four = measure([write_lines(portrait(), num_lines) for num_lines in (0, 1, 4)])
    assert none + 0.04 < one < four
    assert 0.2 < four < 0.8


def test_size_hardly_matters(measure: TextAreaModel) -> None:
    image = write_lines(portrait(), 3)
    large = image.resize((3 * image.width, 3 * image.height), Image.Resampling.BICUBIC)
    first, second = measure([image, large])
    assert first == pytest.approx(second, rel=0.1)


def test_lines_are_found_where_they_were_drawn(measure: TextAreaModel) -> None:
    image = Image.new("RGB", (400, 300), "white")
    font = ImageFont.load_default(24)
    drawn = [(150, 200), (20, 100), (250, 104)]  # the last two side by side
    for x, y in drawn:
        ImageDraw.Draw(image).text((x, y), "harbour", "black", font)
    found = measure.find_lines(image)
    corners = [tuple(box[0] * (400, 300)) for box in found.boxes]  # top left
    assert corners == [pytest.approx(drawn[index], abs=8) for index in (1, 2, 0)]
    assert found.frac == pytest.approx(sum(quad_frac(box) for box in found.boxes), abs=0.01)
    assert measure([image])[0] == np.float32(found.frac)


def test_a_picture_without_text_has_no_lines(measure: TextAreaModel) -> None:
    found = measure.find_lines(Image.new("RGB", (64, 64), "gray"))
    assert found.boxes.shape == (0, 4, 2)
    assert found.frac == 0.0


def test_one_large_shape_is_no_text(measure: TextAreaModel) -> None:
    image = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(image).polygon([(60, 330), (200, 40), (340, 330)], fill="black")
    assert measure([image])[0] == 0.0


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (900, 3), (3, 900)])
def test_the_smallest_and_thinnest_pictures_are_taken(
    measure: TextAreaModel, size: tuple[int, int]
) -> None:
    assert 0.0 <= measure([Image.new("RGB", size, "gray")])[0] <= 1.0


def test_the_detector_says_nothing(
    measure: TextAreaModel, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        measure([Image.new("RGB", (64, 64), "white")])
    assert capfd.readouterr() == ("", "")


def test_overlapping_boxes_count_once() -> None:
    boxes = [box(0, 0, 9, 9), box(0, 0, 9, 9), box(50, 50, 9, 9)]
    assert union_frac(boxes, 100, 100) == pytest.approx(0.02)


def test_no_boxes_cover_nothing() -> None:
    assert union_frac([], 10, 20) == 0.0


@pytest.mark.parametrize(
    ("width", "height", "counts"),
    [(30, 25, True), (30, 26, False), (90, 45, True), (90, 46, False), (99, 50, False)],
)
def test_lines_are_low_or_long(width: int, height: int, counts: bool) -> None:
    assert is_line(box(0, 0, width, height), 100) == counts


def test_a_line_may_stand_upright() -> None:
    assert is_line(box(0, 0, 30, 90), 100)


def test_reading_goes_by_rows_and_a_tall_box_swallows_no_row() -> None:
    tall, left, right, below = (
        box(0, 0, 10, 200),
        box(20, 50, 60, 20),
        box(90, 45, 60, 20),
        box(20, 90, 60, 20),
    )
    order = reading_order([below, right, tall, left])
    assert order == [3, 1, 0, 2] or order == [3, 1, 2, 0]


def test_the_area_of_a_slanted_quadrilateral_is_exact() -> None:
    diamond = np.array([[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]], np.float32)
    assert quad_frac(diamond) == pytest.approx(0.5)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="kind must be 'rapidocr', got 'other'"):
        load_text_area(ModelRef(kind="other", paths=(Path("x"),)))


def test_a_missing_file_is_named_and_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"PP-OCRv6_det_small\.onnx: must exist"):
        load_text_area(ModelRef(kind="rapidocr", paths=(tmp_path,)))
