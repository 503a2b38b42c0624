"""Embed pictures and texts in one space, so that a cosine says how well they belong together.

`load_image_text` chooses the loader by the reference's kind. The loader here reads an open_clip
model from a local folder: open_clip_config.json (model_cfg, preprocess_cfg),
open_clip_model.safetensors and, for a Hugging Face tokenizer, its files. open_clip resolves
`local-dir:` tokenizers relative to that folder, wherever the package is installed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import check_shapes, read_json, read_tensors

CONFIG_NAME = "open_clip_config.json"  # open_clip's own file names
WEIGHTS_NAME = "open_clip_model.safetensors"
BATCH_SIZE = 64  # chosen by us: larger is no faster on a CPU


class ImageTextModel(Protocol):
    """Embed pictures and texts; the cosine of two embeddings is their similarity."""

    name: str
    dim: int

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures: [N, dim], float32, L2-normalised."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: [N, dim], float32, L2-normalised."""
        ...

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        """Say of each text whether its end is cut off before it is embedded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClip:
    """Hold the parts of an open_clip model; `tokenizer(texts)` gives int64 [N, context_length]."""

    network: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[..., Tensor]


class OpenClipModel:
    """Embed with both towers of an open_clip model; frozen, float32."""

    def __init__(self, parts: OpenClip, name: str, device: str = "cpu") -> None:
        """Hold the parts.

        Args:
            parts: see `load_open_clip`.
            name: for reports.
            device: where to run, e.g. "cpu" or "cuda".
        """
        self.name = name
        self._device = device
        self._network = parts.network.eval().requires_grad_(False).to(device)
        self._preprocess = parts.preprocess
        self._tokenizer = parts.tokenizer
        self.dim = self.embed_texts([""]).shape[1]

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures of any size: [N, dim], float32, L2-normalised."""
        return self._embed(images, self._embed_image_batch)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, cut at the context length: [N, dim], float32, L2-normalised."""
        return self._embed(texts, self._embed_text_batch)

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        """Say of each text whether it has more tokens than the context length, marks included."""
        length = self._tokenizer([""]).shape[1]
        # Twice the room: whatever stands beyond the usual length, and is not padding, is cut off.
        wide = self._tokenizer([*texts, ""], context_length=2 * length)[:, length:]
        return (wide[:-1] != wide[-1]).any(dim=1).tolist()

    def _embed(
        self, items: Sequence[Any], embed: Callable[[Sequence[Any]], Tensor]
    ) -> NDArray[np.float32]:
        if not items:
            return np.empty((0, self.dim), np.float32)
        with torch.inference_mode():
            parts = [
                embed(items[start : start + BATCH_SIZE])
                for start in range(0, len(items), BATCH_SIZE)
            ]
        return torch.cat(parts).float().cpu().numpy()

    def _embed_image_batch(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([self._preprocess(image) for image in images]).to(self._device)
        return cast("Any", self._network).encode_image(pixels, normalize=True)

    def _embed_text_batch(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts)).to(self._device)
        return cast("Any", self._network).encode_text(tokens, normalize=True)


def load_image_text(ref: ModelRef) -> ImageTextModel:
    """Load the image-text model a reference points to.

    Raises:
        ModelError: the kind is not in `LOADERS`, or its files are missing or do not fit.
    """
    if ref.kind not in LOADERS:
        raise ModelError(f"image_text: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}")
    return LOADERS[ref.kind](ref)


def load_open_clip(folder: Path) -> OpenClip:
    """Load network, preprocessing and tokenizer from a folder; no hub, no pickle.

    Raises:
        ModelError: a file is missing, or weights do not fit the config.
    """
    config = read_json(folder / CONFIG_NAME)
    if "model_cfg" not in config:
        raise ModelError(f"{folder / CONFIG_NAME}: must have model_cfg, got {sorted(config)}")
    tensors, _ = read_tensors(folder / WEIGHTS_NAME)
    source = f"local-dir:{folder}"
    # Not by open_clip's own loader: it takes pickles too, and only warns if none is there.
    with _loading_own_weights():
        network, _, preprocess = open_clip.create_model_and_transforms(source, load_weights=False)
    check_shapes(folder / WEIGHTS_NAME, tensors, network)
    network.load_state_dict(tensors)
    tokenizer = open_clip.get_tokenizer(source)
    return OpenClip(
        network=network.eval(),
        preprocess=cast("Callable[[Image.Image], Tensor]", preprocess),
        tokenizer=cast("Callable[..., Tensor]", tokenizer),
    )


@contextlib.contextmanager
def _loading_own_weights() -> Generator[None]:
    """Silence open_clip's warning of random weights: the folder's are loaded right after."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def _load_open_clip_model(ref: ModelRef) -> ImageTextModel:
    folder = ref.paths[0]
    return OpenClipModel(
        load_open_clip(folder), name=f"open_clip:{folder.parent.name}/{folder.name}"
    )


def _load_conse(ref: ModelRef) -> ImageTextModel:
    from curate.models.conse import load_conse

    return load_conse(ref)


LOADERS: Mapping[str, Callable[[ModelRef], ImageTextModel]] = {
    "open_clip": _load_open_clip_model,
    "conse": _load_conse,
}
"""Kind to loader; a loader imports its libraries when it is called."""
