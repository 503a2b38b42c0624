"""From pixels and a caption to columns: what is printed, and how much of the caption it is."""

import itertools
import time

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("rapidocr")

from curate.annotators.annotator import Batch, measure
from curate.annotators.ocr import Ocr, describe
from curate.annotators.text_area import BOXES, TextArea
from curate.models.packs import load_pack
from curate.models.text_reader import ReadLine


@pytest.fixture(scope="module")
def annotators() -> tuple[TextArea, Ocr]:
    pack = load_pack("offline")
    found = TextArea(pack), Ocr(pack)
    for annotator in found:
        annotator.setup()
    return found


def make_batch(*samples: tuple[str, str]) -> Batch:
    """Pictures that bear a text, with captions."""
    images = []
    for printed, _ in samples:
        image = Image.new("RGB", (400, 300), (190, 205, 220))
        ImageDraw.Draw(image).text((30, 120), printed, "black", ImageFont.load_default(32))
        images.append(image)
    return Batch(
        keys=[f"{index:020x}" for index in range(len(samples))],
        images=images,
        captions=[caption for _, caption in samples],
        columns={},
    )


def annotate(annotators: tuple[TextArea, Ocr], *samples: tuple[str, str]) -> pa.Table:
    batch = make_batch(*samples)
    types = {}
    for annotator in annotators:
        batch.columns.update(measure(annotator, batch))
        types |= annotator.columns
    return pa.table({name: pa.array(values, types[name]) for name, values in batch.columns.items()})


def test_overlap_is_none_some_or_all_of_the_caption(annotators: tuple[TextArea, Ocr]) -> None:
    table = annotate(
        annotators,
        ("Garden Party", "a bowl of apples"),
        ("Garden Party", "invitation to the garden party"),
        ("Garden Party", "garden party!"),
        ("Garden Party", ""),
    )
    assert table["ocr.text"].to_pylist() == ["Garden Party"] * 4
    assert table["ocr.words"].to_pylist() == [2] * 4
    assert table["ocr.caption_overlap"].to_pylist() == pytest.approx([0, 0.4, 1, 0])
    assert table["ocr.text_overlap"].to_pylist() == pytest.approx([0, 1, 1, 0])


def test_a_picture_without_text_is_measured_and_has_none(annotators: tuple[TextArea, Ocr]) -> None:
    (row,) = annotate(annotators, ("", "garden party")).to_pylist()
    assert row == {
        "text_area.frac": 0.0,
        "text_area.lines": 0,
        "text_area.largest_frac": 0.0,
        "text_area.boxes": [],
        "ocr.text": "",
        "ocr.confidence": None,
        "ocr.words": 0,
        "ocr.caption_overlap": 0.0,
        "ocr.text_overlap": 0.0,
    }


def test_area_counts_and_boxes_agree(annotators: tuple[TextArea, Ocr]) -> None:
    (row,) = annotate(annotators, ("Garden Party", "")).to_pylist()
    canvas = ImageDraw.Draw(Image.new("RGB", (400, 300)))
    ends = canvas.textbbox((30, 120), "Garden Party", ImageFont.load_default(32))
    left, top, right, bottom = (end / side for end, side in zip(ends, (400, 300) * 2, strict=True))
    letters = (right - left) * (bottom - top)
    assert row["text_area.lines"] == 1
    assert row["text_area.largest_frac"] == pytest.approx(row["text_area.frac"], rel=0.1)
    assert letters < row["text_area.frac"] < 1.6 * letters
    (box,) = row["text_area.boxes"]
    assert box == pytest.approx([left, top, right, top, right, bottom, left, bottom], abs=0.03)


def test_a_sample_without_boxes_is_unmeasured_and_its_neighbour_is_read(
    annotators: tuple[TextArea, Ocr],
) -> None:
    batch = make_batch(("Garden Party", ""), ("Garden Party", ""))
    boxes = measure(annotators[0], batch)[BOXES]
    batch.columns[BOXES] = [None, boxes[1]]
    assert measure(annotators[1], batch)["ocr.text"] == [None, "Garden Party"]


def test_a_sample_is_read_alike_alone_and_in_a_batch(annotators: tuple[TextArea, Ocr]) -> None:
    samples = [("Garden Party", "garden"), ("Express", "train"), ("Open daily from nine", "shop")]
    together = annotate(annotators, *samples).to_pylist()
    assert together == [annotate(annotators, sample).to_pylist()[0] for sample in samples]


def test_absurd_captions_and_readings_are_compared_quickly() -> None:
    words = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=5)]
    caption, printed = " ".join(words[::2]), " ".join(words[1::2])
    start = time.process_time()
    found = describe([ReadLine(text=printed, confidence=1.0)], caption)
    assert time.process_time() - start < 1.0
    assert found["caption_overlap"] > 0.3  # what is one letter off is near all the same
    assert found["words"] == len(words) // 2
