"""Say what a head is: a small network that scores the embeddings of one image-text model.

A head is a safetensors file. Its metadata says what follows the last layer ("activation") and whose
embeddings it was trained on: `image_text_digest`, the exact model, or `image_text`, its name such
as "ViT-L-14/openai". A head knows no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ModelError

Activation = Literal["identity", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "sigmoid")

# Chosen by us: half precision moves the norm of a unit vector by less than 1e-3, and the raw
# embeddings of OpenAI's models have norms of about 10 and more.
NORM_TOLERANCE = 1e-2


class Head(Protocol):
    """Score embeddings of one image-text model."""

    @property
    def dim(self) -> int:
        """Give the width of the embeddings it takes."""
        ...

    @property
    def image_text_digest(self) -> str:
        """Give `ModelRef.digest` of the embedding model; "" when it is not known."""
        ...

    @property
    def image_text(self) -> str:
        """Give the embedding model's name, e.g. "ViT-L-14/openai"; "" when it is not known."""
        ...

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score L2-normalised embeddings [N, D]: [N], float32."""
        ...

    def raw(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the scores before the activation: [N], float32."""
        ...


def check_embeddings(embeddings: NDArray[np.float32], dim: int) -> None:
    """Refuse embeddings that a head was not trained on.

    Aesthetic scores above 10 from embeddings as they leave the network are the classic of this
    fault (github.com/LAION-AI/aesthetic-predictor, issue 5).

    Raises:
        ModelError: not [N, dim], or a norm that is not 1.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ModelError(
            f"head: embeddings must be [N, {dim}], got {embeddings.shape}; "
            "use the head that belongs to the image-text model"
        )
    norms = np.linalg.norm(embeddings.astype(np.float32), axis=1)
    wrong = norms[~(np.abs(norms - 1) <= NORM_TOLERANCE)]
    if wrong.size:
        raise ModelError(
            f"head: embeddings must have norm 1 within {NORM_TOLERANCE}, got {wrong[0]:.4g}; "
            "divide each by its L2 norm first"
        )


def activate(scores: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """Apply what follows the last layer."""
    if activation == "sigmoid":
        # tanh does not overflow for large scores as exp does; float64 keeps small probabilities
        return (0.5 * (1.0 + np.tanh(0.5 * scores.astype(np.float64)))).astype(np.float32)
    return scores.astype(np.float32)


def read_activation(path: Path, metadata: Mapping[str, str]) -> Activation:
    """Read what follows the last layer from a head's metadata.

    Raises:
        ModelError: it is not in `ACTIVATIONS`.
    """
    activation = metadata.get("activation")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{path}: activation must be one of {ACTIVATIONS}, got {activation!r}")
    return activation


def head_metadata(head: Head, activation: Activation) -> dict[str, str]:
    """Give the metadata that `load_head` reads; an unknown model's name is left out."""
    metadata = {"activation": activation, "image_text_digest": head.image_text_digest}
    return metadata | ({"image_text": head.image_text} if head.image_text else {})
