"""Score image embeddings with a head of several layers, as LAION's detectors of unsafe content are.

    embedding [D] -> some dimensions looked up in a vocabulary -> linear, ReLU, ..., linear
                  -> activation -> score

The file holds `<n>.weight` [out, in] and `<n>.bias` [out] from 0 on, a last layer of one output,
and, where the head has them, `vocabulary.<dimension>` int32 [K].

Why a vocabulary: LAION's heads were found by AutoKeras, which took a few dimensions of the
half-precision embeddings for words, because their values repeat. A value is printed with six
decimals and replaced by its place in the list of the training data's values, from 1 on, or by 0.
Without it, scores of 2,000 random half-precision unit vectors move by up to 0.26 (0.05 at the 99th
percentile; measured against TensorFlow 2.21 on LAION's files), so it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.core.errors import ModelError
from curate.models.head import (
    Activation,
    activate,
    check_embeddings,
    head_metadata,
    read_activation,
)
from curate.models.weights import read_tensors, write_tensors

FloatArray = NDArray[np.float32]
Layer = tuple[FloatArray, FloatArray]

DECIMALS = 6  # of a value taken for a word; source: TensorFlow's AsString, "%f"
_VOCABULARY = "vocabulary."


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpHead:
    """Hold one head.

    Args:
        layers: weight [out, in] and bias [out] of each, float32; the last has one output.
        activation: "identity" for a score, "sigmoid" for a probability.
        vocabularies: dimension -> its known values in units of 10**-DECIMALS, int32 [K], in order
            of their number from 1 on.
        image_text_digest: `ModelRef.digest` of the embedding model; "" when it is not known.
        image_text: the embedding model's name; "" when it is not known.
    """

    layers: Sequence[Layer]
    activation: Activation
    vocabularies: Mapping[int, NDArray[np.int32]] = field(
        default_factory=dict[int, NDArray[np.int32]]
    )
    image_text_digest: str = ""
    image_text: str = ""

    @property
    def dim(self) -> int:
        """Give the width of the embeddings it takes."""
        return self.layers[0][0].shape[1]

    def __call__(self, embeddings: FloatArray) -> FloatArray:
        """Score embeddings.

        Args:
            embeddings: [N, D], float32, L2-normalised; rounded to half precision if the head has
                vocabularies, which were made of such.

        Returns:
            [N], float32; in [0, 1] for "sigmoid".

        Raises:
            ModelError: embeddings of another dimension than the head's, or not normalised.
        """
        return activate(self.raw(embeddings), self.activation)

    def raw(self, embeddings: FloatArray) -> FloatArray:
        """Give the scores before the activation; as `__call__` otherwise."""
        check_embeddings(embeddings, self.dim)
        hidden = self._look_up(embeddings)
        for weight, bias in self.layers[:-1]:
            hidden = np.maximum(hidden @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        return (hidden @ weight.T + bias)[:, 0]

    def _look_up(self, embeddings: FloatArray) -> FloatArray:
        found = embeddings.astype(np.float32)  # a copy
        for dimension, vocabulary in self.vocabularies.items():
            found[:, dimension] = look_up(embeddings[:, dimension], vocabulary)
        return found


def look_up(values: FloatArray, vocabulary: NDArray[np.int32]) -> FloatArray:
    """Replace values [N] by their numbers in a vocabulary, from 1 on; 0 for those not in it."""
    words = np.rint(values.astype(np.float64) * 10**DECIMALS).astype(np.int32)
    order = np.argsort(vocabulary, kind="stable")
    place = np.minimum(np.searchsorted(vocabulary, words, sorter=order), len(vocabulary) - 1)
    known = vocabulary[order[place]] == words
    return np.where(known, order[place] + 1, 0).astype(np.float32)


def load_mlp_head(path: Path) -> MlpHead:
    """Load a head.

    Raises:
        ModelError: the file is missing or its layers do not fit each other.
    """
    tensors, metadata = read_tensors(path)
    vocabularies = {
        int(name.removeprefix(_VOCABULARY)): tensors.pop(name).numpy()
        for name in sorted(tensors)
        if name.startswith(_VOCABULARY)
    }
    return MlpHead(
        layers=_read_layers(path, tensors),
        activation=read_activation(path, metadata),
        vocabularies=vocabularies,
        image_text_digest=metadata.get("image_text_digest", ""),
        image_text=metadata.get("image_text", ""),
    )


def write_mlp_head(path: Path, head: MlpHead, about: Mapping[str, str] | None = None) -> None:
    """Write a head as float32 safetensors; `about` is further metadata."""
    tensors: dict[str, Tensor] = {}
    for number, (weight, bias) in enumerate(head.layers):
        tensors[f"{number}.weight"] = torch.from_numpy(weight)
        tensors[f"{number}.bias"] = torch.from_numpy(bias)
    for dimension, vocabulary in head.vocabularies.items():
        tensors[f"{_VOCABULARY}{dimension}"] = torch.from_numpy(vocabulary)
    metadata = {**(about or {}), **head_metadata(head, head.activation)}
    write_tensors(path, tensors, metadata, dtype=torch.float32)


def _read_layers(path: Path, tensors: Mapping[str, Tensor]) -> list[Layer]:
    numbers = range(len(tensors) // 2)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {f"{number}.{part}" for number in numbers for part in ("weight", "bias")}
    layers: list[Layer] = []
    if tensors and set(tensors) == wanted:
        layers = [
            (tensors[f"{n}.weight"].float().numpy(), tensors[f"{n}.bias"].float().numpy())
            for n in numbers
        ]
    if not layers or not _fit(layers):
        raise ModelError(
            f"{path}: must hold 0.weight [out, in], 0.bias [out], 1.weight, ... down to one "
            f"output, got {shapes}; convert it again by `curate convert-weights`"
        )
    return layers


def _fit(layers: Sequence[Layer]) -> bool:
    """Tell whether each layer takes what the one before gives, and the last gives one number."""
    shaped = all(weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in layers)
    if not shaped:
        return False
    widths = [weight.shape[0] for weight, _ in layers]
    taken = [weight.shape[1] for weight, _ in layers[1:]]
    return widths[:-1] == taken and widths[-1] == 1
