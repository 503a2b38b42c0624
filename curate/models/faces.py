"""Load the pack's face detector: MTCNN (a PyPI package holds it) or YuNet by local path.

As we measured on one core at `SIDE_PX`, of 100 faces of LFW (crops of 25 px, enlarged and pasted):

| detector | CPU time | found at 30 px | found at 100 px | of 136 photographs without a face |
| --- | --- | --- | --- | --- |
| MTCNN | 19 ms | 99 | 99 | seen in 0 |
| YuNet n, s | 14, 11 ms | 30, 12 | 95, 97 | seen in 0, 0 |
| OpenCV's Haar cascades | 41 to 65 ms | - | 22 to 88 | seen in 0 to 9 |

So no Haar cascade is offered. None finds all: faces in profile, covered, or smaller than 4 % of the
picture's longest side are missed, and painted ones are found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError, SampleError
from curate.core.image import shrink
from curate.models.mtcnn import FILES, Mtcnn
from curate.models.packs import ModelRef

SIDE_PX = 480
"""Longest side that is searched; chosen by us: 20 ms of one core, faces from 4 % of it are seen."""
YUNET_MIN_SCORE = 0.8  # chosen by us
YUNET_MAX_OVERLAP = 0.3  # Source: OpenCV's default, samples/dnn/face_detect.cpp
YUNET_MAX_FACES = 5000  # Source: as above


class FaceDetector(Protocol):
    """Find faces; deterministic, on the CPU."""

    @property
    def name(self) -> str:
        """Give the model's name."""
        ...

    def find(self, image: Image.Image) -> NDArray[np.float32]:
        """Find the faces of an RGB picture.

        Returns:
            [F, 4], float32: left, top, right, bottom as shares of width and height, 0..1.

        Raises:
            SampleError: "faces", the detector cannot take the picture.
        """
        ...


class MtcnnFaces:
    """Find faces by the cascade of mtcnn.py; one thread."""

    name = "mtcnn"

    def __init__(self, network: Mtcnn) -> None:
        self._network = network

    def find(self, image: Image.Image) -> NDArray[np.float32]:
        """Find faces, as `FaceDetector.find`."""
        small = shrink(image, SIDE_PX)
        try:
            boxes = self._network(np.asarray(small))
        except (cv2.error, RuntimeError) as error:
            raise SampleError("faces", str(error)) from error
        return _shares(boxes, small)


class YunetFaces:
    """Find faces by OpenCV's FaceDetectorYN. Source: Wu et al. 2023, YuNet, MIR 20, 656-665."""

    name = "yunet"

    def __init__(self, network: Any) -> None:
        self._network = network

    def find(self, image: Image.Image) -> NDArray[np.float32]:
        """Find faces, as `FaceDetector.find`."""
        small = shrink(image, SIDE_PX)
        pixels = np.ascontiguousarray(np.asarray(small)[..., ::-1])  # it wants BGR
        try:
            self._network.setInputSize(small.size)
            _, found = self._network.detect(pixels)
        except cv2.error as error:
            raise SampleError("faces", str(error)) from error
        rows = np.empty((0, 15), np.float32) if found is None else found
        rows = rows[np.isfinite(rows).all(axis=1)]  # a picture of 3 px gives not-a-number
        corner, size = rows[:, :2], rows[:, 2:4]
        return _shares(np.concatenate([corner, corner + size], axis=1), small)


def load_faces(ref: ModelRef) -> FaceDetector:
    """Load the detector that a reference points to; no download.

    Raises:
        ModelError: the kind is not in `LOADERS`, or a file is missing or is no such network.
    """
    if ref.kind not in LOADERS:
        raise ModelError(
            f"faces: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}; choose one"
        )
    return LOADERS[ref.kind](ref.paths[0])


def _load_mtcnn(folder: Path) -> FaceDetector:
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder / name}: must exist, got no file; run `pip install latentmill[offline]`"
            )
    return MtcnnFaces(Mtcnn(folder))


def _load_yunet(path: Path) -> FaceDetector:
    if not path.is_file():
        raise ModelError(
            f"{path}: must exist, got no file; give the path of a face_detection_yunet_*.onnx"
        )
    try:
        network = cv2.FaceDetectorYN.create(
            str(path), "", (SIDE_PX, SIDE_PX), YUNET_MIN_SCORE, YUNET_MAX_OVERLAP, YUNET_MAX_FACES
        )
    except cv2.error as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: must be YuNet as ONNX, got {reason}; fetch it again") from error
    return YunetFaces(network)


LOADERS: Mapping[str, Callable[[Path], FaceDetector]] = {
    "mtcnn": _load_mtcnn,
    "yunet": _load_yunet,
}
"""Kind of a reference -> loader of its first path."""


def _shares(boxes: NDArray[np.float32], image: Image.Image) -> NDArray[np.float32]:
    """Turn boxes [F, 4] in pixels into shares of the picture, cut at its edge."""
    sides = np.asarray([image.width, image.height] * 2, np.float32)
    return np.clip(boxes / sides, 0.0, 1.0).astype(np.float32)
