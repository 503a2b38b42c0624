"""Score image embeddings with linear heads: aesthetic quality, probability of a watermark.

A head is a safetensors file with `weight` [D] and `bias` [1]; its metadata names the activation and
the digest of the image-text model whose embeddings it was trained on. A head knows no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import read_tensors, write_tensors

Activation = Literal["identity", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """Hold one head.

    Args:
        weight: [D], float32.
        bias: added before the activation.
        activation: "identity" for a score, "sigmoid" for a probability.
        image_text_digest: `ModelRef.digest` of the embedding model; "" when it is not known.
    """

    weight: NDArray[np.float32]
    bias: float
    activation: Activation
    image_text_digest: str

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score embeddings.

        Args:
            embeddings: [N, D], float32, L2-normalised.

        Returns:
            [N], float32; in [0, 1] for "sigmoid".

        Raises:
            ModelError: embeddings of another dimension than the head's.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.weight):
            raise ModelError(
                f"head: embeddings must be [N, {len(self.weight)}], got {embeddings.shape}; "
                "use the head that belongs to the image-text model"
            )
        scores = embeddings.astype(np.float32) @ self.weight + np.float32(self.bias)
        if self.activation == "sigmoid":
            # tanh does not overflow for large scores as exp does
            scores = 0.5 * (1.0 + np.tanh(0.5 * scores))
        return scores.astype(np.float32)


def load_head(ref: ModelRef) -> LinearHead:
    """Load a head.

    Raises:
        ModelError: the kind is unknown, the file is missing, or its contents are no linear head.
    """
    if ref.kind != "linear_head":
        raise ModelError(f"head: kind must be 'linear_head', got {ref.kind!r}; choose that")
    path = ref.paths[0]
    tensors, metadata = read_tensors(path)
    activation = metadata.get("activation")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{path}: activation must be one of {ACTIVATIONS}, got {activation!r}")
    if set(tensors) != {"weight", "bias"} or tensors["weight"].ndim != 1:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise ModelError(f"{path}: must hold weight [D] and bias [1], got {shapes}")
    return LinearHead(
        weight=tensors["weight"].float().numpy(),
        bias=float(tensors["bias"]),
        activation=activation,
        image_text_digest=metadata.get("image_text_digest", ""),
    )


def write_head(path: Path, head: LinearHead) -> None:
    """Write a head as float32 safetensors, so that `load_head` gives it back bit for bit."""
    write_tensors(
        path,
        {"weight": torch.from_numpy(head.weight), "bias": torch.tensor([head.bias])},
        {"activation": head.activation, "image_text_digest": head.image_text_digest},
        dtype=torch.float32,
    )
