"""Score image embeddings with small heads: aesthetic quality, unsafe content, watermarks.

A head is a safetensors file. Its metadata says what follows the last layer ("activation") and whose
embeddings it was trained on: `image_text_digest`, the exact model, or `image_text`, its name such
as "ViT-L-14/openai". A head knows no pictures. `LinearHead` is here, heads of several layers are in
mlp_head.py; `load_head` chooses by the reference's kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import read_tensors, write_tensors

Activation = Literal["identity", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "sigmoid")
HEAD_KINDS = ("linear_head", "mlp_head")

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


def load_head(ref: ModelRef) -> Head:
    """Load a head.

    Raises:
        ModelError: the kind is unknown, the file is missing, or its contents are no head.
    """
    if ref.kind == "mlp_head":
        from curate.models.mlp_head import load_mlp_head

        return load_mlp_head(ref.paths[0])
    if ref.kind != "linear_head":
        raise ModelError(
            f"head: kind must be one of {', '.join(HEAD_KINDS)}, got {ref.kind!r}; choose one"
        )
    path = ref.paths[0]
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


def read_activation(path: Path, metadata: Mapping[str, str]) -> Activation:
    """Read what follows the last layer from a head's metadata.

    Raises:
        ModelError: it is not in `ACTIVATIONS`.
    """
    activation = metadata.get("activation")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{path}: activation must be one of {ACTIVATIONS}, got {activation!r}")
    return activation


def write_head(path: Path, head: LinearHead, about: Mapping[str, str] | None = None) -> None:
    """Write a head as float32 safetensors, so that `load_head` gives it back bit for bit.

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


def head_metadata(head: Head, activation: Activation) -> dict[str, str]:
    """Give the metadata that `load_head` reads; an unknown model's name is left out."""
    metadata = {"activation": activation, "image_text_digest": head.image_text_digest}
    return metadata | ({"image_text": head.image_text} if head.image_text else {})
