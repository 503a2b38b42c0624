"""Read lines of text that text_area.py found, with RapidOCR's recogniser.

Path: picture at most `SIDE_PX` -> its largest `MAX_LINES` lines, each warped to a strip -> strips
that stand on their head turned -> text and confidence. Lines of one picture share the network's
batches, lines of two never do: a reading does not depend on neighbours.
Source: PP-OCR recognition (SVTR, Du et al. 2022, arXiv 2205.00159) and the classifier of lines
upside down, as the ONNX files in the wheel rapidocr 3.10 (Apache-2.0).

What it cannot do, as measured: Cyrillic, Hangul, Arabic and Thai are not in its alphabet (Latin
with accents, Chinese, Japanese and most of Greek are); letters that stand above each other are not
found; spaces between capitals are lost in small print (word_overlap.py allows for it).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError, SampleError
from curate.models.packs import ModelRef
from curate.models.text_area import quad_frac

WEIGHTS = Path("models/PP-OCRv6_rec_small.onnx")  # inside the package's folder
TURN_WEIGHTS = Path("models/ch_ppocr_mobile_v2.0_cls_mobile.onnx")

SIDE_PX = 2000  # longest side that is read. Source: RapidOCR's default `max_side_len`
MAX_LINES = 32  # chosen by us: a bound of about 0.6 s for a page of print; overlays have under 10
MIN_CONFIDENCE = 0.5  # lines below are noise. Source: RapidOCR's default `text_score`
MIN_STRIP_PX = 4  # chosen by us: lower strips hold no letter


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLine:
    """Hold one line's text (NFC, not empty) and the mean probability of its characters, 0..1."""

    text: str
    confidence: float


class TextReader:
    """Read lines of text; one thread, on the CPU."""

    name = "rapidocr-rec"

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def read(self, image: Image.Image, boxes: NDArray[np.float32]) -> list[ReadLine]:
        """Read the lines of one RGB picture.

        Args:
            image: the picture.
            boxes: `TextLines.boxes`, [L, 4, 2].

        Returns:
            Lines that were made out, in the order of `boxes`.

        Raises:
            SampleError: "ocr", the recogniser cannot take the picture.
        """
        pixels = _readable(image)
        height, width, _ = pixels.shape
        quads = _largest(boxes) * np.asarray([width, height], np.float32)
        quads = [quad for quad in quads if _lower_side(quad) >= MIN_STRIP_PX]
        if not quads:
            return []
        try:
            strips = self._engine.crop_text_regions(pixels, quads)
            strips, _ = self._engine.cls_and_rotate(strips)
            found = self._engine.recognize_txt(strips)
        except (cv2.error, RuntimeError) as error:
            raise SampleError("ocr", str(error)) from error
        texts = [" ".join(unicodedata.normalize("NFC", text).split()) for text in found.txts]
        return [
            ReadLine(text=text, confidence=float(confidence))
            for text, confidence in zip(texts, found.scores, strict=True)
            if text and confidence >= MIN_CONFIDENCE
        ]


def load_text_reader(ref: ModelRef) -> TextReader:
    """Load the recogniser that a reference points to; no download.

    Raises:
        ModelError: the kind is not "rapidocr_reader", or a file is missing.
    """
    if ref.kind != "rapidocr_reader":
        raise ModelError(f"ocr: kind must be 'rapidocr_reader', got {ref.kind!r}; choose that")
    paths = [ref.paths[0] / weights for weights in (WEIGHTS, TURN_WEIGHTS)]
    for path in paths:
        if not path.is_file():  # RapidOCR would fetch it
            raise ModelError(
                f"{path}: must exist, got no file; run `pip install latentmill[offline]`"
            )
    from rapidocr import RapidOCR

    params = {
        "Global.log_level": "critical",
        "Rec.model_path": str(paths[0]),
        "Cls.model_path": str(paths[1]),
        # One thread: a worker process has one core.
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return TextReader(RapidOCR(params=params))


def _readable(image: Image.Image) -> NDArray[np.uint8]:
    """Give the picture as BGR, at most `SIDE_PX` long."""
    scale = min(1.0, SIDE_PX / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    if scale < 1:
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def _largest(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the `MAX_LINES` largest boxes, in their order."""
    by_size = sorted(range(len(boxes)), key=lambda index: -quad_frac(boxes[index]))
    return boxes[sorted(by_size[:MAX_LINES])]


def _lower_side(quad: NDArray[np.float32]) -> float:
    return min(float(np.linalg.norm(quad[index] - quad[index + 1])) for index in (0, 1))
