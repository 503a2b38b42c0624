"""Score pictures for watermarks with LAION's EfficientNet-B3, whose weights a user brings.

    picture -> 256 x 256, squashed -> EfficientNet-B3 -> 1536 -> 625 -> 256 -> 2
            -> softmax -> the first is the probability of a watermark

Source: github.com/LAION-AI/LAION-5B-WatermarkDetection (MIT), example_use.py and inference.py:
`timm.create_model("efficientnet_b3a")` with another classifier, torchvision's Resize((256, 256))
and ImageNet's mean and deviation. LAION-5B keeps what scores below 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from curate.core.errors import ModelError
from curate.models.pack_file import refuse_pickle
from curate.models.packs import ModelRef
from curate.models.weights import check_shapes, read_tensors

SIDE_PX = 256
BATCH_SIZE = 16  # chosen by us: no faster with more on a CPU
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's, of pixels in 0..1
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_WIDTHS = (1536, 625, 256, 2)


class LaionWatermark:
    """Give the probability of a watermark; frozen, float32, on the CPU."""

    name = "laion:watermark-efficientnet-b3"

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Score RGB pictures of any size: [N], float32, 0..1."""
        scores = [np.empty(0, np.float32)]
        for start in range(0, len(images), BATCH_SIZE):
            pixels = torch.stack([to_input(image) for image in images[start : start + BATCH_SIZE]])
            scores.append(self._network(pixels).softmax(dim=1)[:, 0].numpy())
        return np.concatenate(scores)


def to_input(image: Image.Image) -> Tensor:
    """Squash and normalise: [3, 256, 256], float32."""
    squashed = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    pixels = (np.asarray(squashed, np.float32) / 255 - _MEAN) / _DEVIATION
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def build_network() -> nn.Module:
    """Build the network with random weights.

    Raises:
        ModelError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            "models: watermark needs the package timm, got none; "
            "run `pip install latentmill[offline]`"
        ) from error
    network: Any = timm.create_model("efficientnet_b3", pretrained=False)
    first, second, third, last = _WIDTHS
    network.classifier = nn.Sequential(
        nn.Linear(first, second), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(second, third), nn.ReLU(), nn.Linear(third, last),
    )  # fmt: skip
    return network


def load_laion_watermark(ref: ModelRef) -> LaionWatermark:
    """Load the model from the safetensors file that `curate convert-weights` writes.

    Raises:
        ModelError: the file is missing, a pickle, or of another network.
    """
    path = ref.paths[0]
    refuse_pickle(path, "watermark")
    tensors, _ = read_tensors(path)
    network = build_network()
    check_shapes(path, tensors, network)
    network.load_state_dict(tensors)
    return LaionWatermark(network)
