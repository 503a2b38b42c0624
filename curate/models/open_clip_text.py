"""Encode captions with the text tower of an open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.core.batches import batched
from curate.models.open_clip_folder import OpenClip, load_open_clip
from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEmbedding, TextEncoder, TokenIds

Layer = Literal["embedding", "hidden"]
BATCH_SIZE = 64  # chosen by us: larger is no faster on a CPU

# open_clip's own tokenizer takes time with the square of a word's length, and a text without
# spaces is one word. Its ids are those of this many characters, if they fill the tower. Chosen by
# us: 77 tokens of prose are 350 characters; 1,000 random letters take 0.14 s, 20,000 take 25 s.
_HEAD_CHARACTERS = 1000
_COUNTED_CHARACTERS = 100  # of the rest, at a time: some tokens too many are counted, in ms


class OpenClipTextEncoder(TextEncoder):
    """Encode captions with the text tower of an open_clip model; frozen, float32.

    Two layers are offered. "embedding" is the tower's input: one vector for the word plus one for
    its position, nothing contextual. "hidden" is the tower's output before pooling. Each vector is
    scaled to root mean square 1.
    """

    def __init__(
        self, parts: OpenClip, name: str, layer: Layer = "embedding", device: str = "cpu"
    ) -> None:
        """Hold the text tower.

        Args:
            parts: see `load_open_clip`.
            name: for reports.
            layer: which vectors to give. The default is what a small backbone learns from fastest:
                it need not undo what a contrastive loss threw away.
            device: where to run, e.g. "cpu" or "cuda".
        """
        self._network = cast("Any", parts.network.eval().requires_grad_(False).to(device))
        # CustomTextCLIP keeps its tower in `text`, CLIP has the same parts in itself.
        self._tower = cast("Any", getattr(parts.network, "text", parts.network))
        self._tokenizer = cast("Any", parts.tokenizer)
        self._layer: Layer = layer
        self._device = device
        self.name = f"{name}:{layer}"
        self.max_tokens: int = self._tower.context_length
        self.dim: int = self._tower.token_embedding.weight.shape[1]
        self.pooled_dim: int = len(self.encode([""])[0].pooled)

    def tokenize(self, captions: Sequence[str]) -> list[TokenIds]:
        """Tokenize captions, cut at `max_tokens` tokens, the end mark included."""
        if not captions:
            return []
        parts = [self._split(caption) for caption in captions]
        heads = [head for head, _ in parts]
        rows = self._tokenizer(heads).numpy()  # [N, max_tokens]
        counts = self._count(heads)
        for place, (_, rest) in enumerate(parts):
            counts[place] += sum(count - 2 for count in self._count(rest))
        return [
            TokenIds(ids=_without_padding(row), num_truncated=max(0, count - self.max_tokens))
            for row, count in zip(rows, counts, strict=True)
        ]

    def encode_ids(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        return [found for some in batched(ids, BATCH_SIZE) for found in self._encode_batch(some)]

    @torch.inference_mode()
    def _encode_batch(self, rows: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        padded = np.zeros((len(rows), self.max_tokens), np.int64)  # 0 is open_clip's padding
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        ids = torch.from_numpy(padded).to(self._device)
        tokens = _unit_scale(self._token_vectors(ids)).cpu().numpy()  # [B, max_tokens, D]
        pooled = _unit_scale(self._network.encode_text(ids)).cpu().numpy()  # [B, P]
        return [
            TextEmbedding(tokens=tokens[place, : len(row)].copy(), pooled=pooled[place].copy())
            for place, row in enumerate(rows)
        ]

    def _token_vectors(self, ids: Tensor) -> Tensor:
        tower = self._tower
        vectors = tower.token_embedding(ids) + tower.positional_embedding
        if self._layer == "embedding":
            return vectors
        return tower.ln_final(tower.transformer(vectors, attn_mask=tower.attn_mask))

    def _split(self, caption: str) -> tuple[str, list[str]]:
        """Give what is tokenized, and pieces of the rest, which are only counted."""
        head = caption[:_HEAD_CHARACTERS]
        if hasattr(self._tokenizer, "tokenizer") or len(head) == len(caption):
            return caption, []
        if self._count([head])[0] <= self.max_tokens:
            return caption, []  # long runs of spaces or of one letter: fast as it is
        starts = range(_HEAD_CHARACTERS, len(caption), _COUNTED_CHARACTERS)
        return head, [caption[start : start + _COUNTED_CHARACTERS] for start in starts]

    def _count(self, captions: Sequence[str]) -> list[int]:
        """Count the tokens of whole captions with their marks."""
        if not captions:
            return []
        if hasattr(self._tokenizer, "tokenizer"):  # open_clip's HFTokenizer
            rows = self._tokenizer.tokenizer(list(captions), verbose=False)["input_ids"]
            return [len(row) for row in rows]
        # Its SimpleTokenizer adds start and end.
        return [len(self._tokenizer.encode(caption)) + 2 for caption in captions]


def load_open_clip_text(ref: ModelRef, device: str) -> OpenClipTextEncoder:
    """Load the text tower of an open_clip folder."""
    folder = ref.paths[0]
    name = f"open_clip:{folder.parent.name}/{folder.name}"
    return OpenClipTextEncoder(load_open_clip(folder), name, device=device)


def _without_padding(row: NDArray[np.int64]) -> NDArray[np.int32]:
    """Cut a row behind its last id that is not 0; one id is left of an empty one."""
    length = int(np.max(np.flatnonzero(row), initial=0)) + 1
    return row[:length].astype(np.int32)


def _unit_scale(vectors: Tensor) -> Tensor:
    """Scale the last axis to root mean square 1."""
    scale = vectors.float().square().mean(dim=-1, keepdim=True).clamp(min=1e-12).rsqrt()
    return vectors.float() * scale
