"""Find the lines of text in a picture with RapidOCR's detector; nothing is read.

Path: picture -> longest side at most `SIDE_PX` -> DBNet's boxes -> those that can be lines of text
-> reading order; their union -> share of the picture. What the lines say: text_reader.py.
Source: PP-OCR detection (Liao et al. 2020, arXiv 1911.08947, DBNet) as the ONNX file in the wheel
rapidocr 3.10 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from curate.core.errors import ModelError, SampleError
from curate.core.image import shrink
from curate.models.packs import ModelRef

WEIGHTS = Path("models/PP-OCRv6_det_small.onnx")  # inside the package's folder
# Chosen by us: 45 ms of one core a picture; 640 px take 69 ms, RapidOCR's default 460 ms. On 220
# pictures with drawn text 480 and 640 px agree (correlation with the drawn area 0.97 for both).
# What it costs: type below 7 px, 1.5 % of the longest side, is lost: the small print of a page.
SIDE_PX = 480

# The detector takes one dark shape on a plain ground for a glyph: without a rule on boxes the mean
# share on clip art without text is 0.47. Chosen by us on the same 220 pictures: a line of text is
# low, or it is long and not very high. With it the mean is 0.01, and no drawn text is lost.
MAX_HEIGHT_FRAC = 0.25  # of the picture's shorter side; lower boxes count whatever their form
MIN_LONG_ASPECT, MAX_LONG_HEIGHT_FRAC = 2.0, 0.5  # longer boxes count up to this height


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """Hold what was found in one picture.

    Args:
        frac: share of the picture under at least one line, 0..1.
        boxes: quadrilaterals [L, 4, 2], float32: (x, y) as shares of width and height, corners in
            order, lines in reading order.
    """

    frac: float
    boxes: NDArray[np.float32]


class TextAreaModel:
    """Find lines of text; one thread, on the CPU."""

    name = "rapidocr-det"

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Give the share of RGB pictures that is covered by text: [N], float32, 0..1.

        Raises:
            SampleError: "text_area", the detector cannot take a picture.
        """
        return np.array([self.find_lines(image).frac for image in images], np.float32)

    def find_lines(self, image: Image.Image) -> TextLines:
        """Find the lines of one RGB picture.

        Raises:
            SampleError: "text_area", the detector cannot take the picture.
        """
        small = shrink(image, SIDE_PX)
        pixels = np.asarray(small)[..., ::-1]  # the detector wants BGR
        try:
            boxes = self._engine(pixels, use_det=True, use_cls=False, use_rec=False).boxes
        except (cv2.error, RuntimeError) as error:
            raise SampleError("text_area", str(error)) from error
        lines = [box for box in ([] if boxes is None else boxes) if is_line(box, min(small.size))]
        stacked = np.asarray(lines, np.float32).reshape(-1, 4, 2)[reading_order(lines)]
        return TextLines(
            frac=union_frac(lines, small.height, small.width),
            boxes=np.clip(stacked / np.asarray(small.size, np.float32), 0.0, 1.0),
        )


def load_text_area(ref: ModelRef) -> TextAreaModel:
    """Load the detector that a reference points to; no download.

    Raises:
        ModelError: the kind is not "rapidocr", or its file is missing.
    """
    if ref.kind != "rapidocr":
        raise ModelError(f"text_area: kind must be 'rapidocr', got {ref.kind!r}; choose that")
    path = ref.paths[0] / WEIGHTS
    if not path.is_file():  # RapidOCR would fetch it
        raise ModelError(f"{path}: must exist, got no file; run `pip install latentmill[offline]`")
    from rapidocr import RapidOCR

    params = {
        "Global.log_level": "critical",
        "Global.use_cls": False,
        "Global.use_rec": False,
        "Det.model_path": str(path),
        "Det.limit_type": "max",  # the default enlarges to 736 px, four times the work
        "Det.limit_side_len": SIDE_PX,
        # One thread: a worker process has one core.
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return TextAreaModel(RapidOCR(params=params))


def is_line(box: NDArray[np.float32], min_side_px: int) -> bool:
    """Tell whether a box can be a line of text and is no single large shape.

    Args:
        box: quadrilateral [4, 2] of (x, y) in pixels, corners in order.
        min_side_px: shorter side of the picture.
    """
    low, long = sorted(float(np.linalg.norm(box[i] - box[i + 1])) for i in (0, 1))
    if low <= MAX_HEIGHT_FRAC * min_side_px:
        return True
    return long >= MIN_LONG_ASPECT * low and low <= MAX_LONG_HEIGHT_FRAC * min_side_px


def union_frac(boxes: Sequence[NDArray[np.float32]], height: int, width: int) -> float:
    """Give the share of a picture under at least one box.

    Args:
        boxes: quadrilaterals [4, 2] of (x, y) in pixels.
        height: of the picture in pixels.
        width: of the picture in pixels.
    """
    mask = Image.new("1", (width, height))
    canvas = ImageDraw.Draw(mask)
    for box in boxes:
        canvas.polygon([(float(x), float(y)) for x, y in box], fill=1)
    return float(np.asarray(mask).mean())


def quad_frac(box: NDArray[np.float32]) -> float:
    """Give the area of a quadrilateral [4, 2] by the shoelace formula, in its unit squared."""
    x, y = box.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def reading_order(boxes: Sequence[NDArray[np.float32]]) -> list[int]:
    """Order lines from top to bottom, and from left to right where they stand side by side.

    Two lines stand side by side when the middle of each lies within the height of the other. Blind
    to columns and to scripts that run from right to left.

    Args:
        boxes: quadrilaterals [4, 2] of (x, y) in any unit.

    Returns:
        Indices into `boxes`.
    """
    tops = [float(box[:, 1].min()) for box in boxes]
    bottoms = [float(box[:, 1].max()) for box in boxes]
    middles = [(top + bottom) / 2 for top, bottom in zip(tops, bottoms, strict=True)]
    rows: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda index: middles[index]):
        first = rows[-1][0] if rows else index
        if rows and middles[index] < bottoms[first] and tops[index] < middles[first]:
            rows[-1].append(index)
        else:
            rows.append([index])
    return [
        index for row in rows for index in sorted(row, key=lambda index: boxes[index][:, 0].min())
    ]
