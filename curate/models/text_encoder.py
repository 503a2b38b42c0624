"""Turn captions into what a text-to-image backbone attends to: one vector a token, and one in all.

`load_text_encoder` chooses the loader by the reference's kind. The encoder here is the text tower
of an open_clip model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from curate.core.errors import ModelError
from curate.models.open_clip_folder import OpenClip, load_open_clip
from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEmbedding, TextEncoder

Layer = Literal["embedding", "hidden"]
BATCH_SIZE = 64  # chosen by us: larger is no faster on a CPU


class OpenClipTextEncoder:
    """Encode captions with the text tower of an open_clip model; frozen, float32.

    Two layers are offered. "embedding" is the tower's input: one vector for the word plus one for
    its position, nothing contextual. "hidden" is the tower's output before pooling. Each vector is
    scaled to root mean square 1.
    """

    def __init__(self, parts: OpenClip, name: str, layer: Layer = "embedding") -> None:
        """Hold the text tower.

        Args:
            parts: see `load_open_clip`.
            name: for reports.
            layer: which vectors to give. The default is what a small backbone learns from fastest:
                it need not undo what a contrastive loss threw away.
        """
        self._network = cast("Any", parts.network.eval().requires_grad_(False))
        # CustomTextCLIP keeps its tower in `text`, CLIP has the same parts in itself.
        self._tower = cast("Any", getattr(parts.network, "text", parts.network))
        self._tokenizer = cast("Any", parts.tokenizer)
        self._layer: Layer = layer
        self.name = f"{name}:{layer}"
        self.max_tokens: int = self._tower.context_length
        self.dim: int = self._tower.token_embedding.weight.shape[1]
        self.pooled_dim: int = len(self.encode([""])[0].pooled)

    def encode(self, captions: Sequence[str]) -> list[TextEmbedding]:
        """Encode captions, cut at `max_tokens` tokens, the end mark included."""
        found: list[TextEmbedding] = []
        for start in range(0, len(captions), BATCH_SIZE):
            found += self._encode_batch(list(captions[start : start + BATCH_SIZE]))
        return found

    @torch.inference_mode()
    def _encode_batch(self, captions: list[str]) -> list[TextEmbedding]:
        ids = self._tokenizer(captions)  # [B, max_tokens]
        positions = torch.arange(1, ids.shape[1] + 1)
        lengths = ((ids != 0) * positions).amax(dim=1).clamp(min=1).tolist()  # 0 is the padding
        tokens = _unit_scale(self._token_vectors(ids)).numpy()  # [B, max_tokens, D]
        pooled = _unit_scale(self._network.encode_text(ids)).numpy()  # [B, P]
        return [
            TextEmbedding(
                tokens=tokens[row, :length].copy(),
                pooled=pooled[row].copy(),
                num_truncated=max(0, self._count(captions[row]) - self.max_tokens),
            )
            for row, length in enumerate(lengths)
        ]

    def _token_vectors(self, ids: Tensor) -> Tensor:
        tower = self._tower
        vectors = tower.token_embedding(ids) + tower.positional_embedding
        if self._layer == "embedding":
            return vectors
        return tower.ln_final(tower.transformer(vectors, attn_mask=tower.attn_mask))

    def _count(self, caption: str) -> int:
        """Tokens of the whole caption with its marks."""
        if hasattr(self._tokenizer, "tokenizer"):  # open_clip's HFTokenizer
            return len(self._tokenizer.tokenizer(caption).input_ids)
        return len(self._tokenizer.encode(caption)) + 2  # its SimpleTokenizer adds start and end


def load_text_encoder(ref: ModelRef) -> TextEncoder:
    """Load the text encoder a reference points to.

    Raises:
        ModelError: the kind is not in `LOADERS`, or its files are missing or do not fit.
    """
    if ref.kind not in LOADERS:
        raise ModelError(
            f"text_encoder: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}"
        )
    return LOADERS[ref.kind](ref)


def _unit_scale(vectors: Tensor) -> Tensor:
    """Scale the last axis to root mean square 1."""
    scale = vectors.float().square().mean(dim=-1, keepdim=True).clamp(min=1e-12).rsqrt()
    return vectors.float() * scale


def _load_open_clip_text(ref: ModelRef) -> TextEncoder:
    folder = ref.paths[0]
    return OpenClipTextEncoder(
        load_open_clip(folder), name=f"open_clip:{folder.parent.name}/{folder.name}"
    )


def _load_minilm(ref: ModelRef) -> TextEncoder:
    from curate.models.minilm import load_minilm_text_encoder

    return load_minilm_text_encoder(ref)


LOADERS: Mapping[str, Callable[[ModelRef], TextEncoder]] = {
    "open_clip": _load_open_clip_text,
    "minilm": _load_minilm,
}
"""Kind to loader; a loader imports its libraries when it is called."""
