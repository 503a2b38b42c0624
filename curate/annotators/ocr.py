"""Read the text in a picture, and measure how much of the caption stands in it.

A caption that spells what is printed in its picture teaches spelling, not looks, and a text
embedding scores it high. It needs what `text_area` found and reads only pictures with text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.annotators.caption_repair import MAX_CHARACTERS
from curate.annotators.text_area import read_boxes
from curate.annotators.word_overlap import share_found, split_words
from curate.models.packs import ModelRef

if TYPE_CHECKING:
    from curate.models.text_reader import ReadLine, TextReader


class Ocr:
    """Measure the text and its overlap with the caption.

    Columns:
        text: lines in reading order, one a row, NFC; "" where nothing was read.
        confidence: mean over its characters, 0..1; null where nothing was read.
        words: parts of the text between white space, as `caption_text.words` counts.
        caption_overlap: share of the caption's distinct words that stand in the picture, 0..1; 0
            for a caption without words. Source: the rate of co-embedded text of Lin et al. 2023
            (arXiv 2312.14232); the matching is ours, see word_overlap.py.
        text_overlap: the other way: share of the picture's distinct words in the caption, 0..1.
    """

    name: str = "ocr"
    roles: tuple[str, ...] = ("text_area", "ocr")  # text_area: whose boxes are read
    columns: Mapping[str, pa.DataType] = {
        "ocr.text": pa.string(),
        "ocr.confidence": pa.float32(),
        "ocr.words": pa.int32(),
        "ocr.caption_overlap": pa.float32(),
        "ocr.text_overlap": pa.float32(),
    }

    def __init__(self, models: Mapping[str, ModelRef]) -> None:
        self.metadata: Mapping[str, str] = {}
        self._models = models
        self._reader: TextReader | None = None

    def setup(self) -> None:
        """Load the pack's text recogniser."""
        from curate.models.text_reader import load_text_reader

        self._reader = load_text_reader(self._models["ocr"])
        self.metadata = {"model": self._reader.name}

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Read every picture that has text."""
        assert self._reader is not None, "setup() comes first"
        pictures = zip(batch.images, read_boxes(batch), batch.captions, strict=True)
        rows = [
            describe(self._reader.read(image, boxes), caption) for image, boxes, caption in pictures
        ]
        return {name: [row[name.removeprefix("ocr.")] for row in rows] for name in self.columns}


def describe(lines: list[ReadLine], caption: str) -> dict[str, Any]:
    """Sum up one picture's lines; fields as in `Ocr`, overlaps of the first `MAX_CHARACTERS`."""
    text = "\n".join(line.text for line in lines)
    num_characters = sum(len(line.text) for line in lines)
    total = sum(line.confidence * len(line.text) for line in lines)
    in_picture = split_words(text[:MAX_CHARACTERS])
    in_caption = split_words(caption[:MAX_CHARACTERS])
    return {
        "text": text,
        "confidence": total / num_characters if num_characters else None,
        "words": len(text.split()),
        "caption_overlap": share_found(in_caption, in_picture),
        "text_overlap": share_found(in_picture, in_caption),
    }
