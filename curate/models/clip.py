"""Embed pictures and texts in one space, so that a cosine says how well they belong together.

`load_image_text` chooses the loader by the reference's kind. The model here is any open_clip model
from a local folder (open_clip_folder.py); the one without CLIP is in conse.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from curate.core.ahead import map_ahead
from curate.core.batches import batched
from curate.core.errors import ModelError
from curate.models.open_clip_folder import OpenClip, load_open_clip, name_of
from curate.models.packs import ModelRef

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

# Chosen by us: larger batches are no faster on a CPU, and while a batch of 16 runs the next is
# prepared. A GPU is filled by 256 pictures of 224 pixels.
CPU_BATCH, GPU_BATCH = 16, 256


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


class OpenClipModel:
    """Embed with both towers of an open_clip model; frozen."""

    def __init__(
        self,
        parts: OpenClip,
        name: str,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int = 1,
    ) -> None:
        """Hold the parts.

        Args:
            parts: see `load_open_clip`.
            name: for reports.
            device: where to run, e.g. "cpu" or "cuda".
            precision: of weights and activations; the embeddings given out are float32.
            threads: that prepare the next pictures while the network runs.
        """
        self.name = name
        self._device = device
        self._dtype = DTYPES[precision]
        self._threads = threads
        self._batch_size = CPU_BATCH if device == "cpu" else GPU_BATCH
        network = parts.network.eval().requires_grad_(False)
        self._network = cast("Any", network.to(device=device, dtype=self._dtype))
        self._preprocess = parts.preprocess
        self._tokenizer = parts.tokenizer
        self.dim = self.embed_texts([""]).shape[1]

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures of any size: [N, dim], float32, L2-normalised."""
        pixels = map_ahead(
            self._preprocess, images, ahead=2 * self._batch_size, threads=self._threads
        )
        embedded = [np.empty((0, self.dim), np.float32)] if not images else []
        for batch in batched(pixels, self._batch_size):
            embedded.append(self._embed_pixels(torch.stack(batch)))
        return np.concatenate(embedded)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, cut at the context length: [N, dim], float32, L2-normalised.

        Texts of like length run together, so that few pay for the longest (see `_cut_to`).
        """
        if not texts:
            return np.empty((0, self.dim), np.float32)
        tokens = self._tokenizer(list(texts))
        lengths = read_lengths(self._network, tokens)  # [N]
        order = torch.argsort(lengths, stable=True)
        found: list[NDArray[np.float32]] = []
        for rows in order.split(self._batch_size):
            found.append(self._embed_tokens(tokens[rows], int(lengths[rows].max())))
        embedded = np.concatenate(found)
        return embedded[torch.argsort(order).numpy()]

    def is_truncated(self, texts: Sequence[str]) -> list[bool]:
        """Say of each text whether it has more tokens than the context length, marks included."""
        length = self._tokenizer([""]).shape[1]
        # Twice the room: whatever stands beyond the usual length, and is not padding, is cut off.
        wide = self._tokenizer([*texts, ""], context_length=2 * length)[:, length:]
        return (wide[:-1] != wide[-1]).any(dim=1).tolist()

    @torch.inference_mode()
    def _embed_pixels(self, pixels: Tensor) -> NDArray[np.float32]:
        """Embed prepared pictures [B, 3, H, W]."""
        placed = pixels.to(device=self._device, dtype=self._dtype)
        return _unit_rows(self._network.encode_image(placed))

    @torch.inference_mode()
    def _embed_tokens(self, tokens: Tensor, length: int) -> NDArray[np.float32]:
        with _cut_to(self._network, length):
            return _unit_rows(self._network.encode_text(tokens[:, :length].to(self._device)))


def read_lengths(network: nn.Module, tokens: Tensor) -> Tensor:
    """Give the number of tokens of each text that its embedding depends on: [N], int64.

    In a causal network that is all up to the end mark, where the embedding is read off: what
    follows is padding that nothing looks at. Any other network needs all.
    """
    tower = _causal_tower(network)
    if tower is None:
        return torch.full((len(tokens),), tokens.shape[1])
    pool, end_mark = _pooling(tower)
    at = tokens.argmax(dim=1) if pool == "argmax" else (tokens == end_mark).int().argmax(dim=1)
    # Without an end mark the library reads off the first place; the whole text is safe.
    return torch.where(at > 0, at + 1, tokens.shape[1])


@contextlib.contextmanager
def _cut_to(network: nn.Module, length: int) -> Generator[None]:
    """Let open_clip's text tower run on fewer tokens than its context.

    Its forward adds all positions and the whole mask (open_clip 3.3); both are cut meanwhile. Alt
    texts have a dozen tokens of the 77: the tower needs a quarter of the time. Results differ from
    those of padded texts by rounding alone (a test compares them).
    """
    tower = _causal_tower(network)
    if tower is None or length >= tower.attn_mask.shape[0]:
        yield
        return
    positions, mask = tower.positional_embedding, tower.attn_mask
    tower.positional_embedding = nn.Parameter(positions[:length], requires_grad=False)
    tower.attn_mask = mask[:length, :length]
    try:
        yield
    finally:
        tower.positional_embedding, tower.attn_mask = positions, mask


def _causal_tower(network: nn.Module) -> Any | None:
    """Find the text tower of open_clip's own that looks backwards alone; None if there is none."""
    tower: Any = network if hasattr(network, "token_embedding") else getattr(network, "text", None)
    is_plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    has_mask = isinstance(getattr(tower, "attn_mask", None), Tensor)
    if not is_plain or not has_mask or _pooling(tower)[0] not in ("argmax", "eos"):
        return None
    return tower


def _pooling(tower: Any) -> tuple[str, int]:
    """Give how the embedding is read off and the end mark; CLIP and TextTransformer differ."""
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", "")
    end_mark = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)
    return str(pool), int(end_mark or 0)


def _unit_rows(embeddings: Tensor) -> NDArray[np.float32]:
    return nn.functional.normalize(embeddings.float(), dim=-1).cpu().numpy()


def load_image_text(
    ref: ModelRef, *, precision: Precision = "fp32", device: str = "cpu", threads: int = 1
) -> ImageTextModel:
    """Load the image-text model a reference points to.

    Args:
        ref: the model's kind and files.
        precision: of weights and activations.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        threads: that prepare pictures while the network runs.

    Raises:
        ModelError: the kind is not in `LOADERS`, its files are missing or do not fit, or it has no
            such precision or device.
    """
    if ref.kind not in LOADERS:
        raise ModelError(f"image_text: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}")
    if ref.kind == "open_clip":
        return load_open_clip_model(ref, precision, _find_device(device), threads)
    if precision != "fp32":
        raise ModelError(f"annotate.precision: must be fp32 for {ref.kind}, got {precision!r}")
    return LOADERS[ref.kind](ref)


def load_open_clip_model(
    ref: ModelRef, precision: Precision = "fp32", device: str = "cpu", threads: int = 1
) -> OpenClipModel:
    """Load the model of a reference of kind "open_clip"."""
    parts = load_open_clip(ref.paths[0])
    return OpenClipModel(parts, name_of(ref), device, precision, threads)


def _find_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"annotate.device: must be there, got {device!r}; set it to cpu or auto")
    return device


def _load_conse(ref: ModelRef) -> ImageTextModel:
    from curate.models.conse import load_conse

    return load_conse(ref)


LOADERS: Mapping[str, Callable[[ModelRef], ImageTextModel]] = {
    "open_clip": load_open_clip_model,
    "conse": _load_conse,
}
"""Kind to loader; a loader imports its libraries when it is called."""
