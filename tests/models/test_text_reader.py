"""Text drawn by PIL is read back; the limits are those that text_reader.py states."""

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curate.core.errors import ModelError
from curate.models.packs import ModelRef, load_pack

pytest.importorskip("rapidocr")

from curate.models import text_reader
from curate.models.text_area import TextAreaModel, load_text_area
from curate.models.text_reader import TextReader, load_text_reader

NO_BOXES = np.empty((0, 4, 2), np.float32)


@pytest.fixture(scope="module")
def detector() -> TextAreaModel:
    return load_text_area(load_pack("offline")["text_area"])


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return load_text_reader(load_pack("offline")["ocr"])


def draw(*lines: str, size_px: int = 28, color: str = "black") -> Image.Image:
    image = Image.new("RGB", (420, 300), (190, 205, 220))
    font = ImageFont.load_default(size_px)
    for index, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 30 + 3 * size_px * index), line, color, font)
    return image


def read(image: Image.Image, detector: TextAreaModel, reader: TextReader) -> list[str]:
    return [line.text for line in reader.read(image, detector.find_lines(image).boxes)]


@pytest.mark.parametrize("size_px", [14, 20, 28, 40])
def test_words_are_read_as_drawn(detector: TextAreaModel, reader: TextReader, size_px: int) -> None:
    image = draw("Summer Sale", "Buy 2 now", size_px=size_px)
    assert read(image, detector, reader) == ["Summer Sale", "Buy 2 now"]


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_text_on_its_side_or_head_is_read(
    detector: TextAreaModel, reader: TextReader, angle: int
) -> None:
    image = draw("vintage leather").rotate(angle, expand=True)
    assert read(image, detector, reader) == ["vintage leather"]


@pytest.mark.parametrize(
    ("drawn", "found"),
    [
        ("caf\u00e9 Z\u00fcrich", ["caf\u00e9 Z\u00fcrich"]),
        ("\u0142\u00f3d\u017a \u017eena", ["\u0142\u00f3d\u017a \u017eena"]),
        ("\u041f\u0440\u0438\u0432\u0435\u0442", []),  # no Cyrillic in its alphabet
    ],
)
def test_latin_letters_with_accents_are_read_and_other_alphabets_are_not(
    detector: TextAreaModel, reader: TextReader, drawn: str, found: list[str]
) -> None:
    file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    image = Image.new("RGB", (420, 120), "white")
    ImageDraw.Draw(image).text((20, 40), drawn, "black", ImageFont.truetype(str(file), 36))
    assert read(image, detector, reader) == found


def test_confidence_is_high_for_clear_print(detector: TextAreaModel, reader: TextReader) -> None:
    image = draw("Summer Sale")
    (line,) = reader.read(image, detector.find_lines(image).boxes)
    assert 0.9 < line.confidence <= 1.0


def test_boxes_without_letters_give_nothing(reader: TextReader) -> None:
    box = np.array([[[0.1, 0.1], [0.9, 0.1], [0.9, 0.2], [0.1, 0.2]]], np.float32)
    assert reader.read(Image.new("RGB", (200, 200), "gray"), box) == []
    assert reader.read(Image.new("RGB", (200, 200), "gray"), NO_BOXES) == []


def test_a_strip_of_no_height_is_passed_over(reader: TextReader) -> None:
    flat = np.array([[[0.1, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.1]]], np.float32)
    assert reader.read(draw("Summer Sale"), flat) == []


def test_only_the_largest_lines_are_read_and_stay_in_order(
    detector: TextAreaModel, reader: TextReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_reader, "MAX_LINES", 2)
    image = draw("tea", "strawberries", "marmalade and jam")
    assert read(image, detector, reader) == ["strawberries", "marmalade and jam"]


def test_reading_twice_gives_the_same(detector: TextAreaModel, reader: TextReader) -> None:
    image = draw("Summer Sale", "Buy 2 now")
    boxes = detector.find_lines(image).boxes
    assert reader.read(image, boxes) == reader.read(image, boxes)


def test_the_recogniser_says_nothing(
    detector: TextAreaModel,
    reader: TextReader,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        read(draw("Summer Sale"), detector, reader)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="ocr: kind must be 'rapidocr_reader', got 'other'"):
        load_text_reader(ModelRef(kind="other", paths=(Path("x"),)))


def test_a_missing_file_is_named_and_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"PP-OCRv6_rec_small\.onnx: must exist"):
        load_text_reader(ModelRef(kind="rapidocr_reader", paths=(tmp_path,)))
