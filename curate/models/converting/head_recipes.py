"""Turn the heads that people published as training scripts' state into heads of ours.

A recipe knows its file by the names and shapes of the tensors. Consecutive linear layers with
nothing between them are one linear layer and are folded, in float64. With each head come the
scores that the original layers give for the golden embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from curate.models.golden import golden_embeddings
from curate.models.head import Head
from curate.models.linear_head import LinearHead
from curate.models.mlp_head import MlpHead

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weight [out, in] and bias [out]."""

L14_OPENAI, H14_LAION = "ViT-L-14/openai", "ViT-H-14/laion2b_s32b_b79k"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundHead:
    """Hold a head and what the original gives.

    Args:
        head: folded.
        golden: the original layers' scores of the golden embeddings before any activation.
    """

    head: Head
    golden: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRecipe:
    """Describe a published head.

    Args:
        shapes: of all its tensors, by name; -1 fits any size.
        layers: prefixes of its linear layers, in order.
        folds: for each layer but the last, whether the next follows with nothing between.
        image_text: whose embeddings it scores; "" when the file may be of several.
    """

    shapes: Mapping[str, tuple[int, ...]]
    layers: Sequence[str]
    folds: Sequence[bool]
    image_text: str = ""

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Tell whether a file's tensors are those of this head."""
        return tensors.keys() == self.shapes.keys() and all(
            len(tensors[name].shape) == len(shape)
            and all(want in (-1, got) for want, got in zip(shape, tensors[name].shape, strict=True))
            for name, shape in self.shapes.items()
        )

    def build(self, tensors: Mapping[str, Tensor], image_text: str) -> FoundHead:
        """Fold the layers."""
        layers = [_affine(tensors, prefix) for prefix in self.layers]
        name = image_text or self.image_text
        folded = _fold(layers, self.folds)
        head = _linear(folded[0], name) if len(folded) == 1 else _mlp(folded, name)
        return FoundHead(head=head, golden=_run(layers, self.folds, golden_embeddings(head.dim)))


def _widths(*widths: int, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Give the shapes of linear layers between widths, by the layers' prefixes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, taken, given in zip(names, widths, widths[1:], strict=False):
        shapes[f"{name}weight"] = (given, taken)
        shapes[f"{name}bias"] = (given,)
    return shapes


_V2_LAYERS = tuple(f"layers.{number}." for number in (0, 2, 4, 6, 7))
_H14_LAYERS = tuple(f"layers.{number}." for number in (0, 3, 6, 9, 12, 15, 16))

HEAD_RECIPES: Mapping[str, HeadRecipe] = {
    # github.com/christophschuhmann/improved-aesthetic-predictor (Apache-2.0), simple_inference.py:
    # its ReLUs are commented out, so five layers are one.
    "aesthetic_v2": HeadRecipe(
        shapes=_widths(768, 1024, 128, 64, 16, 1, names=_V2_LAYERS),
        layers=_V2_LAYERS,
        folds=(True,) * 4,
        image_text=L14_OPENAI,
    ),
    # github.com/LAION-AI/CLIP-based-NSFW-Detector (MIT), h14_nsfw_model.py: no ReLU before the last
    # layer, no sigmoid after it.
    "nsfw_h14": HeadRecipe(
        shapes=_widths(1024, 1024, 2048, 1024, 256, 128, 16, 1, names=_H14_LAYERS),
        layers=_H14_LAYERS,
        folds=(False,) * 5 + (True,),
        image_text=H14_LAION,
    ),
    # github.com/LAION-AI/aesthetic-predictor (MIT): torch.nn.Linear(D, 1) for L/14, B/32 or B/16.
    "linear": HeadRecipe(shapes=_widths(-1, 1, names=("",)), layers=("",), folds=()),
}
"""Name to recipe; the first that fits is taken."""


def _affine(tensors: Mapping[str, Tensor], prefix: str) -> Affine:
    weight, bias = (tensors[f"{prefix}{part}"].double().numpy() for part in ("weight", "bias"))
    return weight, bias


def _fold(layers: Sequence[Affine], folds: Sequence[bool]) -> list[Affine]:
    """Merge layers that follow each other directly: W2 (W1 x + b1) + b2."""
    folded = [layers[0]]
    for is_folded, (weight, bias) in zip(folds, layers[1:], strict=True):
        if is_folded:
            before, shift = folded.pop()
            folded.append((weight @ before, weight @ shift + bias))
        else:
            folded.append((weight, bias))
    return folded


def _run(
    layers: Sequence[Affine], folds: Sequence[bool], embeddings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run the layers as published."""
    hidden = embeddings.astype(np.float64)
    for (weight, bias), is_folded in zip(layers, (*folds, True), strict=True):
        hidden = hidden @ weight.T + bias
        hidden = hidden if is_folded else np.maximum(hidden, 0)
    return hidden[:, 0].astype(np.float32)


def _linear(layer: Affine, image_text: str) -> LinearHead:
    weight, bias = layer
    return LinearHead(
        weight=weight[0].astype(np.float32),
        bias=float(np.float32(bias[0])),
        activation="identity",
        image_text_digest="",
        image_text=image_text,
    )


def _mlp(layers: Sequence[Affine], image_text: str) -> MlpHead:
    return MlpHead(
        layers=[(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers],
        activation="identity",
        image_text=image_text,
    )
