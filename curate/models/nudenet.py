"""Find exposed parts of bodies with NudeNet, a detector of 18 classes whose wheel has its ONNX.

    picture -> padded to a square with black at the right and below -> 320 px, 0..1
            -> 2100 boxes with 18 class scores -> the highest score of an explicit class

The score of a picture is the best box's; where boxes stand and how many is not kept, so nothing of
the detector's suppression of overlapping boxes is needed.

Source: NudeNet 3.4 (github.com/notAI-tech/NudeNet, AGPL-3.0), model 320n and its order of classes.
The package is an extra (`pip install latentmill[nudenet]`) for its licence; its code, which needs
OpenCV, is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError
from curate.models.onnx_session import open_onnx
from curate.models.packs import ModelRef

SIDE_PX = 320  # input of the model 320n
BATCH_SIZE = 4  # of NudeNet's own detect_batch
CLASSES = (
    "FEMALE_GENITALIA_COVERED", "FACE_FEMALE", "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED", "MALE_BREAST_EXPOSED", "ANUS_EXPOSED", "FEET_EXPOSED",
    "BELLY_COVERED", "FEET_COVERED", "ARMPITS_COVERED", "ARMPITS_EXPOSED", "FACE_MALE",
    "BELLY_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_COVERED", "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)  # fmt: skip
# Chosen by us: what most rules of use call explicit; bellies, feet and male chests are not.
EXPLICIT = (
    "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "ANUS_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
)  # fmt: skip
_NUM_BOX = 4  # centre x, centre y, width, height come before the class scores


class NudeNet:
    """Give the highest score of an explicit class; one thread, on the CPU."""

    name = "nudenet:320n"

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Score RGB pictures of any size: [N], float32, 0..1."""
        if not images:
            return np.empty(0, np.float32)
        explicit = [_NUM_BOX + CLASSES.index(name) for name in EXPLICIT]
        return self.class_scores(images)[:, explicit].max(axis=1)

    def class_scores(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Give the highest value of each output over all boxes: [N, 4 + 18], float32."""
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(images), BATCH_SIZE):
            pixels = np.stack([to_input(image) for image in images[start : start + BATCH_SIZE]])
            (boxes,) = self._session.run(None, {self._input: pixels})  # [B, 22, 2100]
            found.append(np.asarray(boxes, np.float32).max(axis=2))
        return np.concatenate(found)


def to_input(image: Image.Image) -> NDArray[np.float32]:
    """Pad to a square at the right and below with black and scale: [3, 320, 320], 0..1.

    Two things differ from the package, so scores of large pictures do by some hundredths. PIL's
    bilinear filter looks at all pixels of a cell, OpenCV's at four. And red is the first channel,
    as the detector's kind (YOLO) is trained; the package swaps channels twice and gives it blue
    first: the face in matplotlib's portrait then scores 0.68 instead of 0.81.
    """
    scale = SIDE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (SIDE_PX, SIDE_PX))
    square.paste(image.resize(size, Image.Resampling.BILINEAR), (0, 0))
    return np.asarray(square, np.float32).transpose(2, 0, 1) / np.float32(255)


def load_nudenet(ref: ModelRef) -> NudeNet:
    """Load the detector that a reference of kind "nudenet" points to.

    Raises:
        ModelError: the file is missing or is no such model.
    """
    path = ref.paths[0]
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; run `pip install latentmill[nudenet]`")
    session = open_onnx(path, "fetch it again")
    channels = session.get_outputs()[0].shape[1]
    if channels != _NUM_BOX + len(CLASSES):
        raise ModelError(
            f"{path}: must give {_NUM_BOX + len(CLASSES)} numbers a box, got {channels}; "
            "take the file 320n.onnx of nudenet 3.4"
        )
    return NudeNet(session)
