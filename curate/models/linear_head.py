"""Score image embeddings with a head of a single layer.

The file holds `weight` [D] and `bias` [1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from curate.core.errors import ModelError
from curate.models.head import (
    Activation,
    activate,
    check_embeddings,
    head_metadata,
    read_activation,
)
from curate.models.weights import read_tensors, write_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """Hold one head of a single layer.

    Args:
        weight: [D], float32.
        bias: added before the activation.
        activation: "identity" for a score, "sigmoid" for a probability.
        image_text_digest: `ModelRef.digest` of the embedding model; "" when it is not known.
        image_text: the embedding model's name; "" when it is not known.
    """

    weight: NDArray[np.float32]
    bias: float
    activation: Activation
    image_text_digest: str
    image_text: str = ""

    @property
    def dim(self) -> int:
        """Give the width of the embeddings it takes."""
        return len(self.weight)

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score embeddings.

        Args:
            embeddings: [N, D], float32, L2-normalised.

        Returns:
            [N], float32; in [0, 1] for "sigmoid".

        Raises:
            ModelError: embeddings of another dimension than the head's, or not normalised.
        """
        return activate(self.raw(embeddings), self.activation)

    def raw(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the scores before the activation; as `__call__` otherwise."""
        check_embeddings(embeddings, self.dim)
        return embeddings.astype(np.float32) @ self.weight + np.float32(self.bias)


def load_linear_head(path: Path) -> LinearHead:
    """Load a head.

    Raises:
        ModelError: the file is missing, or its contents are no head.
    """
    tensors, metadata = read_tensors(path)
    if set(tensors) != {"weight", "bias"} or tensors["weight"].ndim != 1:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise ModelError(f"{path}: must hold weight [D] and bias [1], got {shapes}")
    return LinearHead(
        weight=tensors["weight"].float().numpy(),
        bias=float(tensors["bias"]),
        activation=read_activation(path, metadata),
        image_text_digest=metadata.get("image_text_digest", ""),
        image_text=metadata.get("image_text", ""),
    )


def write_linear_head(path: Path, head: LinearHead, about: Mapping[str, str] | None = None) -> None:
    """Write a head as float32 safetensors, so that `load_linear_head` gives it back bit for bit.

    Args:
        path: of the file.
        head: what to write.
        about: further metadata, e.g. the source's digest.
    """
    write_tensors(
        path,
        {"weight": torch.from_numpy(head.weight), "bias": torch.tensor([head.bias])},
        {**(about or {}), **head_metadata(head, head.activation)},
        dtype=torch.float32,
    )
